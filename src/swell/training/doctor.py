"""What makes training faster here and what does not, and why: for `swell doctor`."""

from __future__ import annotations

import re
from ctypes.util import find_library
from dataclasses import dataclass
from importlib import metadata

import torch
import torch.distributed as dist

from swell.threads import not_bound_because
from swell.training.allocator import not_reused_because, preloaded
from swell.training.machine import MIN_CHANNELS_FOR_BF16, cpu_features

_EXTRA = re.compile(r"""([\w.-]+)[^;]*;.*extra == ['"]([\w-]+)['"]""")
_OF_DEVELOPERS = ("dev", "docs")


@dataclass(frozen=True)
class Aid:
    """Something that makes training faster: whether it is on here, and why."""

    name: str
    on: bool
    why: str


def aids(bound: bool) -> list[Aid]:
    """What is on for a training on this machine's own device. `bound`: whether OpenMP's threads are bound."""
    gpu = torch.cuda.is_available()
    features = cpu_features()
    return [
        _gpu(),
        _bfloat16(features, gpu),
        Aid("AMX", "AMX" in features, "tiles of the CPU, for products in bf16" if "AMX" in features else "no such CPU"),
        Aid("channels last", True, "images lie in memory as the convolutions read them"),
        _of_cpu("products for small maps", gpu, "" if features else "they pay in bf16 only"),
        Aid("threads bound", bound, f"{torch.get_num_threads()} threads" if bound else _unbound()),
        _kept_memory(gpu),
        Aid(
            "many devices",
            dist.is_available(),
            f"torchrun, {_backends()}" if dist.is_available() else "not in this torch",
        ),
    ]


def _gpu() -> Aid:
    if torch.cuda.is_available():
        return Aid("GPU", True, f"{torch.cuda.get_device_name()}, {torch.cuda.device_count()} in all")
    built = torch.version.cuda is not None or torch.version.hip is not None
    return Aid("GPU", False, "none is found" if built else f"torch {torch.__version__} is built without CUDA")


def _bfloat16(features: tuple[str, ...], gpu: bool) -> Aid:
    if gpu:
        on = torch.cuda.is_bf16_supported()
        return Aid(
            "bfloat16",
            on,
            "the GPU multiplies it" if on else "the GPU does not multiply it; --precision auto takes fp32",
        )
    if features:
        return Aid(
            "bfloat16", True, f"{' and '.join(features)}; nets of {MIN_CHANNELS_FOR_BF16} channels and more at first"
        )
    return Aid("bfloat16", False, "the CPU does not multiply it; --precision auto takes fp32")


def _of_cpu(name: str, gpu: bool, hindrance: str) -> Aid:
    """An aid to trainings on the CPU alone."""
    if gpu:
        return Aid(name, False, "on the CPU only")
    return Aid(name, not hindrance, hindrance or "on the CPU")


def _kept_memory(gpu: bool) -> Aid:
    name = "memory kept between steps"
    if not gpu and (allocator := preloaded()):
        return Aid(name, True, f"by {allocator}, which is preloaded")
    aid = _of_cpu(name, gpu, not_reused_because())
    if not aid.on:
        return aid
    library = find_library("tcmalloc_minimal") or find_library("tcmalloc")
    todo = f"LD_PRELOAD={library} before the command" if library else "tcmalloc, where installed and preloaded,"
    return Aid(name, True, f"by glibc, with gaps; {todo} takes less memory")


def _unbound() -> str:
    return not_bound_because() or "torch was imported before swell"


def _backends() -> str:
    kinds = {"gloo": dist.is_gloo_available(), "NCCL": dist.is_nccl_available()}
    return " and ".join(name for name, there in kinds.items() if there) or "no backend"


def extras() -> dict[str, list[str]]:
    """Swell's extras, and of each the packages that are missing."""
    try:
        required = metadata.requires("swell") or []
    except metadata.PackageNotFoundError:
        return {}
    missing: dict[str, list[str]] = {}
    for match in filter(None, map(_EXTRA.match, required)):
        package, extra = match.groups()
        if extra not in _OF_DEVELOPERS:
            lacking = missing.setdefault(extra, [])
            if not _installed(package):
                lacking.append(package)
    return missing


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True

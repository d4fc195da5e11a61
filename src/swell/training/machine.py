"""The machine: which device, which precision, and what to write down about both."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import torch

from swell.devices import pick_device
from swell.errors import InputError
from swell.threads import all_cores

MIN_CHANNELS_FOR_BF16 = 16  # below, autocast's casts cost a CPU more than its bf16 kernels save


@contextmanager
def memory_told(work: str) -> Iterator[None]:
    """Turn an allocation that fails, in host or device memory, into one line. Raises InputError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        if not known:
            raise
        raise InputError(
            f"{work} (out of memory)", "work that fits in memory", "give a smaller --batch-size, --width or --size"
        ) from error


def cpu_features() -> tuple[str, ...]:
    """With what the CPU multiplies bfloat16 in hardware: AVX512-BF16, AMX, both or nothing."""
    names = {"AVX512-BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
    return tuple(feature for feature, name in names.items() if hasattr(torch.cpu, name) and getattr(torch.cpu, name)())


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware."""
    return bool(cpu_features())


def pick_precision(name: str, device: torch.device, channels: int) -> str:
    """Resolve `auto` by a rule, not by a stopwatch, so that equal recipes stay equal on equal machines.

    Args:
        channels: channels of the backbone's first stage.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if cpu_has_bf16() and channels >= MIN_CHANNELS_FOR_BF16 else "fp32"


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """What `environment.json` and `swell doctor` show; nothing that names the person or the host."""
    packages = ("swell", "torch", "numpy", "Pillow", "safetensors", "scikit-learn")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": len(all_cores()),
        "threads": torch.get_num_threads(),
        "threads_bound": os.environ.get("OMP_PROC_BIND", "") == "true",
        "cpu_bf16": cpu_has_bf16(),
        "gpu": gpu,
        "device": str(device) if device is not None else str(pick_device()),
        "packages": {name: _version(name) for name in packages},
    }


def cpu_name() -> str:
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as info:
                for line in info:
                    if line.startswith("model name"):
                        return line.split(":", 1)[1].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"

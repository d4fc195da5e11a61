"""Generators by name, and the protocol that all of them keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from swell.errors import InputError
from swell.files import atomic_path
from swell.ledger import Cost
from swell.registry import Registry

FEWEST_SAMPLES = 16
MOST = {"depth": 256, "width": 1 << 16, "latent": 1 << 16, "components": 1 << 16}  # that a file may claim of a network
UNFIT = (  # what building a generator is known to raise where a file says what no generator wrote
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
)


class Generator(Protocol):
    """Learns a distribution from samples and draws from it.

    Samples are images uint8 [N, C, H, W] or vectors float32 [N, D]; `sample` returns the same dtype and
    shape [count, ...].
    """

    options: dict[str, Any]  # every setting with its value, defaults included
    cost: Cost  # of the training
    sampling_cost: Cost  # of all draws so far
    history: list[dict[str, float]]  # rows {"step", "seconds", "train_loss", "held_out_loss", ...}

    @property
    def parameters(self) -> int:
        """Trained numbers of the network that draws; 0 without one."""

    def fit(
        self,
        samples: np.ndarray,
        *,
        held_out: np.ndarray | None = None,
        seed: int = 0,
        steps: int | None = None,
        seconds: float | None = None,
        checkpoint: Path | None = None,
        quiet: bool = False,
    ) -> Self:
        """Train within `steps` or `seconds`. `held_out` samples are never learnt from; without them some
        are set aside. A generator that takes long writes `checkpoint` now and then, and goes on from it where it
        exists already.
        """

    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        """Samples first .. first + count - 1 of the endless sequence that `seed` names: sample i depends on
        seed and i alone.
        """

    def positives(
        self,
        samples: np.ndarray,
        strength: float,
        seed: int,
        *,
        rows: np.ndarray | torch.Tensor | None = None,
        number: int = 0,
    ) -> np.ndarray:
        """One positive of each of `samples` [B, ...], in their dtype and shape: a sample that should mean the same.

        `strength` 0 gives the samples themselves; up to 1 the positives keep less and less of them. `rows` [B] are the
        samples' numbers in their data set (0, 1, ... without them), `number` tells several positives of one sample
        apart: positive `number` of sample i depends on the seed, i and `number` alone, whatever the batch, but for
        the last rounding of a network. Raises InputError where the generator cannot start from a sample.
        """

    def sampler_settings(self) -> dict[str, Any]:
        """What determines the draws beside the weights, for the manifest."""

    def save(self, path: Path | str) -> None:
        """Write one .safetensors file, weights and settings."""

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Read what `save` wrote; raises InputError when the file is something else."""


GENERATORS: Registry[type[Generator]] = Registry("generator")


def load_generator(path: Path | str, device: str = "auto") -> Generator:
    """The fitted generator in `path`, whichever it is."""
    return GENERATORS[str(read_generator_file(path)[1]["generator"])].load(path, device)


def check_fit_samples(samples: np.ndarray) -> None:
    """Raises InputError for data that no generator can learn from."""
    if len(samples) < FEWEST_SAMPLES:
        raise InputError(
            f"{len(samples)} samples to learn a generator from",
            f"at least {FEWEST_SAMPLES}",
            "hundreds are sensible",
        )
    if samples.dtype != np.uint8 and not np.isfinite(samples).all():
        raise InputError("vectors with NaN or infinite values", "finite numbers", "fill or drop those rows first")
    if (samples == samples[:1]).all():
        raise InputError(
            f"{len(samples)} samples that are all the same",
            "samples that differ",
            "check how the data were read",
        )


def split_held_out(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices (train, held out): a tenth is held out, two samples at least and 5,000 at most."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()
    share = min(max(round(count / 10), 2), 5000)
    return np.sort(order[share:]), np.sort(order[:share])


def write_generator_file(path: Path | str, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
    """Tensors and a JSON header in one .safetensors file, whole or absent."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"swell": json.dumps(dict(meta), sort_keys=True)})


def read_generator_file(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Raises InputError when `path` is missing, cut short or not a generator."""
    todo = "make it again with `swell generate`"
    if not Path(path).is_file():
        raise InputError(str(path), "a generator file that exists", todo)
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("swell", "")
            meta = json.loads(header) if header else {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} ({error})", "a whole generator file", todo) from None
    if not isinstance(meta, dict) or "generator" not in meta:
        raise InputError(str(path), "a generator file written by swell", todo)
    options = meta["options"] if isinstance(meta.get("options"), dict) else {}
    for name, most in MOST.items():
        if isinstance(size := options.get(name), (int, float)) and size > most:
            raise InputError(f"{path} ({name} {size})", f"{most:,} at most", todo)
    return tensors, meta

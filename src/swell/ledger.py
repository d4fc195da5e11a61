"""The ledger: what a run cost, split into what the money went for.

FLOPs are counted by running the real step under torch's counter (1 multiply-add = 2 FLOP), never estimated from a
formula; what the counter cannot see (elementwise work) is not in it.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from swell.errors import InputError
from swell.files import read_json


@dataclass
class Cost:
    """Cost of one part of the work."""

    seconds: float = 0.0
    flops: float = 0.0
    samples_real: int = 0  # real samples processed
    samples_generated: int = 0  # generated samples processed (or made, while sampling)
    views: int = 0  # views rendered
    forwards: int = 0  # samples or views sent forward through the network that is trained, or evaluated
    teacher_forwards: int = 0  # and through a teacher
    pixels: int = 0  # height x width of all of these

    def add(self, other: Cost) -> None:
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))

    def since(self, earlier: Cost) -> Cost:
        """What came on top of `earlier`."""
        return Cost(**{f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)})


@dataclass
class Ledger:
    """Five parts and the peak memory; `to_dict` is what `ledger.json` holds, with their total and the realised share
    of real samples in pre-training. `search` is what choosing between candidates cost (`swell adapt`).
    """

    generator_training: Cost = field(default_factory=Cost)
    sampling: Cost = field(default_factory=Cost)
    search: Cost = field(default_factory=Cost)
    pretraining: Cost = field(default_factory=Cost)
    evaluation: Cost = field(default_factory=Cost)
    peak_memory_bytes: int = 0

    @property
    def total(self) -> Cost:
        whole = Cost()
        for part in (self.generator_training, self.sampling, self.search, self.pretraining, self.evaluation):
            whole.add(part)
        return whole

    def note_memory(self) -> None:
        """Raise the peak to what this process (and its device) has used so far."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak_memory())

    def to_dict(self) -> dict[str, Any]:
        shown = self.pretraining.samples_real + self.pretraining.samples_generated
        realised = self.pretraining.samples_real / shown if shown else None
        return {**asdict(self), "total": asdict(self.total), "real_share": realised}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Ledger:
        """Raises InputError when `value` is not a ledger."""
        try:
            searched = {"search": {}} | value  # ledgers of earlier versions know of no search
            parts = {f.name: Cost(**searched[f.name]) for f in fields(cls) if f.name != "peak_memory_bytes"}
            return cls(**parts, peak_memory_bytes=int(value["peak_memory_bytes"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"ledger ({error})", "the fields swell writes", "make the folder again") from None


def read_ledger(path: Path) -> Ledger:
    """Raises InputError when `path` is missing or holds no ledger."""
    stored = read_json(path)
    try:
        ledger = Ledger.from_dict({key: value for key, value in stored.items() if key != "total"})
        sum(
            sum(vars(part).values()) for part in vars(ledger).values() if isinstance(part, Cost)
        )  # numbers, all of them
    except (InputError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} ({error})", "the ledger as swell wrote it", "make the folder again") from None
    return ledger


def peak_memory() -> int:
    """Bytes: highest resident size of this process plus the highest allocation on the GPU, if any."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak + (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


@contextmanager
def timed(cost: Cost) -> Iterator[None]:
    """Add the wall-clock seconds of the block to `cost`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        cost.seconds += time.perf_counter() - start


# Torch's counter knows the fused attention of GPUs but not the CPU's; arguments after the shapes do not matter.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: (
        sdpa_backward_flop_count(g, q, k, v)
    ),
}


class _OneModule:
    """In the place of the tracker of modules, whose hooks keep alive what checkpointed pieces recompute: all FLOPs go
    to the whole."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


@contextmanager
def counted_flops() -> Iterator[list[float]]:
    """`with counted_flops() as box: work()`; then `box[0]` holds the FLOPs of the block, backward included."""
    box = [0.0]
    counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
    counter.mod_tracker = _OneModule()  # type: ignore[assignment]
    with counter:
        yield box
    box[0] = float(counter.get_total_flops())


def flops_a_sample(encode: Callable[[Any], object], samples: Any) -> float:
    """FLOPs of `encode` for each of the first 512 of `samples`: many, because it may fill up a batch of fewer."""
    some = samples[:512]
    with counted_flops() as box:
        encode(some)
    return box[0] / len(some)

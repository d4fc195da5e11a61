"""What most generators share: checks, costs, the addressing of samples, files."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from swell.console import Progress
from swell.devices import pick_device
from swell.errors import InputError
from swell.generators.codec import Codec
from swell.generators.noise import Draws
from swell.generators.registry import (
    UNFIT,
    check_fit_samples,
    read_generator_file,
    split_held_out,
    write_generator_file,
)
from swell.ledger import Cost, counted_flops, timed
from swell.seeding import generator_for

Rows = np.ndarray | Tensor | None  # numbers of samples in their data set, int64 [B]; None: 0, 1, 2, ...

BLOCK = 256  # consecutive samples are drawn together, always the same ones, so that a sample never depends on the call
LARGEST_RAW = 256  # numbers a sample; an MLP sees longer ones through a PCA


@dataclass(frozen=True)
class Task:
    """One call of `fit`."""

    train: np.ndarray
    held_out: np.ndarray
    seed: int
    steps: int | None
    seconds: float | None
    checkpoint: Path | None
    quiet: bool


@dataclass(frozen=True)
class Learnt:
    """All that drawing needs, and all that a file holds beside the options."""

    shape: tuple[int, ...]  # of one sample
    dtype: str
    tensors: dict[str, Tensor]
    settings: dict[str, Any]  # plain numbers and words


class BlockGenerator(ABC):
    """A generator (see registry.Generator) whose samples BLOCK k .. BLOCK (k + 1) - 1 come from one call.

    A kind of generator has three hooks: `_learn` finds tensors and settings, `_prepare` builds from them what
    drawing needs, and `_draw` makes one block. After `fit` and after `load` the same `_prepare` runs. A fourth,
    `_vary`, is for those that can start from a sample.
    """

    name: ClassVar[str]
    forwards: ClassVar[bool] = False  # whether every sample passes a network

    def __init__(self, options: dict[str, Any], device: str = "auto") -> None:
        self.options = options
        self.device = pick_device(device)
        self.cost, self.sampling_cost = Cost(), Cost()
        self.history: list[dict[str, float]] = []
        self._learnt: Learnt | None = None
        self._block_flops: float | None = None
        self._varied_flops: float | None = None  # of one positive

    @abstractmethod
    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and settings, all that drawing needs; costs and history are noted on the way."""

    def _prepare(self, learnt: Learnt) -> None:  # noqa: B027  (most need nothing)
        """Nothing, where `_draw` works on the tensors themselves."""

    @abstractmethod
    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        """[BLOCK, *shape]; all randomness comes from `rng`, a CPU generator."""

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        """A positive of each of samples [B, ...] at a strength above 0; all randomness comes from `draws`."""
        raise no_positives(self.name)

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
        """Learn from samples uint8 [N, C, H, W] or float32 [N, D]. Budget and checkpoint are for those that train;
        they go on until `steps` or `seconds` are used up. Without `held_out` a tenth is set aside.

        Raises InputError for data nothing can be learnt from, and where a budget is needed and missing.
        """
        check_fit_samples(samples)
        if held_out is None:
            kept, aside = split_held_out(len(samples), seed)
            samples, held_out = samples[kept], samples[aside]
        self.history.clear()
        with timed(self.cost):
            tensors, settings = self._learn(Task(samples, held_out, seed, steps, seconds, checkpoint, quiet))
            self._take(Learnt(samples.shape[1:], str(samples.dtype), tensors, settings))
        return self

    def _take(self, learnt: Learnt) -> None:
        self._prepare(learnt)
        self._learnt, self._block_flops, self._varied_flops = learnt, None, None

    def _ready(self) -> Learnt:
        if self._learnt is None:
            raise InputError(f"a generator ({self.name}) that has not been fitted", "a call of fit or load first")
        return self._learnt

    @property
    def parameters(self) -> int:
        """Trained numbers of the network that draws; 0 without one."""
        kept = self._ready().tensors
        return sum(kept[name].numel() for name in kept if name.split(".")[0] in ("generator", "network"))

    @torch.inference_mode()
    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        """Samples first .. first + count - 1 of the sequence that `seed` names, in dtype and shape of the data.

        Sample i depends on seed and i alone, to the last bit on one kind of machine. Raises InputError before a
        fit and for fewer than one sample.
        """
        if count < 1 or first < 0:
            raise InputError(f"{count} samples from number {first}", "at least one sample, numbered from 0")
        learnt = self._ready()
        made = np.empty((count, *learnt.shape), learnt.dtype)
        blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
        if self._block_flops is None:
            with counted_flops() as box:  # apart from the real draws, whose kernels the counter might change
                self._draw(learnt, generator_for(0, "count"))
            self._block_flops = box[0]
        with timed(self.sampling_cost), Progress("samples", count, "samples", quiet=quiet) as bar:
            for number in blocks:
                block, start = self._draw(learnt, generator_for(seed, "sample", number)), number * BLOCK
                low, high = max(first, start), min(first + count, start + BLOCK)
                made[low - first : high - first] = block[low - start : high - start]
                bar.update(high - first)
        forwards = len(blocks) * BLOCK if self.forwards else 0
        flops = len(blocks) * self._block_flops
        self.sampling_cost.add(Cost(flops=flops, samples_generated=count, forwards=forwards))
        return made

    @torch.inference_mode()
    def positives(
        self, samples: np.ndarray, strength: float, seed: int, *, rows: Rows = None, number: int = 0
    ) -> np.ndarray:
        """Samples like the given ones; see `Generator.positives`."""
        learnt = self._ready()
        address = checked_rows(samples, learnt.shape, learnt.dtype == "uint8", strength, rows, number)
        samples = np.ascontiguousarray(samples)
        made = samples.copy()
        if type(self)._vary is BlockGenerator._vary:
            raise no_positives(self.name)
        if strength == 0:
            return made
        with timed(self.sampling_cost):
            if self._varied_flops is None:
                with counted_flops() as box:
                    self._vary(learnt, samples[:1], strength, Draws(seed, address[:1], number))
                self._varied_flops = box[0]
            for start in range(0, len(samples), BLOCK):
                part = slice(start, start + BLOCK)
                made[part] = self._vary(learnt, samples[part], strength, Draws(seed, address[part], number))
        forwards = len(samples) if self.forwards else 0
        flops = len(samples) * self._varied_flops
        self.sampling_cost.add(Cost(flops=flops, samples_generated=len(samples), forwards=forwards))
        return made

    def sampler_settings(self) -> dict[str, Any]:
        return {"block": BLOCK, **self._ready().settings}

    def save(self, path: Path | str) -> None:
        learnt = self._ready()
        meta = {"generator": self.name, "version": 1, "options": self.options, "settings": learnt.settings}
        write_generator_file(path, learnt.tensors, meta | {"shape": learnt.shape, "dtype": learnt.dtype})

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Read what `save` wrote; raises InputError when the file holds something else."""
        tensors, meta = read_generator_file(path)
        try:
            if meta["generator"] != cls.name:
                raise KeyError(meta["generator"])
            self = cls(**meta["options"])
            self.device = pick_device(device)
            self._take(Learnt(tuple(meta["shape"]), str(np.dtype(meta["dtype"])), tensors, meta["settings"]))
        except UNFIT as error:
            expected = f"a {cls.name} generator of this version of swell"
            raise InputError(f"{path} ({error})", expected, "make it again") from None
        return self


def checked_rows(
    samples: np.ndarray, shape: tuple[int, ...], images: bool, strength: float, rows: Rows, number: int
) -> Tensor:
    """int64 [B], the numbers of the samples that positives are asked for. Raises InputError for samples of another
    kind than the generator has learnt, a strength outside [0, 1] and numbers that do not fit.
    """
    if samples.shape[1:] != tuple(shape) or (samples.dtype == np.uint8) != images or len(samples) == 0:
        given = f"{len(samples)} samples {samples.dtype}{list(samples.shape[1:])} to make positives of"
        raise InputError(given, f"some {'uint8' if images else 'float32'}{list(shape)}, as the generator has learnt")
    if not images and not np.isfinite(samples).all():
        raise InputError("vectors with NaN or infinite values", "finite numbers", "fill or drop those rows first")
    if not 0 <= strength <= 1:
        raise InputError(f"strength {strength}", "a number from 0 (the sample itself) to 1", "0.5 is half-way")
    if isinstance(rows, np.ndarray):
        rows = np.ascontiguousarray(rows)
    address = torch.arange(len(samples)) if rows is None else torch.as_tensor(rows, dtype=torch.int64, device="cpu")
    if address.shape != (len(samples),) or number < 0 or bool((address < 0).any()):
        given = f"positive {number} of {len(samples)} samples, rows {list(address.shape)}"
        raise InputError(given, "one row from 0 up for every sample, and positives numbered from 0")
    return address


def rotation(strength: float) -> tuple[float, float]:
    """(c, s) with c^2 + s^2 = 1: the part of an anchor that a positive keeps, and the part that is new.

    c a + s n has the variance of a and n, whatever the strength: 0 keeps all of a, 1 nothing, 0.5 as much as it adds.
    """
    angle = strength * math.pi / 2
    return math.cos(angle), math.sin(angle)


def no_positives(name: str) -> InputError:
    """What a generator says that only draws whole samples."""
    given = f"positives from a generator of kind {name}, which cannot start from a sample"
    return InputError(given, "one that can", "take diffusion, vae, neighbours, mixup or kde")


def flat_codec(samples: np.ndarray, components: int) -> Codec:
    """The codec of an MLP: small samples as they are, larger ones on at most `components` principal components."""
    if math.prod(samples.shape[1:]) <= LARGEST_RAW:
        return Codec.fit(samples, flat=True)
    return Codec.fit(samples, flat=True, components=min(components, max(len(samples) // 4, 8)))


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors that `prefixed` marked, under their own names again."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}

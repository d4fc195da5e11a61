"""Preparation and encoder as one program of tensors: what they were told apart for in training, a user wants in one."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from swell.data.preparation import Preparation
from swell.model import Model
from swell.nets.encoder import Encoder

__all__ = ["Program", "arithmetic", "examples", "program_of", "quietly", "traced"]


class Program(nn.Module):
    """uint8 images [N, C, H, W], or vectors float32 [N, D], -> features float32 [N, F].

    Attributes:
        preparation: of vectors, as far as it is arithmetic; None where there is nothing to do inside.
        takes_raw: whether it takes vectors as they were before any preparation.
    """

    def __init__(self, encoder: Encoder, preparation: nn.Module | None = None, takes_raw: bool = False) -> None:
        super().__init__()
        self.encoder, self.preparation, self.takes_raw = encoder, preparation, takes_raw

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        """`batch` int64 [N]: which of the known batches a cell is of, their number where it is of none of them."""
        if not self.encoder.takes_vectors:
            x = x.float() / 255
        elif isinstance(self.preparation, Counts):
            x = self.preparation(x, batch)
        elif self.preparation is not None:
            x = self.preparation(x)
        return self.encoder(x)

    @property
    def inputs(self) -> tuple[str, ...]:
        several = isinstance(self.preparation, Counts) and len(self.preparation.scale) > 1
        return ("x", "batch") if several else ("x",)


class Counts(nn.Module):
    """Counts, or logged ones, of all genes of the fit [N, D] -> log1p(x target / size) / sd - mean / sd of the kept.

    K batches have a row of `scale` and `shift` each; the last row is of all cells together.
    """

    genes: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, arrays: dict[str, np.ndarray], target: float, limit: float) -> None:
        super().__init__()
        self.target, self.limit = target, limit
        for name in ("genes", "scale", "shift"):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(arrays[name])))

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        if self.target:
            size = x.sum(1, keepdim=True)
            x = torch.log1p(x * (self.target / torch.where(size > 0, size, torch.ones_like(size))))
        x = x.index_select(1, self.genes)
        scale, shift = (self.scale[-1:], self.shift[-1:]) if batch is None else (self.scale[batch], self.shift[batch])
        return (x * scale - shift).clamp(-self.limit, self.limit)


class Numbers(nn.Module):
    """Columns of numbers [N, P], NaN where a cell is empty -> standardised, clipped, 0 in the gaps; flags of gaps."""

    places: Tensor
    flags: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, preparation: Preparation) -> None:
        super().__init__()
        settings = preparation.settings
        every = preparation.names or tuple(map(str, range(preparation.width)))
        self.limit = float(settings["limit"])
        names = list(settings["numbers"])
        self.register_buffer("places", torch.tensor([every.index(name) for name in names]))
        self.register_buffer("flags", torch.tensor([names.index(name) for name in settings["flagged"]]).long())
        for name in ("mean", "deviation"):  # float64: a column may lie far from 0 and vary little
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(preparation.arrays[name])))

    def forward(self, x: Tensor) -> Tensor:
        x = x.index_select(1, self.places)
        empty = x.isnan()
        scaled = ((x.double() - self.mean) / self.deviation).float().clamp(-self.limit, self.limit)
        scaled = torch.where(empty, torch.zeros_like(scaled), scaled)
        if not len(self.flags):
            return scaled
        return torch.cat([scaled, empty.index_select(1, self.flags).float()], 1)


class Chosen(nn.Module):
    """Some features [N, D] -> [N, d] of the raw ones."""

    genes: Tensor

    def __init__(self, genes: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("genes", torch.from_numpy(np.ascontiguousarray(genes)))

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.genes)


def arithmetic(preparation: Preparation | None) -> tuple[nn.Module | None, bool]:
    """The preparation as a module, and whether that is all of it: words and quantiles of a table are looked up, so they
    stay outside; then the program takes prepared vectors.
    """
    if preparation is None:
        return None, True
    settings, arrays = preparation.settings, dict(preparation.arrays)
    if preparation.kind in ("counts", "logged"):
        return Counts(arrays, float(settings["target"]), float(settings["limit"])), True
    if preparation.kind == "none":
        return (Chosen(arrays["genes"]) if "genes" in arrays else None), True
    if settings["words"] or settings["quantile"]:
        return None, False
    return Numbers(preparation), True


def program_of(model: Model) -> Program:
    """A copy on the CPU in float32 and eval mode; the model stays as it is."""
    encoder = copy.deepcopy(model.encoder).float().cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module, whole = arithmetic(model.preparation)
    return Program(encoder, module, model.preparation is not None and whole).eval().requires_grad_(False)


def examples(model: Model, count: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Made-up samples as `Program` takes them: uint8 noise, counts, or numbers about their mean, some of them gaps."""
    rng = np.random.default_rng(seed)
    shape, preparation = model.encoder.config.shape, model.preparation
    if not model.encoder.takes_vectors:
        return (torch.from_numpy(rng.integers(0, 256, (count, *shape), np.uint8)),)
    module, whole = arithmetic(preparation)
    if preparation is None or not whole or preparation.kind == "none":
        width = preparation.width if preparation is not None and whole else shape[0]
        return (torch.from_numpy(rng.standard_normal((count, width)).astype(np.float32)),)
    if isinstance(module, Counts):
        x = rng.poisson(rng.gamma(0.5, 2.0, preparation.width), (count, preparation.width)).astype(np.float32)
        x = x if preparation.settings["target"] else np.log1p(x)
        known = len(module.scale)
        batch = (torch.from_numpy(rng.integers(0, known, count)),) if known > 1 else ()
        return (torch.from_numpy(x), *batch)
    assert isinstance(module, Numbers)
    values = np.zeros((count, preparation.width), np.float32)
    mean, deviation = module.mean.numpy(), module.deviation.numpy()
    values[:, module.places.numpy()] = mean + deviation * rng.standard_normal((count, len(mean)))
    for flag in module.places[module.flags].tolist():
        values[rng.random(count) < 0.1, flag] = np.nan
    return (torch.from_numpy(values),)


def traced(program: Program, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """The program as torch.export sees it, for batches of any size from 1."""
    batch = torch.export.Dim("batch", min=1)
    shapes = {name: {0: batch} for name in program.inputs}
    with quietly(), torch.no_grad():
        return torch.export.export(
            program, tuple(x[:2] for x in inputs), dynamic_shapes=tuple(shapes[name] for name in program.inputs)
        )


@contextmanager
def quietly() -> Iterator[None]:
    """torch's exporters talk about their own internals to whoever listens; here nobody does."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

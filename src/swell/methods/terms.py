"""What several methods share: full precision for a loss, the spread of projections, schedules, pairs of views."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
PATCH_EPSILON = 1e-6  # added to the variance of a patch where its pixels are normalised


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorate a loss: autocast is off inside, and half-precision arguments become float32.

    Log-determinants, Sinkhorn's exponentials and sums over a batch are not safe in bfloat16, and autocast would turn
    their products back into it.
    """

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        kind = tensors[0].device.type if tensors else "cpu"
        with torch.autocast(kind, enabled=False):
            return loss(*map(_widened, args), **{k: _widened(v) for k, v in kwargs.items()})  # type: ignore[arg-type]

    return wrapped


def _widened(value: object) -> object:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half and isinstance(value, Tensor) else value


def spread(z: Tensor) -> Tensor:
    """Mean over dimensions of the sd of unit vectors [.., B, D], times sqrt(D): 1 spread, 0 collapsed."""
    unit = F.normalize(z.detach().float(), dim=-1).flatten(0, -2)
    return unit.std(dim=0).mean() * unit.shape[-1] ** 0.5


def cosine_between(start: float, end: float, progress: float) -> float:
    """From `start` at progress 0 to `end` at progress 1 along half a cosine (BYOL's schedule of tau, section 3.2)."""
    return end - (end - start) * (math.cos(math.pi * min(max(progress, 0.0), 1.0)) + 1) / 2


def other_pairs(students: int, targets: list[int]) -> list[tuple[int, int]]:
    """(t, v) for every target t, counted among the targets, and every student view v that is another view of the
    sample; `targets` says where each target stands among the student's views."""
    return [(t, v) for t, at in enumerate(targets) for v in range(students) if v != at]


def paired(student: Tensor, target: Tensor, targets: list[int]) -> tuple[Tensor, Tensor]:
    """The student's rows [V, B, D] and the targets' [T, B, D] side by side, [P, B, D] each, for every pair (t, v)."""
    pairs = other_pairs(len(student), targets)
    return torch.stack([student[v] for _, v in pairs]), torch.stack([target[t] for t, _ in pairs])

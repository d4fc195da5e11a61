"""Carry out a view plan of vectors [B, D], on the device they lie on.

Which features are touched takes a random number for every feature of every view, so these are drawn where the vectors
are, by generators that the given CPU generator seeds: equal seeds give equal views on one kind of device, not across
them. Every operation of every view has a seed of its own, so a view depends neither on the views that follow it nor on
which operations are switched on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from swell.errors import InputError
from swell.views.plan import Group
from swell.views.vectors import VectorGroup

_OPERATIONS = 5


def draw_seeds(groups: Sequence[Group], generator: torch.Generator) -> list[Tensor]:
    """int64 [count, operations] for each group."""
    return [torch.randint(2**62, (group.count, _OPERATIONS), generator=generator) for group in groups]


@torch.no_grad()
def render_group(group: VectorGroup, x: Tensor, partners: Tensor | None, seeds: Tensor) -> Tensor:
    """The views of float32 `x` [B, D]: [count * B, D], view v of sample b in row v * B + b.

    Args:
        partners: [B, D] to mix with; needed where `group.mix` is above 0.

    Raises:
        InputError: a group that mixes, without partners.
    """
    if group.mix > 0 and partners is None:
        raise InputError(f"views that mix (mix = {group.mix:g}) without partners", "a partner for each sample")
    return torch.cat([_view(group, x, partners, row) for row in seeds.tolist()])


def _view(group: VectorGroup, x: Tensor, partners: Tensor | None, seeds: list[int]) -> Tensor:
    b, d = x.shape
    mixing, crossing, swapping, noise, masking = (torch.Generator(x.device).manual_seed(seed) for seed in seeds)
    view = x.clone()
    if group.mix > 0 and partners is not None:
        u = group.mix * torch.rand(b, 1, generator=mixing, device=x.device)
        view = torch.lerp(view, partners, u)
    if group.crossover > 0 and b > 1:
        rows = _others(b, 1, crossing, x.device)[:, 0]
        view = torch.lerp(view, x[rows], _chosen(group.crossover, view, crossing))
    if group.swap > 0 and b > 1:
        rows = _others(b, d, swapping, x.device)
        view = torch.lerp(view, x.gather(0, rows), _chosen(group.swap, view, swapping))
    if group.noise > 0:
        view += group.noise * torch.randn(b, d, generator=noise, device=x.device)
    if group.mask > 0:
        view *= 1 - _chosen(group.mask, view, masking)
    return view


def _others(b: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """`count` rows for each of b rows, [b, count]: any but its own."""
    rows = torch.randint(b - 1, (b, count), generator=generator, device=device)
    return rows + (rows >= torch.arange(b, device=device)[:, None])


def _chosen(share: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """1 with probability `share` in each place by itself, else 0. As numbers, to be multiplied with: a processor that
    guesses which way a random choice goes is wrong half of the time."""
    return torch.rand(like.shape, generator=generator, device=like.device).lt_(share)

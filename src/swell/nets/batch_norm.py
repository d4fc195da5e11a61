"""Batch norm over the batch that several ranks share (synchronised batch norm), on CPUs and GPUs alike.

With x [N, C, ...] on R ranks, M = R N positions in all, every rank normalises with the mean and variance of all M:

    y = gamma (x - mu) / sqrt(var + eps) + beta
    dL/dx = gamma / sqrt(var + eps) (g - mean of g - x^ mean of (g x^)),   g = dL/dy, x^ = (x - mu) / sqrt(var + eps)

where those means, too, are over all M. torch's own SyncBatchNorm works on GPUs only.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from swell.ranks import ALONE, Ranks


class SharedNorm(nn.BatchNorm2d):
    """A batch norm, of whatever dimensions, whose statistics in training are those of all ranks' rows.

    Rows that all ranks hold alike, such as gathered embeddings in a predictor, count once.
    """

    ranks: Ranks = ALONE

    def _check_input_dim(self, input: Tensor) -> None:
        """Any [N, C, ...] will do."""

    def forward(self, input: Tensor) -> Tensor:
        return self._shared(input) if self.training and self.ranks.count > 1 else super().forward(input)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # what ranks tell each other is in no graph
    def _shared(self, x: Tensor) -> Tensor:
        mean, var, rows = pooled(x, self.ranks)
        self._follow(mean, var * rows / (rows - 1))
        return _Normalise.apply(x, self.weight, self.bias, mean, var, self.eps, self.ranks)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        rate: float | Tensor | None = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1.0 / self.num_batches_tracked if rate is None else rate
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), cast(float, rate))
        self.running_var.lerp_(var.to(self.running_var.dtype), cast(float, rate))


def share_norms(module: nn.Module, ranks: Ranks) -> None:
    """Let every batch norm in `module` count the rows of all ranks. Its parameters and state stay what they are."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            part.__class__ = SharedNorm
            cast(SharedNorm, part).ranks = ranks


@torch.no_grad()
def pooled(x: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and number of rows, over all ranks, of x [N, C, ...], as many rows on each."""
    wide = x if x.dtype == torch.float64 else x.float()
    var, mean = torch.var_mean(wide, _all_but_channels(x), correction=0)
    every = ranks.stacked(torch.stack([mean, var]))  # [R, 2, C]
    means, variances = every.unbind(1)
    # Not from sums of squares, which cancel where the mean is large.
    spread = means.var(0, correction=0)
    alike = (every == every[0]).all()
    rows = x.numel() // x.shape[1] * torch.where(alike, 1, ranks.count)
    return means.mean(0), variances.mean(0) + spread, rows


def _all_but_channels(x: Tensor) -> list[int]:
    return [dim for dim in range(x.ndim) if dim != 1]


class _Normalise(torch.autograd.Function):
    """Batch norm by given statistics which, in the backward pass, are functions of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        ranks: Ranks,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        ctx.ranks = ranks
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        shape = [1, -1] + [1] * (x.ndim - 2)
        dims = _all_but_channels(x)
        g = gradient.to(mean.dtype)
        normal = (x - mean.view(shape)) * scale.view(shape)  # x^
        sums = torch.stack([(g * normal).sum(dims), g.sum(dims)])  # [2, C], of this rank
        positions = x.numel() // x.shape[1] * ctx.ranks.count
        of_product, of_gradient = ctx.ranks.sum(sums) / positions
        gamma = scale if weight is None else scale * weight
        of_x = gamma.view(shape) * (g - of_gradient.view(shape) - normal * of_product.view(shape))
        of_weight, of_bias = (None, None) if weight is None else (sums[0], sums[1])
        return of_x.to(x.dtype), of_weight, of_bias, None, None, None, None

"""Encode many views in little memory: pieces forward, and again forward when their gradient is due."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from swell.nets.rectified import all_kept

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Chunked(nn.Module):
    """`Chunked(encoder, rows)(x)` is encoder(x) for x [N, ...], at most `rows` of it at a time.

    Only the inputs and outputs of a piece are kept; its activations are computed once more in the backward pass, a
    third more work. The gradient is that of the whole batch, whatever the loss; only batch norm sees the pieces, so
    with it equality holds among equal pieces.
    """

    def __init__(self, encoder: nn.Module, rows: int) -> None:
        super().__init__()
        self.encoder, self.rows = encoder, rows

    def forward(self, x: Tensor) -> Tensor:
        if len(x) <= self.rows:
            return self.encoder(x)
        if not torch.is_grad_enabled():
            return torch.cat([self.encoder(part) for part in x.split(self.rows)])
        pieces = [
            checkpoint(self.encoder, part, use_reentrant=False, context_fn=self._contexts)
            for part in x.split(self.rows)
        ]
        return torch.cat(pieces)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return all_kept(), _RunningStatisticsKept(self.encoder)


class _RunningStatisticsKept(AbstractContextManager[None]):
    """The second forward must not count a second time in the running mean and variance.

    Entered once a backward pass, so as often as the caller keeps the graph for.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.kept = all_kept()
        self.kept.__enter__()
        self.norms = [m for m in self.module.modules() if isinstance(m, _NORMS) and m.track_running_stats]
        self.before = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = None

    def __exit__(self, *error: object) -> None:
        self.kept.__exit__(None, None, None)
        for norm, (momentum, count) in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count

"""Encode many views in little memory: pieces forward, and again forward when their gradient is due."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


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
        return nullcontext(), _running_statistics_kept(self.encoder)


@contextmanager
def _running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """The second forward must not count a second time in the running mean and variance."""
    norms = [part for part in module.modules() if isinstance(part, _NORMS) and part.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count

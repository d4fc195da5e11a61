"""relu(norm(x)) as the input of a layer without being kept for the backward pass: it is computed again from x.

The layer needs it for the gradient of its weights, and the ReLU for its own; batch norm keeps x anyway. Between two
convolutions of a residual block that is one of two large tensors, for two passes over memory. To drop the results of
cheap operations and repeat these is Chen et al. 2016, arXiv 1604.06174, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from swell.nets.batch_norm import SharedNorm

_ALLOWED: ContextVar[bool] = ContextVar("rectified", default=True)


def rectified(norm: nn.BatchNorm2d, x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """layer(relu(norm(x))) for x [B, C, H, W]: the same value and gradients, bit for bit, from less memory.

    Only in training on a CPU: a GPU, which is short of bandwidth before it is short of memory, keeps everything.
    """
    y: Tensor = norm(x)
    if not _repeatable(norm, x):
        return layer(F.relu(y, inplace=True))
    again = _Again(norm, x.detach(), y)
    with saved_tensors_hooks(again.pack, again.unpack):
        out = layer(F.relu(y, inplace=True))
    del y  # not before: another tensor in its place would be taken for it
    return out


@contextmanager
def all_kept() -> Iterator[None]:
    """Inside, nothing is left out: for what recomputes as a whole, and would keep every x for it."""
    token = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def _repeatable(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether it is worth it, and the norm's statistics are those of x alone."""
    if torch.compiler.is_compiling() or not (norm.training and torch.is_grad_enabled() and x.requires_grad):
        return False
    alone = not isinstance(norm, SharedNorm) or norm.ranks.count == 1
    return alone and x.device.type == "cpu" and _ALLOWED.get()


class _Again:
    """What stands in the graph for y = relu(norm(x)), and makes it once for all that ask for it in a backward pass."""

    def __init__(self, norm: nn.BatchNorm2d, x: Tensor, y: Tensor) -> None:
        self.x, self.weight, self.bias, self.eps = x, norm.weight, norm.bias, norm.eps
        self.known = _layout(y)
        self.asked, self.answered = 0, 0
        self.made: Tensor | None = None

    def pack(self, tensor: Tensor) -> Tensor | None:
        if _layout(tensor) != self.known:
            return tensor.detach()  # as it is, an output would refer to its own node
        self.asked += 1
        return None

    @torch.no_grad()
    def unpack(self, packed: Tensor | None) -> Tensor:
        if packed is not None:
            return packed
        if self.made is None:
            normal = F.batch_norm(self.x, None, None, self.weight, self.bias, True, 0.0, self.eps)
            self.made = F.relu(normal, inplace=True)
        made = self.made
        self.answered += 1
        if self.answered % self.asked == 0:
            self.made = None
        return made


def _layout(tensor: Tensor) -> tuple[int, torch.dtype, torch.Size, tuple[int, ...]]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()

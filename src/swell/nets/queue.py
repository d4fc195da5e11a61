"""The queue: the last rows that came by, oldest out first. MoCo's keys, NNCLR's support set, SwAV's stored features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swell.errors import InputError


class Queue(nn.Module):
    """FIFO of `size` rows of `width` numbers; starts empty, unless `fill` draws random unit rows (as MoCo does).

    Its state is in buffers, so checkpoints hold it.
    """

    rows: Tensor  # [size, width] float32
    count: Tensor  # int64: rows ever pushed, those of `fill` included

    def __init__(self, size: int, width: int, fill: bool = False) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise InputError(f"a queue of {size} rows of {width}", "at least one of each")
        start = nn.functional.normalize(torch.randn(size, width), dim=1) if fill else torch.zeros(size, width)
        self.register_buffer("rows", start)
        self.register_buffer("count", torch.tensor(size if fill else 0))

    @property
    def full(self) -> bool:
        return int(self.count) >= len(self.rows)

    @property
    def held(self) -> Tensor:
        """The rows pushed so far, at most `size` of them: [held, width], in no particular order."""
        return self.rows[: min(int(self.count), len(self.rows))]

    @torch.no_grad()
    def push(self, new: Tensor) -> None:
        """Append rows [n, width]; more than `size` keep the last."""
        new = new.detach().to(self.rows.dtype)
        skipped = max(0, len(new) - len(self.rows))
        # `count` stays a tensor: reading it would make the host wait for a GPU.
        at = (self.count + skipped + torch.arange(len(new) - skipped, device=self.rows.device)) % len(self.rows)
        self.rows.index_copy_(0, at, new[skipped:])
        self.count += len(new)

"""The processes that share one run ("ranks"), and what they tell each other.

A batch of B samples is cut into equal parts, one a rank. Every rank makes and encodes its own views, then all gather
the embeddings, so that each computes the loss of the whole batch: Sinkhorn, queue, centre and covariance need not know
of ranks. The objective is the mean over ranks of their losses, which are all that loss, or each the mean over a rank's
own part of a loss that is itself a mean. So gradients are averaged over ranks, of whatever parameter; what is gathered
or pooled sums in its backward pass the gradients that reach it on all ranks.

The collectives are torch's (gloo on CPUs, NCCL on GPUs); `swell.training.distributed` starts and ends them.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from swell.errors import InputError

BUCKET = 1 << 23  # numbers of gradients that travel together, 32 MiB


class Parted(RuntimeError):
    """Another rank is gone, so nothing can be agreed on any more."""


@contextmanager
def parting_told() -> Iterator[None]:
    """Turn a collective that failed into `Parted`.

    From then on SIGTERM, by which torchrun ends the others once one has ended, is waited out: there is a line to say.
    """
    try:
        yield
    except RuntimeError as error:  # torch has several kinds, all of them RuntimeErrors
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reason = re.sub(r"^\[[^]]*\] ", "", " ".join(str(error).split())).split(". ")[0]  # not gloo's file and line
        raise Parted(f"another process of this run has ended, so this one ends too ({reason[:100]})") from error


@contextmanager
def ending_told(ranks: Ranks) -> Iterator[None]:
    """Turn SIGTERM, by which torchrun ends all processes once one has ended, into `Parted`: what is open is closed, and
    there is a line to say. For work that has nothing to save; alone, SIGTERM does what it always does.
    """
    if ranks.count == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Parted("another process of this run has ended, or all were told to, so this one ends too")

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is told:
            signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Ranks:
    """This process, `rank` of `count`. Every method is to be called by all ranks; alone it does nothing."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is this one that writes files and speaks."""
        return self.rank == 0

    def own(self, total: int) -> slice:
        """This rank's part of `total` rows. Raises InputError where the parts would not be equal."""
        if total % self.count:
            given = f"{total} rows on {self.count} processes"
            raise InputError(given, f"a multiple of {self.count}", "change --batch-size or the number of processes")
        part = total // self.count
        return slice(self.rank * part, (self.rank + 1) * part)

    def gather(self, x: Tensor, dim: int = 0) -> Tensor:
        """The parts x of all ranks, of one shape, side by side along `dim`; gradients flow back to every part."""
        return x if self.count == 1 else _Gather.apply(x, dim, self)

    def stacked(self, x: Tensor) -> Tensor:
        """x of every rank, [count, ...], without gradient."""
        if self.count == 1:
            return x.unsqueeze(0)
        x = x.detach().contiguous()
        parts = [torch.empty_like(x) for _ in range(self.count)]
        with parting_told():
            dist.all_gather(parts, x)
        return torch.stack(parts)

    def sum(self, x: Tensor) -> Tensor:
        """The sum of x over ranks, without gradient."""
        if self.count == 1:
            return x
        x = x.detach().clone(memory_format=torch.contiguous_format)
        with parting_told():
            dist.all_reduce(x)
        return x

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over ranks, in place."""
        if self.count == 1:
            return
        waiting: list[tuple[list[Tensor], Tensor, Any]] = []
        for bucket in _buckets(tensors):
            flat = torch.cat([x.flatten() for x in bucket]).div_(self.count)
            with parting_told():
                waiting.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in waiting:
            with parting_told():
                work.wait()
            for x, mean in zip(bucket, flat.split([x.numel() for x in bucket]), strict=True):
                x.copy_(mean.view(x.shape))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag, whether some rank has set it. The host waits for all ranks, a GPU does not."""
        return flags if self.count == 1 else tuple(bool(n) for n in self.sum(torch.tensor(flags, dtype=torch.int64)))

    def of_first(self, value: float) -> float:
        """The first rank's value."""
        return value if self.count == 1 else self.sum(torch.tensor([value * self.first], dtype=torch.float64)).item()

    def bytes_of_first(self, data: bytes) -> bytes:
        """The first rank's bytes; what the others give is not looked at."""
        if self.count == 1:
            return data
        held = torch.empty(int(self.of_first(len(data))), dtype=torch.uint8)
        if self.first:
            held.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        with parting_told():
            dist.broadcast(held, 0)
        return held.numpy().tobytes()

    def bytes_to_first(self, data: bytes) -> list[bytes]:
        """The bytes of every rank, in their order, on the first; nothing on the others."""
        if self.count == 1:
            return [data]
        sizes = self.stacked(torch.tensor(len(data))).tolist()
        with parting_told():
            if not self.first:
                if data:
                    dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0)
                return []
            every = [data]
            for rank, size in enumerate(sizes[1:], 1):
                held = torch.empty(size, dtype=torch.uint8)
                if size:
                    dist.recv(held, rank)
                every.append(held.numpy().tobytes())
        return every

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all ranks the first one's values, in place."""
        if self.count > 1:
            for x in tensors:
                whole = x.detach().clone(memory_format=torch.contiguous_format)
                with parting_told():
                    dist.broadcast(whole, 0)
                x.detach().copy_(whole)

    def wait(self) -> None:
        """Until all ranks have come here."""
        self.any(True)


ALONE = Ranks()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, ranks: Ranks) -> Tensor:
        ctx.dim, ctx.ranks = dim, ranks
        return torch.cat(list(ranks.stacked(x).unbind()), dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        wide = gradient if gradient.dtype == torch.float64 else gradient.float()
        of_all = ctx.ranks.sum(wide).to(gradient.dtype)
        return of_all.chunk(ctx.ranks.count, ctx.dim)[ctx.ranks.rank], None, None


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, some `BUCKET` numbers of one kind together."""
    bucket: list[Tensor] = []
    for x in tensors:
        if bucket and (x.dtype != bucket[0].dtype or sum(y.numel() for y in bucket) + x.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(x)
    if bucket:
        yield bucket

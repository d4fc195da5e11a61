"""One run on many devices: join the processes that torchrun (or srun, or Kubernetes) started, and end as one.

    torchrun --nproc-per-node 4 -m swell pretrain photos/ --out run

torch.distributed carries what they tell each other: gloo between CPUs, NCCL between GPUs. What is shared, and how
gradients come out as those of one process, is told in `swell.ranks`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous

from swell.checkpoint import load_checkpoint
from swell.console import processes, speaks
from swell.devices import pick_device
from swell.errors import InputError
from swell.nets.batch_norm import share_norms
from swell.ranks import ALONE, Ranks
from swell.recipes import Recipe

MEETING = timedelta(minutes=15)  # machines may start at different times
PATIENCE = timedelta(hours=12)  # one rank may decode a large folder while the others wait
_TOLD = "swell/told"  # in the store: how many ranks wanted to say why they end
_store: Any = None
_speaker: bool | None = None  # whether this rank is the one to say why all end, once that is known


@contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """The ranks of this run while the block lasts; `ALONE` where this process was started by itself.

    A process group that the caller has made is used as it is, and left.

    Raises:
        InputError: more processes than the machine has GPUs to give each its own.
        Parted: another rank has ended while this one waited for it.
    """
    global _store
    rank, count = processes()
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    if count == 1:
        yield ALONE
        return
    where = _own_device(device)
    try:
        _store, rank, count = next(rendezvous("env://", timeout=MEETING))
        backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=_store, rank=rank, world_size=count, timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        given = f"{count} processes ({str(error).splitlines()[0][:100]})"
        raise InputError(given, "processes that find each other", "start them with torchrun") from error
    try:
        yield Ranks(rank, count)
    except BaseException:
        tells()  # before the others can notice that this one has left
        raise
    finally:
        dist.destroy_process_group()


def _own_device(name: str) -> torch.device:
    """The device of this rank."""
    device = pick_device(name)
    if device.type != "cuda":
        return device
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > gpus or device.index is None or (here > 1 and name == str(device)):
        given = f"{here} processes on one machine, --device {name}"
        raise InputError(given, f"a GPU for each: it has {gpus}", f"give --nproc-per-node {gpus} and --device auto")
    torch.cuda.set_device(device)
    return device


def tells() -> bool:
    """Whether this rank is the one to say why the run ends: the first that asks, as it knows best."""
    global _speaker
    if _store is None:
        return speaks()
    if _speaker is None:
        try:
            _speaker = int(_store.add(_TOLD, 1)) == 1
        except RuntimeError:  # the store is gone with the process that kept it
            _speaker = True
    return _speaker


@contextmanager
def one_first(ranks: Ranks) -> Iterator[None]:
    """One rank of each machine goes through the block before the others: it fills the cache that they then read."""
    leads = ranks.count == 1 or os.environ.get("LOCAL_RANK", str(ranks.rank)) == "0"
    if not leads:
        ranks.wait()
    yield
    if leads:
        ranks.wait()


def check_shared(recipe: Recipe, fingerprints: Mapping[str, str], ranks: Ranks) -> None:
    """Raises InputError where the ranks cannot share the run: a batch of unequal parts, other data."""
    if ranks.count == 1:
        return
    batch = recipe.batch_size or 0
    if batch % ranks.count:
        near = max(batch // ranks.count, 1) * ranks.count
        given = f"batch size {batch} on {ranks.count} processes"
        raise InputError(given, f"a multiple of {ranks.count}", f"give --batch-size {near}")
    own = sha256("\n".join(f"{recipe.seed} {name} {fingerprints[name]}" for name in sorted(fingerprints)).encode())
    if own.digest() != ranks.bytes_of_first(own.digest()):
        given = f"other data, or another seed, on process {ranks.rank} than on process 0"
        raise InputError(given, "the same on all", "give all machines the same files")


def share_model(encoder: nn.Module, parts: nn.Module, recipe: Recipe, ranks: Ranks) -> None:
    """Make the nets those of a rank: the first one's weights, and norms over the batch that all share."""
    if ranks.count == 1:
        return
    for module in (encoder, parts):
        ranks.share(module.state_dict().values())
        if recipe.batch_norm == "shared":
            share_norms(module, ranks)


def load_shared(path: Path, ranks: Ranks) -> dict[str, Any]:
    """The first rank's checkpoint, on all of them. Raises InputError when it is damaged."""
    if ranks.count == 1:
        return load_checkpoint(path)
    saved = load_checkpoint(path) if ranks.first else None
    data = ranks.bytes_of_first(path.read_bytes() if ranks.first else b"")
    return load_checkpoint(BytesIO(data)) if saved is None else saved

"""Which device the work runs on."""

from __future__ import annotations

import os

import torch

from swell.errors import InputError


def pick_device(name: str = "auto") -> torch.device:
    """`auto` (a GPU if there is one), `cpu`, `cuda` (under torchrun each process its own, as for `auto`), `cuda:1`.

    Raises InputError for one this machine lacks.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name == "auto" or (name == "cuda" and torch.cuda.is_available()):
        rank = os.environ.get("LOCAL_RANK", "")
        return torch.device(f"cuda:{int(rank) % torch.cuda.device_count()}" if rank.isdecimal() else "cuda")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("neither cpu nor cuda")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:80]
        raise InputError(f"device {name!r} ({reason})", "a device of this machine", "see `swell doctor`") from None
    return device

"""The encoder as it was on the way: kept at chosen shares of the budget, to be probed once the run has ended.

A snapshot is written and nothing else happens, so labels cannot touch the training through it, and the run with
snapshots is the run without them, bit for bit where its budget is in steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from swell.errors import InputError
from swell.files import write_bytes
from swell.ledger import Cost, Ledger
from swell.nets.encoder import Encoder

FOLDER = "snapshots"  # in RUN
FORMAT = "swell-snapshot-1"
MOST = 100  # of a run; each is as large as the encoder


@dataclass(frozen=True)
class Snapshot:
    """Where one lies, and what the run had done and cost by then."""

    path: Path
    share: float  # of the budget, as asked for
    step: int  # optimiser steps done
    pretraining: Cost
    generator: Cost  # training and sampling, up to then

    def weights(self) -> dict[str, Tensor]:
        """Of the encoder, float32. Raises InputError when the file is damaged."""
        try:
            return tensors_from(self.path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path} ({error})", "the snapshot swell wrote", "delete it") from None


def check_shares(shares: Iterable[float]) -> tuple[float, ...]:
    """The shares in rising order, each once. Raises InputError for one that is not between 0 and 1."""
    found = sorted(set(shares))
    for share in found:
        if not 0 < share < 1:
            raise InputError(f"a snapshot at {share:g}", "a share of the budget between 0 and 1", "0.5 is half of it")
    if len(found) > MOST:
        raise InputError(f"{len(found)} snapshots", f"{MOST} at most", "each is as large as the encoder")
    return tuple(found)


def keep(
    out: Path, shares: Iterable[float], before: float, now: float, step: int, encoder: Encoder, told: Ledger
) -> float:
    """Write a snapshot for each of `shares` that was crossed from `before` to `now`; returns the seconds it took."""
    crossed = [share for share in shares if before < share <= now]
    if not crossed:
        return 0.0
    start = time.perf_counter()
    weights = {name: w.detach().contiguous().cpu() for name, w in encoder.state_dict().items()}
    generator = Cost()
    for part in (told.generator_training, told.sampling):
        generator.add(part)
    for share in crossed:
        head = {"share": share, "step": step, "pretraining": asdict(told.pretraining), "generator": asdict(generator)}
        about = {"format": FORMAT, "snapshot": json.dumps(head, sort_keys=True)}
        write_bytes(out / FOLDER / f"share-{share:g}.safetensors", tensor_bytes(weights, about))
    return time.perf_counter() - start


def read_snapshots(out: Path) -> list[Snapshot]:
    """Those of the run `out`, by their share. Raises InputError when one is damaged or none of ours."""
    found = [_read(path) for path in sorted((out / FOLDER).glob("share-*.safetensors"))]
    return sorted(found, key=lambda snapshot: snapshot.share)


def _read(path: Path) -> Snapshot:
    try:
        with path.open("rb") as file:  # the header alone: the weights may be large
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
        told: Mapping[str, Any] = json.loads(head["snapshot"])
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']!r}")
        costs = (Cost(**told["pretraining"]), Cost(**told["generator"]))
        return Snapshot(path, float(told["share"]), int(told["step"]), *costs)
    except (OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise InputError(f"{path} ({error})", "the snapshot swell wrote", "delete it") from None

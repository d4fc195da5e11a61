"""Warm continuation: a run that decays at its end (schedule wsd) goes on from before its decay to a larger budget.

Before the decay nothing in step t depends on the budget: its batch and views come from (seed, t), and with a horizon
warm-up and the method's own schedules count by that. So a run of 100 steps that goes on to 200 is the run of 200 steps,
bit for bit, and only the short decay was done once more.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import tomli_w

from swell.checkpoint import load_checkpoint
from swell.errors import InputError
from swell.files import atomic_path, read_toml, write_text
from swell.ledger import Cost, Ledger
from swell.training.folder import STABLE

# What tells of the end of the smaller run and would be wrong of the larger one; the encoder first, because its presence
# says that the run is finished.
_OF_THE_END = (
    "encoder.safetensors",
    "evaluation.json",
    "predictions.npz",
    "predictions.new.npz",
    "map.npz",
    "report.html",
    "ledger.json",
)


def extend(out: Path, steps: int) -> None:
    """Make the finished run `out` one of `steps` steps that stands before the decay it had; `pretrain` with resume then
    carries it on. Done already, it does nothing; killed at any moment, it can be done again.

    Raises:
        InputError: no such run, or one that keeps no checkpoint from before a decay, or is not smaller.
    """
    stored = read_toml(out / "recipe.toml")
    if stored.get("steps") == steps:
        return
    if not (out / STABLE).exists() or stored.get("horizon") is None or stored.get("steps", steps) > steps:
        given = f"{out} to go on to {steps} steps"
        raise InputError(given, "a smaller run with schedule wsd and a horizon", "train it anew")
    for name in _OF_THE_END:
        (out / name).unlink(missing_ok=True)
    with atomic_path(out / "checkpoint.pt") as temporary:
        shutil.copyfile(out / STABLE, temporary)
    write_text(out / "recipe.toml", tomli_w.dumps({**stored, "steps": steps}))


def decay_cost(out: Path) -> Cost:
    """What the last decay of the finished run `out` cost: the part that another rung does not build upon."""
    end, stable = (_pretraining(load_checkpoint(out / name)) for name in ("checkpoint.pt", STABLE))
    return end.since(stable)


def _pretraining(saved: dict[str, Any]) -> Cost:
    try:
        return Ledger.from_dict(json.loads(saved["ledger"])).pretraining
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a checkpoint without its ledger ({error})", "one that swell wrote", "train anew") from None

"""The loop around every trained generator: budget, learning rate, running average, looks at held-out samples,
early stop, exact resume.

A step must draw all its randomness from its number (seed_for(seed, ..., step)), so that a resumed training goes the
way an undisturbed one goes.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from swell.checkpoint import load_checkpoint, save_checkpoint
from swell.console import Progress
from swell.errors import InputError
from swell.ledger import Cost, counted_flops

Decay = Literal["cosine", "linear", "constant"]

LOOKS = 20  # at the held-out loss, evenly over the budget
PATIENCE = 6  # looks in a row without a new best before training stops early
WARM_UP = 100  # steps
_KEPT = ("best", "lowest", "step", "seconds", "without_gain", "flops")  # in checkpoints, beside modules and optimisers


@dataclass(frozen=True)
class Budget:
    """The training ends when either is used up. Raises InputError when there is neither, or one is not positive."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.seconds) if value is not None]
        if not given or not min(given) > 0:
            text = f"a budget of {self.steps} steps and {self.seconds} seconds"
            raise InputError(text, "a positive one", "give steps or seconds")

    def share(self, step: int, seconds: float) -> float:
        """How much of the budget is used up."""
        return max(step / (self.steps or math.inf), seconds / (self.seconds or math.inf))


@dataclass
class Training:
    """What a training changes. `averaged` follows `network`; at the end `network` holds the best average."""

    network: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    decay: Decay = "cosine"
    averaged: nn.Module = field(init=False)
    best: dict[str, Tensor] = field(init=False)
    lowest: float = math.inf
    step: int = 0
    seconds: float = 0.0
    without_gain: int = 0  # looks since the best
    flops: float = 0.0  # of one step; counted once, since counting may change the last bit of what it counts

    def __post_init__(self) -> None:
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.best = copy.deepcopy(self.averaged.state_dict())
        self._rates = [group["lr"] for optimiser in self.optimisers for group in optimiser.param_groups]

    def set_rates(self, share: float) -> None:
        """Learning rates for the next step: a short warm-up, then the decay over the budget."""
        left = {"cosine": (1 + math.cos(math.pi * min(share, 1))) / 2, "linear": 1 - share, "constant": 1.0}[self.decay]
        groups = (group for optimiser in self.optimisers for group in optimiser.param_groups)
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * min((self.step + 1) / WARM_UP, 1) * left

    @torch.no_grad()
    def average(self, share: float) -> None:
        """The running average's half-life is 5 % of the budget, shorter at the beginning."""
        half_life = (self.step + 1) * min(0.1, 0.05 / max(share, 1e-9))
        towards = 1 - 0.5 ** (1 / half_life)
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), towards)
        for a, p in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
            a.copy_(p)

    def note(self, held_out_loss: float) -> None:
        self.without_gain += 1
        if held_out_loss < self.lowest:
            self.lowest, self.without_gain = held_out_loss, 0
            self.best = copy.deepcopy(self.averaged.state_dict())

    def state(self) -> dict[str, Any]:
        modules = {"network": self.network.state_dict(), "averaged": self.averaged.state_dict()}
        return modules | {name: getattr(self, name) for name in _KEPT} | {"optimisers": self._optimiser_states()}

    def _optimiser_states(self) -> list[dict[str, Any]]:
        return [optimiser.state_dict() for optimiser in self.optimisers]

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        for name in _KEPT:
            setattr(self, name, state[name])


def run_training(
    training: Training,
    step: Callable[[int], Tensor],
    look: Callable[[nn.Module], dict[str, float]],
    budget: Budget,
    *,
    cost: Cost,
    history: list[dict[str, float]],
    samples_a_step: int,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    identity: str = "",
    quiet: bool = False,
) -> None:
    """Train until the budget is used up or the held-out loss has stopped falling; leave the best average in
    `training.network`, in eval mode.

    Args:
        step: step number -> loss of the batch, after one update of `training.network`.
        look: the averaged network -> numbers for the history. Where "held_out_loss" is among them, the lowest decides
            which average is kept; otherwise the last one is.
        cost: FLOPs, samples and forwards are added to it, and the seconds of an earlier, interrupted part.
        checkpoint: a file written now and then and, where it exists already, gone on from; `identity` says whose it is.

    Raises:
        InputError: a checkpoint that is damaged or belongs to another training.
    """
    if checkpoint is not None and checkpoint.exists():
        _resume(checkpoint, training, cost, history, identity)
    began, before = time.monotonic(), training.seconds
    saved, loss = began, torch.tensor(math.nan)
    total, unit = (budget.seconds, "s") if budget.seconds else (budget.steps or 0, "steps")
    start = before if budget.seconds else training.step
    with Progress("generator", total, unit, quiet=quiet, start_at=start) as bar, torch.random.fork_rng():
        for t in itertools.count(training.step):
            training.step, training.seconds = t, before + time.monotonic() - began
            share = budget.share(t, training.seconds)
            if share * LOOKS >= len(history):
                seen = look(training.averaged)
                history.append({"step": t, "seconds": training.seconds, "train_loss": float(loss), **seen})
                training.note(seen.get("held_out_loss", -float(len(history))))
                words = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in list(seen.items())[:1])
                bar.update(min(share, 1) * total, words)
            if share >= 1 or training.without_gain >= PATIENCE:
                break
            if checkpoint is not None and time.monotonic() - saved >= checkpoint_seconds:
                kept = {"training": training.state(), "cost": asdict(cost), "history": history}
                save_checkpoint(checkpoint, {"identity": identity, **kept})
                saved = time.monotonic()
            training.set_rates(share)
            training.network.train()
            if training.flops == 0:
                with counted_flops() as box:
                    loss = step(t)
                training.flops = box[0] or 1.0
            else:
                loss = step(t)
            training.average(share)
            cost.add(Cost(flops=training.flops, samples_real=samples_a_step, forwards=samples_a_step))
    training.network.load_state_dict(training.best)
    training.network.eval()


def _resume(path: Path, training: Training, cost: Cost, history: list[dict[str, float]], identity: str) -> None:
    kept = load_checkpoint(path)
    if kept.get("identity") != identity:
        raise InputError(f"{path} (of another training)", "the checkpoint of this training", "remove it")
    training.restore(kept["training"])
    cost.add(Cost(**kept["cost"] | {"seconds": training.seconds}))
    history[:] = kept["history"]

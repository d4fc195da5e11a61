"""The phases of alternating training: which net trains, for how long, and where the positives come from.

A run of `swell pretrain --method diffaug`, or of any method with `--generator-positives`, is a list of them: data,
which the recipe holds, which is shown before the run and logged as it goes (RUN/phases.jsonl). Encoder phases share one
budget, one optimiser and one schedule, as if nothing came between them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from swell.errors import InputError, suggest
from swell.files import read_json_lines, write_text
from swell.recipes import Recipe

TRAINS = ("encoder", "generator")
POSITIVES = ("views", "neighbours", "generated")
FIRST_SHARE = 0.4  # of the encoder's budget that goes to hand-made views, before the first generator
RAMP_SHARE = 0.5  # of an encoder phase in which the share of generated positives rises to its full value


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Attributes:
        trains: "encoder" or "generator".
        steps, minutes: its budget, one of them; the same kind in all encoder phases, whose sum is the run's budget. A
            generator that needs no training (a control) takes neither into account.
        positives: of an encoder phase. "views": hand-made views of the sample itself. "neighbours": of a near
            neighbour. "generated": of a positive that the last generator phase made.
        replace: lambda, the share of samples whose positive comes from there instead of from the sample itself.
        replace_start: lambda at the beginning of the phase, from where it rises linearly.
        ramp: share of the phase after which lambda has reached `replace`; 0: at once.
    """

    trains: str
    steps: int | None = None
    minutes: float | None = None
    positives: str = "views"
    replace: float = 0.0
    replace_start: float = 0.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        for name, value, known in (("trains", self.trains, TRAINS), ("positives", self.positives, POSITIVES)):
            if value not in known:
                raise InputError(
                    f"phases: {name} = {value!r}", f"one of {', '.join(known)}", suggest(str(value), known)
                )
        if (self.steps is None) == (self.minutes is None):
            raise InputError(f"a phase of steps {self.steps} and minutes {self.minutes}", "one of the two")
        whole = self.steps is None or (isinstance(self.steps, int) and not isinstance(self.steps, bool))
        if not whole or not _number(self.budget) or not 0 < self.budget <= 1e9:
            raise InputError(f"a phase of {self.budget!r} {self.unit}", "a budget above 0, steps in whole numbers")
        for name in ("replace", "replace_start", "ramp"):
            value = getattr(self, name)
            if not _number(value) or not 0 <= value <= 1:
                raise InputError(f"phases: {name} = {value!r}", "a share from 0 to 1")
        told = self.replace or self.replace_start or self.ramp
        if told and (self.trains == "generator" or self.positives == "views"):
            given = f"phases: replace = {self.replace:g} in a phase of {self.trains} with {self.positives}"
            raise InputError(given, "positives to replace with", 'give positives = "generated", or leave it out')
        if self.trains == "generator" and self.positives != "views":
            raise InputError(f"phases: positives = {self.positives!r} in a generator phase", "none: it makes them")

    @property
    def budget(self) -> float:
        return self.minutes if self.steps is None else self.steps  # type: ignore[return-value]

    @property
    def unit(self) -> str:
        return "minutes" if self.steps is None else "steps"

    def replaced(self, progress: float) -> float:
        """lambda at `progress` in [0, 1] of this phase."""
        risen = 1.0 if self.ramp == 0 else min(max(progress, 0.0) / self.ramp, 1.0)
        return self.replace_start + (self.replace - self.replace_start) * risen

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, for TOML."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_phases(tables: Sequence[Mapping[str, Any]]) -> tuple[Phase, ...]:
    """The phases that a recipe holds as tables.

    Raises:
        InputError: an unknown key or value; no encoder phase; positives of a generator that has not been trained yet.
    """
    known = [f.name for f in fields(Phase)]
    phases = []
    for table in tables:
        if not isinstance(table, Mapping) or "trains" not in table:
            raise InputError(f"phases: {table!r}", 'a table with trains = "encoder" or "generator"')
        for key in table:
            if key not in known:
                raise InputError(f"phases: unknown key {key!r}", "a key of a phase", suggest(str(key), known))
        phases.append(Phase(**table))
    encoder = [phase for phase in phases if phase.trains == "encoder"]
    if not encoder:
        raise InputError("phases without one that trains the encoder", "at least one", 'add trains = "encoder"')
    if len({phase.unit for phase in encoder}) > 1:
        raise InputError("encoder phases in steps and in minutes", "the same unit in all of them")
    if phases[-1].trains == "generator":
        raise InputError("phases that end with the generator", "an encoder phase after it", "drop it")
    for i, phase in enumerate(phases):
        if phase.positives == "generated" and all(earlier.trains == "encoder" for earlier in phases[:i]):
            raise InputError(f"phase {i + 1} with generated positives", "a generator phase before it")
    return tuple(phases)


def default_phases(
    unit: str,
    budget: float,
    generator_budget: float,
    rounds: int = 1,
    replace: float = 1.0,
    replace_start: float = 0.0,
) -> tuple[Phase, ...]:
    """Hand-made views first; then, `rounds` times, a generator and an encoder phase on its positives.

    The same for all kinds of data. The first phase gets 0.4 of the encoder's `budget`, the others share the rest.
    lambda rises from `replace_start` to `replace` over the first half of the first of them and stays there.

    Raises:
        InputError: fewer steps than phases.
    """
    later = (1 - FIRST_SHARE) / rounds
    bounds = [0.0, *(FIRST_SHARE + later * i for i in range(rounds)), 1.0]
    own, made = _parts(unit, budget, bounds), _parts(unit, generator_budget, [i / rounds for i in range(rounds + 1)])
    phases = [Phase("encoder", **own[0])]
    for i in range(rounds):
        ramp = {"replace_start": replace_start, "ramp": RAMP_SHARE} if i == 0 else {"replace_start": replace}
        lambdas: dict[str, Any] = {"replace": replace, **ramp} if replace or replace_start else {}
        phases.append(Phase("generator", **made[i]))
        phases.append(Phase("encoder", **own[i + 1], positives="generated", **lambdas))
    return tuple(phases)


def _parts(unit: str, budget: float, bounds: Sequence[float]) -> list[dict[str, Any]]:
    """The budget cut at the shares `bounds`: steps in whole numbers that add up."""
    if unit == "minutes":
        return [{"minutes": round(budget * (b - a), 6)} for a, b in pairwise(bounds)]
    at = [round(budget * b) for b in bounds]
    if any(a == b for a, b in pairwise(at)):
        raise InputError(f"{budget:g} steps for {len(bounds) - 1} phases", "at least one step each", "give more steps")
    return [{"steps": b - a} for a, b in pairwise(at)]


def with_phases(recipe: Recipe) -> Recipe:
    """The recipe with its phases written out, and the sum of its encoder phases as its budget.

    A budget of the recipe in steps is the encoder's, and the generator gets as many of its own. A budget in minutes is
    for both: half of it each. Recipes without generated positives are returned as they are.

    Raises:
        InputError: a budget that is neither; phases of another sum than the budget that was given beside them; two
            sources of positives, or a share of none.
    """
    several = bool(recipe.phases) or generates(recipe)
    if several and recipe.positives:
        given = f"positives from {recipe.positives} and from phases"
        raise InputError(given, "one source of positives", "drop --positives, or give --generator-positives none")
    if recipe.replace != 1 and not several and not recipe.positives:
        todo = "give --positives or --generator-positives"
        raise InputError(f"replace {recipe.replace:g} without positives", "a source of positives", todo)
    if generates(recipe) and recipe.positive_strength is None:
        # a conditional generator keeps what the code says, the others only what they are left of the sample
        recipe = replace(recipe, positive_strength=1.0 if recipe.generator_positives == "conditional" else 0.5)
    if recipe.phases:
        phases = read_phases(recipe.phases)
        encoder = [phase for phase in phases if phase.trains == "encoder"]
        unit, total = encoder[0].unit, sum(phase.budget for phase in encoder)
        own = {name: value for name in ("steps", "minutes") if (value := getattr(recipe, name)) is not None}
        if recipe.flops is not None or any(n != unit or abs(v - total) > 1e-6 * total for n, v in own.items()):
            told = ", ".join(f"{value:g} {name}" for name, value in own.items()) or "FLOPs"
            raise InputError(f"a budget of {told} beside phases", f"their own {total:g} {unit}", "give one of the two")
        recipe = replace(recipe, epochs=None)
        return recipe if own else replace(recipe, **{unit: total})  # type: ignore[arg-type]
    if not generates(recipe):
        return recipe
    if recipe.flops is not None:
        raise InputError("a budget in FLOPs with generated positives", "one in steps, epochs or minutes")
    if recipe.minutes is not None:
        half = recipe.minutes / 2
        phases = default_phases("minutes", half, half, recipe.rounds, recipe.replace)
        recipe = replace(recipe, minutes=sum(phase.budget for phase in phases if phase.trains == "encoder"))
    else:
        assert recipe.steps is not None  # resolve() has made steps of epochs and patches
        phases = default_phases("steps", recipe.steps, recipe.steps, recipe.rounds, recipe.replace)
    return replace(recipe, phases=tuple(phase.to_dict() for phase in phases))


def generates(recipe: Recipe) -> bool:
    """Whether a generator is trained in turn with the encoder."""
    return recipe.generator_positives not in ("", "none")


def windows(phases: Sequence[Phase]) -> list[tuple[float, float]]:
    """From where to where each phase goes, as shares of the encoder's budget; generator phases take none of it."""
    spent = [0.0]
    for phase in phases:
        spent.append(spent[-1] + (phase.budget if phase.trains == "encoder" else 0))
    return [(a / spent[-1], b / spent[-1]) for a, b in pairwise(spent)]


def phase_table(phases: Sequence[Phase], generator: str) -> str:
    """The phases for a person, one a line.

    >>> print(phase_table(default_phases("steps", 100, 200), "conditional"))
    phase  trains                    budget  positives    lambda
        1  encoder                 40 steps  views        0
        2  conditional            200 steps
        3  encoder                 60 steps  generated    0 to 1, rising over the first 50 %
    """
    lines = ["phase  trains                    budget  positives    lambda"]
    for i, phase in enumerate(phases, 1):
        budget = f"{phase.budget:,.0f} steps" if phase.steps else f"{phase.budget:,.2f} minutes"
        trains = generator if phase.trains == "generator" else "encoder"
        line = f"{i:5d}  {trains:18s} {budget:>13s}"
        if phase.trains == "encoder":
            line += f"  {phase.positives:11s}  {_lambda_text(phase)}"
        lines.append(line)
    return "\n".join(lines)


def _lambda_text(phase: Phase) -> str:
    if phase.ramp == 0 or phase.replace_start == phase.replace:
        return f"{phase.replace:g}"
    return f"{phase.replace_start:g} to {phase.replace:g}, rising over the first {100 * phase.ramp:g} %"


class PhaseLog:
    """`phases.jsonl`: one line for every phase that has ended, in the order in which they ended.

    The file is replaced as a whole, and a phase that is done over after a kill takes the place of its own line.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "phases.jsonl"

    def write(self, phase: Phase, record: Mapping[str, Any]) -> None:
        """`record` names the phase by "phase" (from 1) and the "attempt" (from 1)."""
        key = (record["phase"], record["attempt"])
        kept = [line for line in read_phase_log(self.path.parent) if (line["phase"], line["attempt"]) != key]
        lines = [*kept, _strict({**asdict(phase), **record})]
        write_text(self.path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))


def _strict(value: Any) -> Any:
    """NaN and infinity become None, which every reader of JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_phase_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of RUN/phases.jsonl; none where the run had no phases, and without what is no such line."""
    found = read_json_lines(folder / "phases.jsonl")
    return [line for line in found if isinstance(line.get("phase"), int) and isinstance(line.get("attempt"), int)]

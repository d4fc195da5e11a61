"""From the name of a suite to what there is to do: recipes checked against the data, before anything is trained.

A suite is one that is shipped, a function in a Python file, or the folder of an earlier one, whose runs are then made
again from their own recipe.toml.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swell.data.source import Source
from swell.errors import InputError, suggest
from swell.files import read_json
from swell.recipes import Recipe, read_recipe
from swell.seeding import seed_for
from swell.suites.registry import SUITES, Arm, Generated, SuiteFunction
from swell.training.build import resolve
from swell.userfile import from_file

SUITE_FILE, FORMAT = "suite.json", "swell-suite-1"
DEFAULT_FUNCTION = "suite"  # of a Python file that is named alone
LONGEST_NAME = 60
BUDGETS = {"steps": "steps", "samples": "samples", "patches": "views", "flops": "flops", "minutes": "seconds"}


@dataclass(frozen=True)
class Job:
    """One run of a suite; `folder` and `inflate`, a GEN folder, are places in OUT."""

    arm: str
    seed: int
    recipe: Recipe
    folder: str
    rows: int | None = None
    inflate: str = ""


@dataclass(frozen=True)
class Plan:
    """All of a suite, in the order of its arms; `generated` are specifications by their folder in OUT."""

    suite: str
    arms: Mapping[str, Arm]
    jobs: Sequence[Job]
    generated: Mapping[str, tuple[Generated, int | None]]

    def settings(self) -> dict[str, Any]:
        """What must stay as it is while the suite is gone on with; seeds may be added."""
        return {
            "suite": self.suite,
            "arms": [
                {
                    "name": name,
                    "rows": arm.rows,
                    "generated": self._place(arm),
                    "recipe": {**arm.recipe.to_dict(), "seed": 0},
                }
                for name, arm in self.arms.items()
            ],
            "generated": {place: {**made.to_dict(), "rows": rows} for place, (made, rows) in self.generated.items()},
        }

    def _place(self, arm: Arm) -> str:
        return "" if arm.inflate is None else place_of(arm.inflate, arm.rows)


def is_suite(place: str) -> bool:
    """Whether `place` names a suite and no run; nothing is read or run for it."""
    python = place.endswith(".py") or ".py:" in place
    return python or (Path(place) / SUITE_FILE).is_file() or (place in SUITES and not Path(place).is_dir())


def make_plan(
    place: str | Path | SuiteFunction,
    data: Source,
    seeds: int | None,
    options: Mapping[str, Any],
    budget: Mapping[str, float],
    device: torch.device,
) -> Plan:
    """The plan of the suite `place` for `data`, over `seeds` seeds (3; of an earlier suite as many as it had).

    Raises:
        InputError: no such suite, a file or function that fails, arms that do not fit the data; all in one line.
    """
    if seeds is not None and not 1 <= seeds <= 1000:
        raise InputError(f"--seeds {seeds}", "a whole number from 1 to 1000", "3 is usual")
    if isinstance(place, str | Path) and (Path(place) / SUITE_FILE).is_file():
        if options or budget:
            given = f"{place} (an earlier suite) with a budget or options"
            raise InputError(given, "none: its runs are made again as they were", "name the suite itself")
        return _again(Path(place), data, seeds, device)
    name, function = _find(place)
    arms = {told: _with_budget(arm, budget, data) for told, arm in _call(name, function, data, options).items()}
    generated: dict[str, tuple[Generated, int | None]] = {}
    jobs: list[Job] = []
    for number, (told, arm) in enumerate(arms.items()):
        _check(f"arm {told!r}", arm, data, device)
        if arm.inflate is not None:
            generated[place_of(arm.inflate, arm.rows)] = (arm.inflate, arm.rows)
        for seed in range(3 if seeds is None else seeds):
            jobs.append(_job(number, told, seed, arm))
    return Plan(name, arms, _several(jobs), generated)


def rows_of(data: Source, rows: int | None) -> Source:
    """The first `rows` of `data` in an order that depends on their number alone: fewer are always among more."""
    if rows is None or rows == len(data):
        return data
    order = np.random.default_rng(seed_for(0, "suite rows", len(data))).permutation(len(data))
    part = data.subset(np.sort(order[:rows]))
    return replace(part, provenance=replace(part.provenance, origin=f"{part.provenance.origin}, {rows:,} rows"))


def place_of(made: Generated, rows: int | None) -> str:
    """A folder in OUT for generated samples, by what they are."""
    told = json.dumps({**made.to_dict(), "rows": rows}, sort_keys=True, default=str)
    return f"generated/{made.generator}-{seed_for(0, told) % 16**6:06x}"


def _find(place: str | Path | SuiteFunction) -> tuple[str, SuiteFunction]:
    if not isinstance(place, str | Path):
        return str(getattr(place, "__name__", "suite")), place
    place = str(place)
    if place.endswith(".py"):
        place = f"{place}:{DEFAULT_FUNCTION}"
    if ".py:" not in place:
        return place, SUITES[place]
    found = from_file("suite", place)
    path, colon, function = place.rpartition(":")
    if not callable(found):
        given = f"suite {place} (a {type(found).__name__})"
        raise InputError(given, "a function of the data that returns recipes by name", "see swell.suites")
    return Path(path).name + colon + function, found


def _call(name: str, function: SuiteFunction, data: Source, options: Mapping[str, Any]) -> dict[str, Arm]:
    known = [p.name for p in list(inspect.signature(function).parameters.values())[1:]]
    for option in options:
        if option not in known:
            todo = suggest(option, known) if known else "it takes none"
            raise InputError(f"--options {option}", f"an option of the suite {name}", todo)
    try:
        found = function(data, **options)
    except InputError as error:
        raise InputError(f"suite {name}: {error.given}", error.expected, error.todo) from error
    except Exception as error:  # the user's code may raise anything
        given = f"suite {name} ({type(error).__name__}: {error})"
        raise InputError(given, "a function that returns recipes by name", "mend it") from error
    if not isinstance(found, Mapping) or not found:
        given = f"suite {name} ({'nothing' if not found else f'a {type(found).__name__}'} returned)"
        raise InputError(given, "a dict of recipes by the names of their arms", 'return {"name": Recipe(...)}')
    arms: dict[str, Arm] = {}
    for told, arm in found.items():
        if not isinstance(told, str) or not 0 < len(told.strip()) <= LONGEST_NAME or not told.isprintable():
            raise InputError(f"suite {name}: arm {told!r}", f"a name of up to {LONGEST_NAME} characters")
        if not isinstance(arm, Recipe | Arm):
            given = f"suite {name}: arm {told!r} is a {type(arm).__name__}"
            raise InputError(given, "a Recipe, or an Arm with one", "return {...: Recipe(...)}")
        arms[told] = Arm(arm) if isinstance(arm, Recipe) else arm
    return arms


def _with_budget(arm: Arm, budget: Mapping[str, float], data: Source) -> Arm:
    """`arm` with that one budget in place of its own; samples become passes over the arm's rows."""
    if not budget:
        return arm
    if "samples" in budget:
        budget = {"epochs": budget["samples"] / (arm.rows or len(data))}
    return replace(arm, recipe=replace(arm.recipe, phases=()).with_budget(**budget))


def _check(told: str, arm: Arm, data: Source, device: torch.device) -> None:
    """Raises InputError where the arm could not be trained on `data`."""
    if arm.rows is not None and arm.rows > len(data):
        raise InputError(f"{told}: {arm.rows:,} rows", f"no more than the {len(data):,} of DATA")
    try:
        resolve(arm.recipe, rows_of(data, arm.rows), device)
    except InputError as error:
        raise InputError(f"{told}: {error.given}", error.expected, error.todo) from error
    if arm.inflate is not None:
        from swell.generators import GENERATORS
        from swell.generators.generate import check_option_names

        GENERATORS[arm.inflate.generator]
        check_option_names(arm.inflate.generator, dict(arm.inflate.options))


def _job(number: int, told: str, seed: int, arm: Arm) -> Job:
    slug = re.sub(r"[^A-Za-z0-9.=-]+", "-", told).strip("-.") or "arm"
    folder = f"runs/{number:02d}-{slug}/seed{seed}"
    inflate = "" if arm.inflate is None else place_of(arm.inflate, arm.rows)
    return Job(told, seed, replace(arm.recipe, seed=seed), folder, arm.rows, inflate)


def _again(folder: Path, data: Source, seeds: int | None, device: torch.device) -> Plan:
    """The plan that the runs in `folder` are: their own recipe.toml, and what suite.json says of their data."""
    told = read_json(folder / SUITE_FILE)
    try:
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']!r}")
        generated = {
            place: (Generated(**{k: v for k, v in spec.items() if k != "rows"}), spec["rows"])
            for place, spec in told["generated"].items()
        }
        kept = [(a["name"], a["rows"], a["generated"]) for a in told["arms"]]
        print_, had = told["data"]["fingerprint"], int(told["seeds"])
        inflate = {name: generated[place][0] if place else None for name, _, place in kept}
        suite, names = str(told["suite"]), [name for name, _, _ in kept]
        whole = all(rows is None or (isinstance(rows, int) and rows > 0) for _, rows, _ in kept)
        if not whole or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
            raise ValueError("arms without a name or rows of their own")
        if not 1 <= had <= 1000:
            raise ValueError(f"{had} seeds")
        for place, (made, rows) in generated.items():
            if place != place_of(made, rows):  # a place in OUT, never elsewhere
                raise ValueError(f"generated samples in {place!r}")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{folder / SUITE_FILE} ({error})", "the suite as swell wrote it", "name another") from None
    if data.fingerprint != print_:
        given = f"{data.provenance.origin} ({data.fingerprint})"
        raise InputError(given, f"the data {folder} was made of ({print_})", "give the same --data")
    arms: dict[str, Arm] = {}
    jobs: list[Job] = []
    for number, (name, rows, _) in enumerate(kept):
        for seed in range(had if seeds is None else seeds):
            blank = _job(number, name, seed, Arm(Recipe(), inflate[name], rows))
            recipe, prints, _ = read_recipe(folder / blank.folder / "recipe.toml")
            if ".py:" in recipe.method:  # folders are passed on: making one again runs no code that it names
                given = f"{folder} (its arm {name!r} is of a method that is code, {recipe.method})"
                raise InputError(given, "a suite named by yourself", "look at that file and name the suite itself")
            own = rows_of(data, rows).fingerprint
            if prints.get("real") != own:
                given = f"{folder / blank.folder} (trained on {prints.get('real')})"
                raise InputError(given, f"a run of these data ({own})", "give the same --data")
            arms.setdefault(name, Arm(recipe, inflate[name], rows))
            jobs.append(replace(blank, recipe=recipe))
        _check(f"arm {name!r}", arms[name], data, device)
    return Plan(suite, arms, _several(jobs), generated)


def _several(jobs: list[Job]) -> list[Job]:
    """By seed first, so that all arms have one seed before any has two. Raises InputError for a single run."""
    if len(jobs) < 2:
        raise InputError("a suite of one run", "two arms or two seeds", "give --seeds 3")
    return sorted(jobs, key=lambda job: job.seed)

"""Finished runs as a comparison sees them: read and checked, grouped into arms, and the arms given short names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from swell.console import warn
from swell.errors import InputError
from swell.files import read_json
from swell.ledger import Ledger, read_ledger
from swell.recipes import MOST, Recipe, read_recipe
from swell.views.plan import VIEWS, ViewPlan

SCORES = {  # where evaluation.json holds them
    "few_shot_1": ("few_shot", "1"),
    "few_shot_10": ("few_shot", "10"),
    "knn": ("knn", "accuracy"),
    "linear": ("linear", "accuracy"),
    "nmi": ("clusters", "nmi"),
}
ALSO = {"dense": ("dense", "miou"), "finetune": ("finetune", "accuracy")}  # only there where it was asked for
PRETRAINING = ("seconds", "flops", "views", "forwards", "teacher_forwards", "pixels")  # as the ledger names them
MACHINE = ("cpu", "cores", "threads", "gpu", "device")

_SHORT = {"batch_size": "batch", "learning_rate": "lr", "weight_decay": "wd"}
_FIELDS = (
    "preset", "backbone", "width", "batch_size", "optimizer", "learning_rate", "weight_decay", "momentum", "warmup",
    "view_chunk", "mixing", "precision", "compile", "strength", "weight", "positives", "replace",
)  # fmt: skip
_SETUP = {"backbone", "width", "batch_size", "mixing", "precision", "compile", "strength", "weight", "positives",
          "replace", "generated", "on"}  # fmt: skip
_OF_PRESET = {"optimizer", "learning_rate", "weight_decay", "warmup"}


@dataclass(frozen=True)
class Row:
    """One run."""

    path: str
    recipe: Recipe
    data: Mapping[str, str]  # fingerprints: real, generated, method (a file of the user's)
    provenance: Mapping[str, Mapping[str, Any]]
    evaluation: Mapping[str, Any]
    environment: Mapping[str, Any]
    scores: Mapping[str, float]  # 0 to 1, by the keys of SCORES, and of ALSO where there are any
    costs: Mapping[str, float | None]

    @property
    def method(self) -> str:
        """The method's name; of a user's file only the class, for whose text the fingerprint `method` stands."""
        return self.recipe.method.rpartition(":")[2]

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the weights but the seed, flat: `views.groups.1.scale`, `data.real`."""
        recipe = {key: value for key, value in self.recipe.to_dict().items() if key != "seed"}
        return _flat({**recipe, "method": self.method, "data": dict(self.data)})

    @property
    def arm(self) -> Hashable:
        """Equal for runs that differ in their seed only."""
        return frozenset((k, tuple(v) if isinstance(v, list) else v) for k, v in self.settings.items())

    @property
    def machine(self) -> dict[str, Any]:
        """What seconds depend on."""
        return {**{key: self.environment[key] for key in MACHINE}, "torch": str(self.environment["packages"]["torch"])}

    @property
    def spent(self) -> dict[str, float]:
        """What the run took in all: its costs, with those of making what it was inflated with."""
        known = {key: value for key, value in self.costs.items() if value is not None}
        return {**known, **{key: known[key] + known[f"generator_{key}"] for key in ("seconds", "flops")}}

    def origin(self, name: str) -> str:
        return str(self.provenance.get(name, {}).get("origin") or "unknown")


def read_row(path: Path | str) -> Row:
    """The run `path`. Raises InputError where it is unfinished, not evaluated or damaged."""
    path = Path(path)
    if not os.path.isfile(path / "encoder.safetensors"):
        raise InputError(str(path), "a finished run (encoder.safetensors in it)", "give folders made by swell pretrain")
    if not os.path.isfile(path / "evaluation.json"):
        raise InputError(f"{path} (no evaluation.json)", "an evaluated run", f"run swell evaluate {path} DATA first")
    recipe, data, provenance = read_recipe(path / "recipe.toml")
    values = [*data.values(), *recipe.method_options.values()]
    plain = "real" in data and all(isinstance(value, (str, int, float)) for value in values)
    if not plain or not isinstance(recipe.views, ViewPlan) or not recipe.batch_size:
        raise InputError(str(path / "recipe.toml"), "the resolved recipe and its [data], as swell wrote them")
    evaluation = _read_evaluation(path / "evaluation.json")
    scores = {name: _number(path / "evaluation.json", evaluation, *keys) for name, keys in SCORES.items()}
    for name, keys in ALSO.items():
        if name in evaluation:
            scores[name] = _number(path / "evaluation.json", evaluation, *keys)
    costs = _costs(path, recipe)
    return Row(str(path), recipe, data, provenance, evaluation, _read_environment(path), scores, costs)


def _read_environment(path: Path) -> dict[str, Any]:
    value = read_json(path / "environment.json")
    packages = value.get("packages") if isinstance(value, dict) else None
    known = isinstance(packages, dict) and {*MACHINE} <= {*value} and {"swell", "torch"} <= {*packages}
    if not known or any(isinstance(value[key], (dict, list)) for key in MACHINE):
        wanted = f"{', '.join(MACHINE)} and packages, as swell wrote them"
        raise InputError(str(path / "environment.json"), wanted, "repeat the run")
    return value


def _read_evaluation(path: Path) -> dict[str, Any]:
    value = read_json(path)
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("train", "test")):
        raise InputError(f"{path} (no fingerprints of its data)", *_again(path))
    if not isinstance(value.get("probe"), str):
        raise InputError(f"{path} (no probe)", *_again(path))
    for key in ("n_train", "n_test"):
        _number(path, value, key, low=1, high=math.inf)
    if "bag_of_features" in value:
        for key in ("knn", "linear"):
            _number(path, value, "bag_of_features", key, "accuracy")
        _number(path, value, "bag_of_features", "patches", low=1, high=math.inf)
        if not isinstance(value["bag_of_features"].get("mode"), str):
            raise InputError(f"{path} (bag_of_features.mode)", *_again(path))
    return value


def _number(path: Path, value: Any, *keys: str, low: float = 0.0, high: float = 1.0) -> float:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        shown = "missing" if value is None else repr(value)[:40]
        raise InputError(f"{path} ({'.'.join(keys)}: {shown})", *_again(path))
    return value


def _again(path: Path) -> tuple[str, str]:
    return "what swell evaluate writes", f"run swell evaluate {path.parent} DATA again"


def _costs(path: Path, recipe: Recipe) -> dict[str, float | None]:
    ledger: Ledger = read_ledger(path / "ledger.json")
    own, made = ledger.pretraining, (ledger.generator_training, ledger.sampling, ledger.search)
    log = path / "run.log"
    assert recipe.batch_size is not None  # resolved
    held = re.match(r"([1-9]\d*) samples of shape", log.read_text("utf-8", "replace") if os.path.isfile(log) else "")
    if not held:
        warn(f"{log} does not say how many samples there were, so that epochs are unknown")
    samples = own.samples_real + own.samples_generated
    costs = {
        **{name: getattr(own, name) for name in PRETRAINING},
        "samples": samples,
        "samples_generated": own.samples_generated,
        "generator_seconds": sum(part.seconds for part in made),
        "generator_flops": sum(part.flops for part in made),
        "memory": ledger.peak_memory_bytes,
        "steps": samples // recipe.batch_size,  # all batches are full; the log may have lost its end
    }
    for name, value in costs.items():
        if not 0 <= value < math.inf or (value == 0 and name in ("seconds", "flops", "views", "samples")):
            raise InputError(f"{path / 'ledger.json'} ({name}: {value})", "what a finished run costs", "repeat the run")
    return {**costs, "epochs": samples / int(held[1]) if held else None}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = list(enumerate(value, 1))
    else:
        return {prefix: value}
    return {k: v for name, item in items for k, v in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()}


def arm_names(rows: Sequence[Row]) -> list[str]:
    """A short name for the arm of each of `rows`: its method, and what tells it from the others.

    Named is what differs between arms of one method, and what differs between any of the set-up (backbone, batch
    size, data, ...); not what a method brings along, such as its views, beside other methods. Values that a recipe
    has by default are left out; budgets and what a preset decides are named only where names would be equal without.
    """
    labels = [_labels([row.data.get(name) for row in rows], [row.origin(name) for row in rows])
              for name in ("generated", "real")]  # fmt: skip
    traits = [_traits(row) | {"generated": made, "on": real} | {name: getattr(row.recipe, name) for name in MOST}
              for row, made, real in zip(rows, *labels, strict=True)]  # fmt: skip
    texts = {(row.method, row.data.get("method")) for row in rows}
    short, full = [], []
    for row, own in zip(rows, traits, strict=True):
        alike = [other for r, other in zip(rows, traits, strict=True) if r.method == row.method]
        told = [k for k in own if _differ(k, alike) or (k in _SETUP and _differ(k, traits))]
        spare = {*MOST} | (_OF_PRESET if "preset" in told else set())
        ambiguous = sum(name == row.method for name, _ in texts) > 1
        method = f"{row.method}@{str(row.data.get('method'))[:6]}" if ambiguous else row.method
        short.append(" ".join([method, *(_word(k, own[k]) for k in told if own[k] is not None and k not in spare)]))
        full.append(" ".join([method, *(_word(k, own[k]) for k in told if own[k] is not None)]))
    names = [a if short.count(a) == 1 else b for a, b in zip(short, full, strict=True)]
    return [n if names.count(n) == 1 else f"{n} #{names[:i].count(n) + 1}" for i, n in enumerate(names)]


def _differ(name: str, traits: Sequence[Mapping[str, Any]]) -> bool:
    return len({own.get(name) for own in traits}) > 1


def _traits(row: Row) -> dict[str, Any]:
    """What may tell the arm of `row` from others, None where it goes without saying; in the order of its name."""
    recipe, plan = row.recipe, row.recipe.views
    assert isinstance(plan, ViewPlan)  # read_row() saw to it
    usual = {f.name: f.default for f in fields(Recipe) if f.default is not MISSING}
    told = {name: getattr(recipe, name) for name in _FIELDS} | {"positives": Path(recipe.positives).name}
    if "generated" not in row.data:
        told["weight"] = told["mixing"] = None
    return {
        "views": plan.count,
        "plan": _plan_name(plan),
        **{f"method_options.{name}": value for name, value in recipe.method_options.items()},
        **{name: None if value == usual[name] else value for name, value in told.items()},
    }


def _plan_name(plan: ViewPlan) -> str:
    """The preset that `plan` is, whatever the number of views in its first group and whether some are of positives;
    else a name for its contents."""

    def counted_once(some: ViewPlan) -> ViewPlan:
        first, *rest = some.groups
        return replace(some, groups=(replace(first, count=1), *rest))

    plans = [(entry.name, entry.make()) for entry in reversed([*VIEWS])]
    known = {counted_once(made.with_positives()): name for name, made in plans if made.count > 1}
    known |= {counted_once(made): name for name, made in plans}
    own = counted_once(plan)
    return known.get(own) or f"own-{sha256(repr(own).encode()).hexdigest()[:4]}"


def _labels(fingerprints: Sequence[str | None], origins: Sequence[str]) -> list[str | None]:
    """What to call each of several sets: by the last part of where it lies, or by its fingerprint if two would be
    called the same; where there is but one, it needs no name.
    """
    fingerprints = [None if f is None else str(f) for f in fingerprints]  # of a ledger that anybody may have written
    known = {f: Path(o).name or f[:8] for f, o in zip(fingerprints, origins, strict=True) if f is not None}
    if len({*known.values()}) < len(known):
        known = {f: f[:8] for f in known}
    single = len(known) == 1
    return [None if f is None else "" if single else known[f] for f in fingerprints]


def _word(name: str, value: Any) -> str:
    name = _SHORT.get(name, name.rpartition(".")[2])
    if value is True or value == "":
        return name
    if isinstance(value, bool):
        return f"{name}=false"
    if isinstance(value, float):
        return f"{name}={value:g}"
    return f"{name}={'-'.join(str(value).split())}"  # names of folders may hold spaces

"""The commands that make a run and its evaluation again, and what they were made with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swell.errors import InputError
from swell.files import read_json

if TYPE_CHECKING:
    from swell.run import Run

_NAMED = ("builtin:", "hf:")
_POSITIONAL = ("data", "transfer", "test", "transfer_tests", "labels", "baselines")  # of `swell evaluate`


def run_commands(run: Run, evaluation: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """(what for, the command) of the training and, where there is one, of the evaluation."""
    commands = [_pretraining(run)]
    if evaluation is not None and "protocol" in evaluation:
        commands.append(_evaluation(run.path, evaluation))
    return commands


def _pretraining(run: Run) -> tuple[str, str]:
    recipe, told, method = run.path / "recipe.toml", run.provenance, run.recipe.method
    origin = str(told.get("real", {}).get("origin", ""))
    same = "The same data, recipe, machine and versions give the same weights."
    made = told.get("generated", {})
    if not nameable(origin):
        print_ = run.data_fingerprints.get("real", "unknown")
        inflate = ", inflate=generated" if made else ""
        own = f", method={method!r}" if ".py:" in method else ""
        code = f"swell.pretrain(data{inflate}, recipe={str(recipe)!r}{own}, out={f'{run.path}-again'!r})"
        return f"To train it again, in Python, with data whose fingerprint is {print_}. {same}", code
    words = ["swell", "pretrain", origin.removesuffix(":train"), "--recipe", str(recipe), "--out", f"{run.path}-again"]
    words += ["--method", method] if ".py:" in method else []  # code runs only where somebody names it
    if made:
        words += ["--inflate", str(made.get("origin", ""))]
        words += ["--allow-label-leak"] * bool(made.get("labels_used"))
    if run.preparation is None and os.path.isdir(origin):
        words += ["--size", str(run.encoder.config.shape[-1])]
    if run.preparation is not None:
        parts = {"--layer": run.preparation.layer, "--batch-key": run.preparation.batch}
        words += [word for flag, value in parts.items() if value for word in (flag, value)]
        words += ["--prepare", run.preparation.kind]
    return f"To train it again. {same}", shlex.join(words)


def _evaluation(path: Path, evaluation: Mapping[str, Any]) -> tuple[str, str]:
    options: Mapping[str, Any] = evaluation["protocol"]["options"]
    data = [options.get("data"), *(options.get("transfer") or [])]
    tests = [options.get("test"), *(options.get("transfer_tests") or [])]
    strangers = options.get("ood") or []
    given = [*data, *(test for test in tests if test is not None), *strangers]
    same = "Equal weights and data give equal scores."
    if not all(isinstance(name, str) and nameable(name) for name in given):
        return f"To evaluate it again, in Python, with the same data. {same}", _in_python(path, options)
    words = ["swell", "evaluate", str(path), *map(str, data)]
    if any(test is not None for test in tests):
        words += [word for test in tests for word in ("--test", "-" if test is None else str(test))]
    labels = options.get("labels", True)
    keys = labels if isinstance(labels, list) else [labels]
    if keys != [True]:
        words += [word for key in keys for word in ("--labels", "-" if key is True else str(key))]
    words += ["--no-baselines"] * (not options.get("baselines", True))
    for name, value in options.items():
        if name in _POSITIONAL or not value:
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif name == "few_labels":
            words += [flag, value if isinstance(value, str) else ",".join(map(str, value))]
        else:
            words += [word for part in (value if isinstance(value, list) else [value]) for word in (flag, str(part))]
    return f"To evaluate it again. {same}", shlex.join(words)


def _in_python(path: Path, options: Mapping[str, Any]) -> str:
    told = [
        f"{name}={value!r}" for name, value in options.items() if name not in _POSITIONAL and value and name != "ood"
    ]
    further = [name for name in ("transfer", "ood") if options.get(name)]
    told += [f"{name}=[...]" for name in further] + ["baselines=False"] * (not options.get("baselines", True))
    return f"swell.load({str(path)!r}).evaluate({', '.join(['data', *told])})"


def nameable(origin: str) -> bool:
    """Whether a command can name the data: built-in ones, those of a hub, a path that exists."""
    return origin.startswith(_NAMED) or ("{" in origin and ".tar" in origin) or os.path.exists(origin)


def environment_facts(path: Path) -> list[tuple[str, str]]:
    """What environment.json of the run `path` says, as words; nothing where it cannot be read."""
    try:
        told = read_json(path / "environment.json")
    except InputError:
        return []
    if not isinstance(told, dict):
        return []
    packages = told.get("packages")
    facts = [(key.replace("_", " "), _word(value)) for key, value in told.items() if key != "packages"]
    return facts + ([(str(k), str(v)) for k, v in packages.items()] if isinstance(packages, dict) else [])


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)

"""The version of the whole evaluation, and the refusal to set two of different versions or settings side by side.

Every part of `evaluation.json` has a protocol of its own with a name and a number: a change to what any of its numbers
mean gets a new number, whatever else stays. "protocol" lists them all beside the options that were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swell.errors import InputError
from swell.evaluation import intervals

EVALUATION = "swell-evaluation-1"
SECTIONS = ("calibration", "retrieval", "few_labels", "corruptions", "dense")
_TERMS = {  # of a section: what must be equal for its scores to compare
    "retrieval": ("protocol", "settings"),
    "few_labels": ("protocol", "settings"),
    "corruptions": ("protocol", "settings"),
    "bag_of_features": ("patches", "mode", "draws"),
    "dense": ("probe", "n_train", "n_test", "train", "test"),
    "finetune": ("fraction", "n_labels", "n_test", "steps", "settings"),
}
_SECTION_OF = {"map": "retrieval", "few_labels": "few_labels", "corrupted": "corruptions", "bag": "bag_of_features",
               "dense": "dense", "finetune": "finetune"}  # fmt: skip
_FLAGS = {"few_labels": "few-labels", "bag_of_features": "patches"}  # of swell evaluate; others are called as here


def told(result: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What `evaluation.json` says under "protocol" of the `result` of those `options`."""
    from swell import __version__

    parts = {name: result[name].get("protocol") or result[name]["probe"] for name in SECTIONS if name in result}
    if "ood" in result:
        parts["ood"] = result["ood"][0]["protocol"]
    own = {"probe": result["probe"]} if "probe" in result else {}
    return {
        "version": EVALUATION,
        "parts": {**own, "intervals": intervals.INTERVALS, **parts},
        "intervals": intervals.settings(),
        "options": dict(options),
        "swell": __version__,
    }


def terms(evaluation: Mapping[str, Any], by: str, on: str = "probe") -> dict[str, Any]:
    """What decides the score `by` on the data set `on` beside the run itself: protocols and settings, as evaluated.

    Raises:
        InputError: an evaluation without that data set, or without the part that the score is of.
    """
    at: Any = evaluation
    if on != "probe":
        several, number = evaluation.get("transfer"), on.removeprefix("transfer-")
        listed = several if isinstance(several, list) and number.isdigit() else []
        at = listed[int(number) - 1] if listed and 0 < int(number) <= len(listed) else None
    if not isinstance(at, Mapping) or "probe" not in at:
        raise InputError(f"no scores on {on}", "a labelled data set that was evaluated", "evaluate it first")
    found = {"probe": at["probe"], "settings": at.get("settings")}
    section = next((part for start, part in _SECTION_OF.items() if by.startswith(start)), None)
    if section is None:
        return found
    own = at.get(section)
    if not isinstance(own, Mapping):
        flag = f"--{_FLAGS.get(section, section)}"
        raise InputError(f"no {section} on {on}", f"runs evaluated alike with {flag}", f"run swell evaluate {flag}")
    return found | {f"{section}.{term}": own.get(term) for term in _TERMS[section]}


def refuse_other_protocol(
    first: tuple[str, Any], second: tuple[str, Any], *, by: str = "linear", on: str = "probe"
) -> None:
    """Raises InputError where the score `by` of two (path, evaluation) came by other protocols or settings."""
    found = []
    for path, evaluation in (first, second):
        try:
            found.append(terms(evaluation if isinstance(evaluation, Mapping) else {}, by, on))
        except InputError as error:
            raise InputError(f"{path} ({error.given})", error.expected, error.todo) from None
    for key, value in found[1].items():
        if value != found[0][key]:
            short = f", {value} instead of {found[0][key]}" if isinstance(value, (str, int, float)) else ""
            given = f"{second[0]} (evaluated with other {key} than {first[0]}{short})"
            raise InputError(given, "runs evaluated by one protocol", "run swell evaluate alike for both")

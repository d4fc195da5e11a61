"""What view groups of images and of vectors have in common: roles, whose view it is, strength, and the checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from swell.errors import InputError, suggest

ROLES = ("global", "local", "patch", "teacher")
OF = ("sample", "positive")
STRENGTHS = {"strong": 1.0, "weak": 0.5}


def strength_number(strength: float | str) -> float:
    """0.5 for "weak", 1.0 for "strong", otherwise the number itself, also when written as text.

    Raises:
        InputError: anything else, or a number outside [0, 1].
    """
    number: float | str = strength
    if isinstance(strength, str):
        try:
            number = STRENGTHS[strength] if strength in STRENGTHS else float(strength)
        except ValueError:
            number = math.nan
    if not (is_number(number) and 0 <= float(number) <= 1):
        raise InputError(f"strength {strength!r}", "a number from 0 to 1, or " + " or ".join(sorted(STRENGTHS)))
    return float(number)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"view {name} {value!r}", "a whole number of at least 1")


def number_in(name: str, value: Any, top: float) -> float:
    """`value` as a float. Raises InputError unless it is a finite number from 0 to `top`."""
    if not (is_number(value) and 0 <= value <= top and math.isfinite(value)):
        raise InputError(f"view {name} {value!r}", f"a number from 0 to {top:g}")
    return float(value)


def check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"view {name} {value!r}", "one of " + ", ".join(known))


def check_keys(what: str, entries: Mapping[str, Any], known: Iterable[str]) -> None:
    names = list(known)
    for key in entries:
        if key not in names:
            raise InputError(f"{what} key {key!r}", "a known key", suggest(str(key), names))

"""What a suite is made of: arms, and what they are inflated with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from swell.errors import InputError
from swell.recipes import Recipe
from swell.registry import Registry


@dataclass(frozen=True)
class Generated:
    """Samples to inflate with, made from the arm's own rows of DATA, once for all arms that ask for the same.

    The budget is in steps, because a generator that is trained by the clock is not the same one twice.
    """

    generator: str = "diffusion"
    count: int = 10_000
    steps: int = 1500
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"Generated({name}={value!r})", f"a whole number of at least {least}")
        if not isinstance(self.generator, str) or not isinstance(self.options, Mapping):
            given = f"Generated({self.generator!r}, options={self.options!r})"
            raise InputError(given, "the name of a generator, and its options by name")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "options": dict(self.options)}


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        recipe: its seed is set by the suite.
        inflate: what to mix in, by the recipe's `weight`.
        rows: samples of DATA to use, the same for every seed, and those of smaller numbers among them; None: all.
    """

    recipe: Recipe
    inflate: Generated | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, Recipe):
            raise InputError(f"Arm({self.recipe!r})", "a Recipe", "give Arm(Recipe(...))")
        if not isinstance(self.inflate, Generated | None):
            raise InputError(f"Arm(inflate={self.inflate!r})", "Generated(...) or nothing")
        if self.rows is not None and (isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 2):
            raise InputError(f"Arm(rows={self.rows!r})", "a whole number of at least 2, or nothing")


SuiteFunction: TypeAlias = Callable[..., Mapping[str, Recipe | Arm]]
SUITES: Registry[SuiteFunction] = Registry("suite")

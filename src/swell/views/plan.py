"""View plans: which views of a sample are made, how many, how large and how distorted. Data only, no tensors.

A plan is a tuple of groups; the views of a group share their settings and their size. Two symmetric views,
two asymmetric ones, multi-crop and n patches are all plans, and so are views of vectors (`swell.views.vectors`).
`swell.views.render` carries them out; the named ones are in `swell.views.presets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias

from swell.errors import InputError
from swell.registry import Registry
from swell.views.checks import (
    OF,
    ROLES,
    check_choice,
    check_count,
    check_keys,
    is_number,
    number_in,
    strength_number,
)
from swell.views.vectors import VectorGroup

__all__ = ["VIEWS", "Group", "VectorGroup", "ViewGroup", "ViewPlan", "strength_number"]

INTERPOLATIONS = ("bicubic", "bilinear")
_PAIRS = ("scale", "ratio", "blur_sigma")
_PROBABILITIES = ("flip", "jitter_p", "grey_p", "blur_p", "solarise_p")

# g(weak): the exponent that turns the strong minimum area 0.08 into AdaInf's weak 0.2.
_WEAK_EXPONENT = math.log(0.2) / math.log(0.08)


@dataclass(frozen=True)
class ViewGroup:
    """`count` views made alike. The defaults are SimCLR's for CIFAR (see `simclr`).

    Operations run in this order: crop and flip, colour jitter, grey, blur, solarise.

    Attributes:
        size: side of the square view in pixels; None keeps the sample's own height and width.
        scale: the crop's share of the image's area, uniform between the two. (1, 1) is the whole image.
        ratio: the crop's width over height, log-uniform between the two.
        brightness, contrast, saturation: jitter half-widths b; the factor is uniform on [max(0, 1 - b), 1 +
            b].
        hue: half-width of the hue shift in turns, at most 0.5.
        flip, jitter_p, grey_p, blur_p, solarise_p: probability that a view is mirrored, jittered, made grey,
            ...
        blur_sigma: the Gaussian's standard deviation in pixels of the view, uniform between the two.
        role: what methods take the view for: global, local, patch or teacher.
        of: "sample", or "positive": the view is made of the sample's positive in its place.
    """

    count: int = 1
    size: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    flip: float = 0.5
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur_p: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise_p: float = 0.0
    role: str = "global"
    of: str = "sample"

    def __post_init__(self) -> None:
        check_count("count", self.count)
        if self.size is not None:
            check_count("size", self.size)
        for name in _PAIRS:
            pair = getattr(self, name)
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(is_number, pair))):
                raise InputError(f"view {name} {pair!r}", "two numbers, smaller first")
            low, high = (float(end) for end in pair)
            top = 1.0 if name == "scale" else math.inf
            if not (0 < low <= high <= top and math.isfinite(high)):
                raise InputError(f"view {name} {low:g} to {high:g}", "0 < smaller <= larger" + " <= 1" * (top == 1))
            object.__setattr__(self, name, (low, high))
        for name in (*_PROBABILITIES, "brightness", "contrast", "saturation", "hue"):
            top = 1.0 if name in _PROBABILITIES else 0.5 if name == "hue" else math.inf
            object.__setattr__(self, name, number_in(name, getattr(self, name), top))
        for name, known in (("interpolation", INTERPOLATIONS), ("of", OF), ("role", ROLES)):
            check_choice(name, getattr(self, name), known)

    def at_strength(self, strength: float | str, weaken_jitter: bool = True) -> ViewGroup:
        """This group, taken as the strong one, at another strength; see `ViewPlan.at_strength`."""
        s = strength_number(strength)
        g = 2 * s * _WEAK_EXPONENT if s <= 0.5 else _WEAK_EXPONENT + (2 * s - 1) * (1 - _WEAK_EXPONENT)
        low, high = self.scale
        jitter, mild = (s if weaken_jitter else 1.0), min(1.0, 2 * s)
        return replace(
            self,
            scale=(low**g, high) if high == 1 else self.scale,
            brightness=self.brightness * jitter,
            contrast=self.contrast * jitter,
            saturation=self.saturation * jitter,
            hue=self.hue * jitter,
            jitter_p=self.jitter_p * s,
            grey_p=self.grey_p * mild,
            blur_p=self.blur_p * mild,
            solarise_p=self.solarise_p * mild,
        )


Group: TypeAlias = ViewGroup | VectorGroup


@dataclass(frozen=True)
class ViewPlan:
    """The groups of views a method sees of every sample: all of images or all of vectors.

    Args:
        weaken_jitter: whether a lower strength also narrows the jitter. AdaInf narrows it for the symmetric
            views but leaves the already mild jitter of the asymmetric ones as it is.
    """

    groups: tuple[Group, ...]
    weaken_jitter: bool = True

    def __post_init__(self) -> None:
        groups = self.groups
        listed = isinstance(groups, (tuple, list)) and groups
        if not (listed and any(all(isinstance(g, kind) for g in groups) for kind in (ViewGroup, VectorGroup))):
            raise InputError(f"view groups {groups!r}", "at least one group, all ViewGroup or all VectorGroup")
        if not isinstance(self.weaken_jitter, bool):
            raise InputError(f"weaken_jitter {self.weaken_jitter!r}", "true or false")
        object.__setattr__(self, "groups", tuple(groups))

    @property
    def count(self) -> int:
        """Views of one sample, over all groups."""
        return sum(group.count for group in self.groups)

    @property
    def of_images(self) -> bool:
        return isinstance(self.groups[0], ViewGroup)

    @property
    def image_groups(self) -> tuple[ViewGroup, ...]:
        """The groups of a plan of images. Raises InputError for one of vectors."""
        if not self.of_images:
            raise InputError("patches or crops of vectors", "images", "leave the patches out")
        return tuple(group for group in self.groups if isinstance(group, ViewGroup))

    @property
    def mixes(self) -> bool:
        """Whether any of its views is mixed with a partner of the sample."""
        return any(isinstance(group, VectorGroup) and group.mix > 0 for group in self.groups)

    @property
    def has_positives(self) -> bool:
        """Whether any of its views is made of a positive."""
        return any(group.of == "positive" for group in self.groups)

    def with_positives(self) -> ViewPlan:
        """The same views, those to be drawn together with the others made of positives; unchanged if some are already.

        Half of the first group of several views (two symmetric views become one and one, and of 20 patches 10 change
        sides), else the second group.

        Raises:
            InputError: a plan of one view.
        """
        if self.has_positives:
            return self
        for i, group in enumerate(self.groups):
            if group.count > 1:
                parts = (
                    replace(group, count=group.count - group.count // 2),
                    replace(group, count=group.count // 2, of="positive"),
                )
                return replace(self, groups=(*self.groups[:i], *parts, *self.groups[i + 1 :]))
        if len(self.groups) == 1:
            raise InputError("positives for a plan of one view", "at least two views", "choose other --views")
        first, second, *rest = self.groups
        return replace(self, groups=(first, replace(second, of="positive"), *rest))

    def at_strength(self, strength: float | str) -> ViewPlan:
        """The plan at `strength` s in [0, 1], where this plan is the strong one (s = 1, "strong").

        At s = 0.5 ("weak") SimCLR's plan becomes AdaInf's, at s = 0 the crop is the whole image and no colour
        changes. In between: minimum crop area c -> c ** g(s) with g piecewise linear through (0, 0),
        (0.5, ln 0.2 / ln 0.08), (1, 1), so 0.08 becomes 0.2 when weak; jitter half-widths times s (if
        `weaken_jitter`); jitter probability times s; grey, blur and solarise probabilities as they are down
        to weak and times 2 s below it; the flip stays. Groups whose crops never reach the whole image (local
        crops, fixed-size patches) keep their crop: there the size is part of the task, not a distortion. Views of
        vectors: see `VectorGroup.at_strength`.

        Raises:
            InputError: `strength` is neither a number in [0, 1] nor a name.
        """
        groups = tuple(
            g.at_strength(strength, self.weaken_jitter) if isinstance(g, ViewGroup) else g.at_strength(strength)
            for g in self.groups
        )
        return replace(self, groups=groups)

    def to_dict(self) -> dict[str, Any]:
        """For a recipe file: numbers, strings and lists only; a `size` of None is left out, as TOML has no null."""
        groups = []
        for group in self.groups:
            entry = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(group).items()}
            groups.append({k: v for k, v in entry.items() if v is not None})
        return {"weaken_jitter": self.weaken_jitter, "groups": groups}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> ViewPlan:
        """The reverse of `to_dict`; keys left out take their defaults.

        A group is of vectors if it has a key that only such groups have.

        Raises:
            InputError: an unknown key (with a suggestion) or a bad value.
        """
        check_keys("view plan", entries, (f.name for f in fields(cls)))
        groups = entries.get("groups")
        if not (isinstance(groups, list) and all(isinstance(group, Mapping) for group in groups)):
            raise InputError(f"view groups {groups!r}", "a list of tables", "write one [[views.groups]] a group")
        return cls(tuple(map(_group, groups)), entries.get("weaken_jitter", True))


def _group(entries: Mapping[str, Any]) -> Group:
    of_images, of_vectors = ({f.name for f in fields(kind)} for kind in (ViewGroup, VectorGroup))
    vector = bool(entries.keys() & (of_vectors - of_images))
    check_keys("view group", entries, sorted(of_vectors if vector else of_images))
    return VectorGroup(**entries) if vector else ViewGroup(**entries)


VIEWS: Registry[Callable[..., ViewPlan]] = Registry("view preset")

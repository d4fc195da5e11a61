"""View plans: which views of a sample are made, how many, how large and how distorted. Data only, no tensors.

A plan is a tuple of groups; the views of a group share their settings and their size. Two symmetric views,
two asymmetric ones, multi-crop and n patches are all plans. `swell.views.render` carries them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from swell.errors import InputError, suggest
from swell.registry import Registry

INTERPOLATIONS = ("bicubic", "bilinear")
ROLES = ("global", "local", "patch", "teacher")
STRENGTHS = {"strong": 1.0, "weak": 0.5}
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

    def __post_init__(self) -> None:
        _check_count("count", self.count)
        if self.size is not None:
            _check_count("size", self.size)
        for name in _PAIRS:
            pair = getattr(self, name)
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(_is_number, pair))):
                raise InputError(f"view {name} {pair!r}", "two numbers, smaller first")
            low, high = (float(end) for end in pair)
            top = 1.0 if name == "scale" else math.inf
            if not (0 < low <= high <= top and math.isfinite(high)):
                raise InputError(f"view {name} {low:g} to {high:g}", "0 < smaller <= larger" + " <= 1" * (top == 1))
            object.__setattr__(self, name, (low, high))
        for name in (*_PROBABILITIES, "brightness", "contrast", "saturation", "hue"):
            top = 1.0 if name in _PROBABILITIES else 0.5 if name == "hue" else math.inf
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= top and math.isfinite(value)):
                raise InputError(f"view {name} {value!r}", f"a number from 0 to {top:g}")
            object.__setattr__(self, name, float(value))
        for name, known in (("interpolation", INTERPOLATIONS), ("role", ROLES)):
            if getattr(self, name) not in known:
                raise InputError(f"view {name} {getattr(self, name)!r}", "one of " + ", ".join(known))

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


@dataclass(frozen=True)
class ViewPlan:
    """The groups of views a method sees of every sample.

    Args:
        weaken_jitter: whether a lower strength also narrows the jitter. AdaInf narrows it for the symmetric
            views but leaves the already mild jitter of the asymmetric ones as it is.
    """

    groups: tuple[ViewGroup, ...]
    weaken_jitter: bool = True

    def __post_init__(self) -> None:
        groups = self.groups
        if not (isinstance(groups, (tuple, list)) and groups and all(isinstance(g, ViewGroup) for g in groups)):
            raise InputError(f"view groups {groups!r}", "at least one ViewGroup")
        if not isinstance(self.weaken_jitter, bool):
            raise InputError(f"weaken_jitter {self.weaken_jitter!r}", "true or false")
        object.__setattr__(self, "groups", tuple(groups))

    @property
    def count(self) -> int:
        """Views of one sample, over all groups."""
        return sum(group.count for group in self.groups)

    def at_strength(self, strength: float | str) -> ViewPlan:
        """The plan at `strength` s in [0, 1], where this plan is the strong one (s = 1, "strong").

        At s = 0.5 ("weak") SimCLR's plan becomes AdaInf's, at s = 0 the crop is the whole image and no colour
        changes. In between: minimum crop area c -> c ** g(s) with g piecewise linear through (0, 0),
        (0.5, ln 0.2 / ln 0.08), (1, 1), so 0.08 becomes 0.2 when weak; jitter half-widths times s (if
        `weaken_jitter`); jitter probability times s; grey, blur and solarise probabilities as they are down
        to weak and times 2 s below it; the flip stays. Groups whose crops never reach the whole image (local
        crops, fixed-size patches) keep their crop: there the size is part of the task, not a distortion.

        Raises:
            InputError: `strength` is neither a number in [0, 1] nor a name.
        """
        return replace(self, groups=tuple(g.at_strength(strength, self.weaken_jitter) for g in self.groups))

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

        Raises:
            InputError: an unknown key (with a suggestion) or a bad value.
        """
        _check_keys("view plan", entries, cls)
        groups = entries.get("groups")
        if not (isinstance(groups, list) and all(isinstance(group, Mapping) for group in groups)):
            raise InputError(f"view groups {groups!r}", "a list of tables", "write one [[views.groups]] a group")
        for group in groups:
            _check_keys("view group", group, ViewGroup)
        return cls(tuple(ViewGroup(**group) for group in groups), entries.get("weaken_jitter", True))


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
    if not (_is_number(number) and 0 <= float(number) <= 1):
        raise InputError(f"strength {strength!r}", "a number from 0 to 1, or " + " or ".join(sorted(STRENGTHS)))
    return float(number)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"view {name} {value!r}", "a whole number of at least 1")


def _check_keys(what: str, entries: Mapping[str, Any], kind: type[ViewGroup] | type[ViewPlan]) -> None:
    known = [field.name for field in fields(kind)]
    for key in entries:
        if key not in known:
            raise InputError(f"{what} key {key!r}", "a known key", suggest(str(key), known))


# Presets. "solo-learn" is vturrisi/solo-learn, whose CIFAR settings AdaInf's code (PKU-ML/adainf, 233a6bd) inherits.

VIEWS: Registry[Callable[..., ViewPlan]] = Registry("view preset")


@VIEWS.register("simclr", "two views, strong crop, jitter and blur", "Chen et al. 2020")
def simclr() -> ViewPlan:
    """SimCLR on CIFAR, the strong default: area 0.08 to 1, jitter 0.8/0.8/0.8/0.2 with p 0.8, grey 0.2, blur 0.5.

    Source: PKU-ML/adainf, cifar/augmentations/symmetric.yaml.
    """
    return ViewPlan((ViewGroup(count=2),))


@VIEWS.register("symmetric_weak", "SimCLR's views with half the jitter", "solo-learn, MoCo v2+ and SimSiam")
def symmetric_weak() -> ViewPlan:
    """As `simclr` with jitter 0.4/0.4/0.4/0.1. Source: PKU-ML/adainf, cifar/augmentations/symmetric_weak.yaml."""
    return ViewPlan((ViewGroup(count=2, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),))


@VIEWS.register("adainf", "SimCLR's views at weak strength", "Wang et al. 2024, arXiv 2403.12448")
def adainf() -> ViewPlan:
    """AdaInf's weak views: area 0.2 to 1, jitter 0.4/0.4/0.4/0.1 with p 0.4, the rest as `simclr`.

    Source: PKU-ML/adainf, cifar/augmentations/symmetric_adainf.yaml. Equals ``simclr().at_strength("weak")``.
    """
    weak = ViewGroup(count=2, scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, jitter_p=0.4)
    return ViewPlan((weak,))


def _asymmetric(least_area: float, jitter_p: float) -> ViewPlan:
    first = ViewGroup(scale=(least_area, 1.0), brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1,
                      jitter_p=jitter_p, blur_p=0.0)  # fmt: skip
    return ViewPlan((first, replace(first, solarise_p=0.2)), weaken_jitter=False)


@VIEWS.register("asymmetric", "two views of which only the second is solarised", "Grill et al. 2020 (BYOL)")
def asymmetric() -> ViewPlan:
    """BYOL and Barlow Twins on CIFAR: area 0.08 to 1, jitter 0.4/0.4/0.2/0.1 with p 0.8, grey 0.2, no blur,
    solarise 0 and 0.2. Source: PKU-ML/adainf, cifar/augmentations/asymmetric.yaml.
    """
    return _asymmetric(0.08, 0.8)


@VIEWS.register("asymmetric_adainf", "the asymmetric views at weak strength", "Wang et al. 2024, arXiv 2403.12448")
def asymmetric_adainf() -> ViewPlan:
    """As `asymmetric` with area 0.2 to 1 and jitter p 0.4; its half-widths stay.

    Source: PKU-ML/adainf, cifar/augmentations/asymmetric_adainf.yaml.
    """
    return _asymmetric(0.2, 0.4)


@VIEWS.register("vicreg", "two views, gentle crop and jitter, both sometimes solarised", "Bardes et al. 2022")
def vicreg() -> ViewPlan:
    """VICReg on CIFAR: area 0.2 to 1, jitter 0.4/0.4/0.2/0.1 with p 0.8, grey 0.2, no blur, solarise 0.1.

    Source: solo-learn, scripts/pretrain/cifar/vicreg.yaml.
    """
    return ViewPlan((ViewGroup(count=2, scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1,
                               blur_p=0.0, solarise_p=0.1),))  # fmt: skip


def _patches(n: int, ratio: tuple[float, float], interpolation: str) -> ViewPlan:
    patch = ViewGroup(count=n, scale=(0.25, 0.25), ratio=ratio, interpolation=interpolation, brightness=0.4,
                      contrast=0.4, saturation=0.4, hue=0.2, blur_p=0.1, solarise_p=0.1, role="patch")  # fmt: skip
    return ViewPlan((patch,))


@VIEWS.register("emp_ssl", "n square patches of a quarter of the image", "Tong et al. 2023, arXiv 2304.03977")
def emp_ssl(n: int = 20) -> ViewPlan:
    """EMP-SSL on CIFAR: area exactly 0.25, square (16 x 16 of 32 x 32), bilinear back to full size, jitter
    0.4/0.4/0.4/0.2 with p 0.8, grey 0.2, blur 0.1, solarise 0.1. Trained with n = 20 and 200.

    Source: tsb0601/EMP-SSL (8fc3758).
    """
    return _patches(n, (1.0, 1.0), "bilinear")


@VIEWS.register("emp_ssl_crops", "n crops of any size instead of equal patches", "")
def emp_ssl_crops(n: int = 20) -> ViewPlan:
    """As `emp_ssl` but square crops of 0.08 to 1 of the area: patches of random size, which a reviewer of EMP-SSL
    asked for and an adversarial follow-up (softsys4ai/CF-AMC-SSL) prefers.
    """
    plan = _patches(n, (1.0, 1.0), "bilinear")
    return ViewPlan((replace(plan.groups[0], scale=(0.08, 1.0)),))


@VIEWS.register("emp_ssl_imagenet", "n patches of a quarter of the image, any ratio", "Tong et al. 2023")
def emp_ssl_imagenet(n: int = 20) -> ViewPlan:
    """EMP-SSL on ImageNet-100: as `emp_ssl` but ratio 3/4 to 4/3 and bicubic. Source: tsb0601/EMP-SSL (8fc3758)."""
    return _patches(n, (3 / 4, 4 / 3), "bicubic")


def _multi_crop(sizes: tuple[int, int], middle: tuple[float, float], locals_: int) -> ViewPlan:
    """Two large crops with areas from middle[0] to 1 and `locals_` small ones with areas from 0.05 to middle[1]."""
    large = ViewGroup(count=2, size=sizes[0], scale=(middle[0], 1.0), interpolation="bilinear")
    return ViewPlan((large, replace(large, count=locals_, size=sizes[1], scale=(0.05, middle[1]), role="local")))


@VIEWS.register("swav", "multi-crop for 32 x 32: two crops of 32 and six of 16", "Caron et al. 2020")
def swav(side: int = 32) -> ViewPlan:
    """Multi-crop on CIFAR: 2 x 32 with areas 0.2 to 1 and 6 x 16 with areas 0.05 to 0.2; sizes follow `side`.

    Crops: galilai-group/stable-pretraining (d15ec96), CIFAR script. Colour and blur are SwAV's own, see
    `swav_imagenet`.
    """
    return _multi_crop((side, max(8, side // 2)), (0.2, 0.2), 6)


@VIEWS.register("swav_imagenet", "multi-crop: two crops of 224 and six of 96", "Caron et al. 2020")
def swav_imagenet(side: int = 224) -> ViewPlan:
    """SwAV on ImageNet: 2 x 224 with areas 0.14 to 1 and 6 x 96 with areas 0.05 to 0.14, sizes following `side`;
    each crop: flip 0.5, jitter 0.8/0.8/0.8/0.2 with p 0.8, grey 0.2, blur 0.5. Source: facebookresearch/swav (06b1b7c).
    """
    return _multi_crop((side, round(side * 96 / 224)), (0.14, 0.14), 6)


@VIEWS.register("digits", "two crops of at least 0.4 of the area, nothing else", "")
def digits() -> ViewPlan:
    """For small grey symbols such as the 8 x 8 digits: no flip, since a mirrored digit is another symbol, no
    colour operation, no blur, and crops that leave enough of the stroke to tell a 3 from an 8. Ours, not from
    a paper.
    """
    return ViewPlan((ViewGroup(count=2, scale=(0.4, 1.0), flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
                               hue=0.0, jitter_p=0.0, grey_p=0.0, blur_p=0.0),))  # fmt: skip


@VIEWS.register("mae", "one crop of at least a fifth of the area and a flip, nothing else", "He et al. 2022")
def mae() -> ViewPlan:
    """MAE on ImageNet: area 0.2 to 1, flip 0.5. Colour jitter hurts it (arXiv 2303.17152)."""
    return ViewPlan((ViewGroup(scale=(0.2, 1.0), brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, jitter_p=0.0,
                               grey_p=0.0, blur_p=0.0),))  # fmt: skip

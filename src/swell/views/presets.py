"""Named view plans. "solo-learn" is vturrisi/solo-learn, whose CIFAR settings AdaInf's code (PKU-ML/adainf, 233a6bd)
inherits.
"""

from __future__ import annotations

from dataclasses import replace

from swell.views.plan import VIEWS, ViewGroup, ViewPlan
from swell.views.vectors import VectorGroup


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
    return ViewPlan((replace(plan.image_groups[0], scale=(0.08, 1.0)),))


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


@VIEWS.register("cells", "two views of a vector, 3 of 4 features masked in each", "scSSL-Bench, arXiv 2506.10031")
def cells() -> ViewPlan:
    """For gene expression and other sparse counts: every feature is masked with probability 0.75, nothing else. Random
    masking alone was ahead of all other hand-made views there, with half masked; of six sets of cells, whichever one
    is left out, the others choose three quarters (`benchmarks/cells.py`).
    """
    return ViewPlan((VectorGroup(count=2, mask=0.75),))


@VIEWS.register("table", "two views of a vector, some features taken from other samples, a little noise", "SCARF")
def table() -> ViewPlan:
    """For tables of measurements: 0.3 of the features of each view take another sample's value, noise of 0.1 standard
    deviations. SCARF (arXiv 2106.15147) takes 0.6 in one view and leaves the other as it is; two views that share the
    work are the same distance apart and treat both alike.
    """
    return ViewPlan((VectorGroup(count=2, swap=0.3, noise=0.1),))


@VIEWS.register("neighbour_mix", "the vector itself, and it mixed with a near neighbour", "arXiv 2309.07909 (DiffAug)")
def neighbour_mix() -> ViewPlan:
    """DiffAug's hand-made views, as its released code has them: x, and (1 - u) x + u y with u uniform on [0, 1] and y
    one of the nearest neighbours of x. Source: zangzelin/code_diffaug (b119c5c).
    """
    return ViewPlan((VectorGroup(), VectorGroup(mix=1.0)))

"""Bags of features: encode a sample as the mean feature of K patches of it, as EMP-SSL is evaluated (Tong et al. 2023).

    z = bag_of_features(encoder, samples, 16)                      # a grid: the same result on every call
    z = bag_of_features(encoder, samples, 16, "random", seed=3)    # drawn: does the draw matter?

An encoding costs K forwards a sample; `evaluate_bag` says so beside the accuracy and its sd over draws.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swell.data.source import Source
from swell.errors import InputError, suggest
from swell.evaluation.intervals import mean_interval
from swell.evaluation.probe import FittedProbe
from swell.evaluation.statistics import summarise
from swell.ledger import Cost, counted_flops, timed
from swell.nets.encoder import Encoder
from swell.seeding import generator_for
from swell.views.crops import UNIFORMS, Boxes, boxes_from, crop
from swell.views.plan import ViewGroup

MODES = ("grid", "random")
DRAWS = 5
MOST_PATCHES, MOST_DRAWS = 10_000, 1_000
BATCH = 512  # patches encoded at once: as many as `Encoder.encode` takes of whole samples
QUARTER = ViewGroup(scale=(0.25, 0.25), ratio=(1.0, 1.0), interpolation="bilinear")  # EMP-SSL's patch


def check_bag(patches: int | None, mode: str | None = None, draws: int | None = None) -> tuple[str, int]:
    """The mode and the number of draws, by default a grid and 5; a grid, which has nothing to draw, makes do with 1.

    Raises:
        InputError: for a value that there is not, or a mode or draws without patches.
    """
    if patches is None:
        for name, value in (("mode", mode), ("draws", draws)):
            if value is not None:
                raise InputError(f"patch {name} {value} without patches", "a number of patches", "give --patches 16")
    for name, count, most in (("patches", patches, MOST_PATCHES), ("draws", draws, MOST_DRAWS)):
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= most):
            raise InputError(f"{name} {count!r}", f"a whole number from 1 to {most:,}")
    mode = "grid" if mode is None else mode
    if mode not in MODES:
        raise InputError(f"patch mode {mode!r}", "grid or random", suggest(str(mode), MODES))
    return mode, 1 if mode == "grid" else DRAWS if draws is None else draws


@torch.no_grad()
def bag_of_features(
    encoder: Encoder,
    samples: np.ndarray | Tensor,
    patches: int,
    mode: str = "grid",
    like: ViewGroup = QUARTER,
    seed: int = 0,
    first_block: int = 0,
) -> np.ndarray:
    """Mean feature of the patches of each sample: uint8 [N, C, H, W] -> float32 [N, F].

    Works in eval mode on the encoder's device, with at most `BATCH` patches in memory at a time.

    Args:
        mode: "random": crops with the area, ratio and mirroring of `like`, drawn for every sample anew. "grid": see
            `grid`; the same boxes for every sample, none mirrored.
        like: the view group whose geometry the patches take over. Its colour operations are left out: they teach the
            encoder what to ignore, but a sample that is to be encoded has the colours it has, and changing them at
            random would only add to the variance between draws.
        seed: of the random patches. Patch k of sample i depends on it, on k and on i alone, so the first of 16
            patches are those of 8.
        first_block: of samples that are a part of some data, the multiple of `BATCH` they begin at.

    Raises:
        InputError: samples that are no images as the encoder takes them, patches or a mode that there are not.
    """
    check_bag(patches, mode)
    images = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != tuple(encoder.config.shape):
        given = f"patches of samples {images.dtype} {list(images.shape)}"
        want = f"images uint8 [N, {', '.join(map(str, encoder.config.shape))}]"
        raise InputError(given, want, "leave out the patches for vectors, open images with the run's size")
    was_training = encoder.training
    encoder.eval()
    out = np.empty((len(images), encoder.features), np.float32)
    for block, start in enumerate(range(0, len(images), BATCH), first_block):
        part = torch.tensor(images[start : start + BATCH], device=encoder.mean.device)
        n, _, height, width = part.shape
        size = (height, width) if like.size is None else (like.size, like.size)
        total = torch.zeros(n, encoder.features, device=part.device)
        at_once = max(1, BATCH // n)
        for first in range(0, patches, at_once):
            numbers = range(first, min(first + at_once, patches))
            if mode == "grid":
                boxes = Boxes(*(side[first : numbers.stop, None] for side in grid(patches, height, width, like)))
                boxes, flip = Boxes(*(side.expand(-1, n) for side in boxes)), torch.zeros(len(numbers), n)
            else:
                boxes, flip = _drawn([generator_for(seed, "patch", k, block) for k in numbers], n, height, width, like)
            rows = Boxes(*(side.flatten() for side in boxes))
            x = crop(part.repeat(len(numbers), 1, 1, 1), rows, flip.flatten(), size, like.interpolation)
            features = encoder(x.contiguous(memory_format=torch.channels_last)).float()
            total += features.unflatten(0, (-1, n)).sum(0)
        out[start : start + BATCH] = (total / patches).cpu().numpy()
    encoder.train(was_training)
    return out


def _drawn(generators: list[torch.Generator], n: int, height: int, width: int, like: ViewGroup) -> tuple[Boxes, Tensor]:
    """Random boxes and mirrorings [len(generators), n]. Rows are drawn for a whole block, so n changes none of them."""
    u = torch.stack([torch.rand(BATCH, UNIFORMS + 1, generator=g, dtype=torch.float64)[:n] for g in generators])
    return boxes_from(u[..., :-1], height, width, like.scale, like.ratio), u[..., -1] < like.flip


@lru_cache(maxsize=16)
def grid(patches: int, height: int, width: int, like: ViewGroup = QUARTER) -> Boxes:
    """`patches` boxes [K] of the mean area and ratio of `like`, evenly spread over an image of that height and width.

    The places a box can take form a rectangle. It is cut into K cells of equal area, in rows, and the box put at the
    middle of each cell: the midpoint rule for the mean over all places, which random patches estimate. For 16 x 16 of
    32 x 32 there are 17 x 17 places, and a grid of 289 takes each once.
    """
    box = boxes_from(torch.full((UNIFORMS,), 0.5, dtype=torch.float64), height, width, like.scale, like.ratio)
    places_y, places_x = height - int(box.height) + 1, width - int(box.width) + 1
    rows = min(max(1, round((patches * places_y / places_x) ** 0.5)), patches)
    ends = [i * patches // rows for i in range(rows + 1)]  # row i holds the patches from ends[i] to ends[i + 1]
    top, left = [], []
    for start, stop in pairwise(ends):
        top += [(start + stop) * places_y // (2 * patches)] * (stop - start)
        left += [(2 * i + 1) * places_x // (2 * (stop - start)) for i in range(stop - start)]
    return Boxes(torch.tensor(top), torch.tensor(left), box.height.expand(patches), box.width.expand(patches))


def evaluate_bag(
    encoder: Encoder,
    train: Source,
    test: Source,
    patches: int,
    mode: str = "grid",
    draws: int = DRAWS,
    like: ViewGroup = QUARTER,
) -> dict[str, Any]:
    """The first of what `judge_bag` returns; arguments as there."""
    return judge_bag(encoder, train, test, patches, mode, draws, like)[0]


def judge_bag(
    encoder: Encoder,
    train: Source,
    test: Source,
    patches: int,
    mode: str = "grid",
    draws: int = DRAWS,
    like: ViewGroup = QUARTER,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The probe on bags of features: mean accuracy over draws of the patches, its sd, and what an encoding costs.

    "seconds" is all of it, "seconds_per_1000" the encoding of 1000 samples alone; "sd" is None for a single random
    draw and 0 for a grid; "interval" is over test samples. Beside it, by "bag_knn" and "bag_linear", the share of
    draws, float32 [m], in which each test sample was named correctly.

    Raises:
        InputError: samples without labels, and what `check_bag` and `bag_of_features` refuse.
    """
    mode, draws = check_bag(patches, mode, draws)
    if train.labels is None or test.labels is None:
        raise InputError("samples without labels", "labelled samples", "open them with labels=True")
    whole, encoding = Cost(), Cost()
    found: dict[str, list[float]] = {"knn": [], "linear": []}
    total = {name: np.zeros(len(test)) for name in found}
    with timed(whole):
        for draw in range(draws):
            with timed(encoding):
                x, y = (bag_of_features(encoder, part.samples, patches, mode, like, draw) for part in (train, test))
            judged = FittedProbe(x, train.labels, y, test.labels)
            for name, values in found.items():
                values.append(judged.result[name]["accuracy"])
                total[name] += judged.predictions.of(name)
        with counted_flops() as flops:
            bag_of_features(encoder, train.samples[:1], patches, mode, like)
    summaries = {name: summarise(values) for name, values in found.items()}
    shares = {name: values / draws for name, values in total.items()}
    result = {
        "patches": patches,
        "mode": mode,
        "draws": draws,
        **{name: {"accuracy": mean, "interval": mean_interval(shares[name])} for name, (mean, _) in summaries.items()},
        "sd": {name: 0.0 if mode == "grid" else sd for name, (_, sd) in summaries.items()},
        "forwards_per_sample": patches,
        "flops_per_sample": flops[0],
        "seconds": whole.seconds,
        "seconds_per_1000": 1000 * encoding.seconds / (draws * (len(train) + len(test))),
    }
    return result, {f"bag_{name}": values.astype(np.float32) for name, values in shares.items()}

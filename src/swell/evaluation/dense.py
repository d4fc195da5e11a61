"""The dense probe: how well does a linear classifier on single cells of the feature map tell what every pixel shows?

    result, pictures = evaluate_dense(encoder, Mosaics(train, 1000), Mosaics(test, 1000))
    result["miou"], result["accuracy"]

Fitted is multinomial logistic regression on cells of the map (of a ViT: its patch tokens), with the commonest class of
a cell's pixels; its penalty is chosen on a fifth of the train scenes. For the test its logits are upsampled bilinearly
to pixels and the largest taken: so encoders with different grids are judged on the same pixels. Beside it stand the raw
colours of the cells, the same net with random weights, and the commonest class everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from swell.console import Progress
from swell.data.mosaics import FEWEST_TILES, IGNORE, Mosaics, Scenes, check_tiles
from swell.data.source import Source
from swell.errors import InputError
from swell.evaluation import logistic
from swell.evaluation.baselines import untrained
from swell.evaluation.features import Standardiser, as_features, exact_arithmetic
from swell.evaluation.intervals import RESAMPLES, percentiles
from swell.ledger import Cost, timed
from swell.nets.backbones import Backbone
from swell.nets.encoder import Encoder
from swell.seeding import generator_for, seed_for

DENSE = "swell-dense-1"
SCENES = 1000  # mosaics to learn from, and as many for the test, where there are so many samples
CELLS = 20_000  # cells to learn from
SHOWN = 8  # scenes in the pictures
PIXELS = 1 << 19  # of a batch of scenes: 512 samples of 32 x 32
LOGITS = 1 << 24  # numbers of upsampled logits at once: 64 MiB
SAMPLED = 1 << 22  # scenes drawn at once for the intervals
POINTS = 4  # the baseline of pixels sees a cell as so many times so many colours

CellMap = Callable[[Tensor], Tensor]  # images float [B, C, H, W] in [0, 1] -> cells [B, F, h, w]


@dataclass(frozen=True)
class DenseProbe:
    """A fitted probe: `predict` says what every pixel shows."""

    cells: CellMap
    standardise: Standardiser
    fit: logistic.Fit
    device: torch.device

    @torch.no_grad()
    def predict(self, images: np.ndarray) -> Tensor:
        """Images uint8 [B, C, H, W] -> classes int64 [B, H, W]."""
        found = self.cells(_floats(images, self.device)).float()  # [B, F, h, w]
        b, width, h, w = found.shape
        x = self.standardise(found.permute(0, 2, 3, 1).reshape(-1, width).contiguous())
        logits = self.fit.logits(x).view(b, h, w, -1).permute(0, 3, 1, 2)  # [B, K, h, w]
        return at_pixels(logits, images.shape[2:])


@dataclass(frozen=True)
class DensePictures:
    """Some test scenes as arrays, for a report."""

    images: np.ndarray  # uint8 [S, C, H, W]
    truth: np.ndarray  # int16 [S, H, W], -1 where there is no class
    predicted: np.ndarray  # int16 [S, H, W]
    classes: list[str]


def evaluate_dense(
    encoder: Encoder, train: Scenes, test: Scenes, baselines: bool = True, seed: int = 0
) -> tuple[dict[str, Any], DensePictures]:
    """Accuracy over pixels and mean intersection over union on `test`, what it cost, and some scenes with predictions.

    "iou" holds those of the classes that `test` shows, "miou" is their mean; "interval", of the accuracy, and
    "miou_interval" are over test scenes. "ceiling" is what a probe could reach that knew the commonest class of every
    cell: what is missing there is the grid's fault. "forwards" counts whole scenes, "seconds" are without the
    baselines. Works in eval mode on the encoder's device.

    Raises:
        InputError: train and test scenes of different shape or classes, of other channels than the encoder's, an
            encoder without a feature map, cells of a single class, features that are not finite.
    """
    _check(encoder, train, test)
    cost = Cost()
    was_training = encoder.training
    encoder.eval()
    device = encoder.mean.device
    with timed(cost):
        probe, how = fit_probe(encoder.forward_map, train, device, seed)
        confusion, scenes = _counts(test, lambda images, _: probe.predict(images))
        pictures = pictures_of(probe, test)
    encoder.train(was_training)
    h, w = how["grid"]
    result: dict[str, Any] = {
        "probe": DENSE,
        **scores(confusion, test),
        **scene_intervals(scenes, seed),
        "n_train": len(train),
        "n_test": len(test),
        "ceiling": scores(ceiling(test, h, w), test),
        **how,
        "train": train.describe(),
        "test": test.describe(),
        "seconds": cost.seconds,
        "forwards": len(train) + len(test) + len(pictures.images),
    }
    if baselines:
        others: dict[str, CellMap] = {
            "pixels": lambda x: colours(x, h, w),
            "random_init": untrained(encoder).eval().forward_map,
        }
        result["baselines"] = {
            name: scores(confusion_of(fit_probe(cells, train, device, seed)[0], test), test)
            for name, cells in others.items()
        }
        result["baselines"]["commonest"] = scores(_constant(confusion, how["commonest"]), test)
    return result, pictures


def check_dense(dense: bool, tiles: int | None, masks: Any, test: Any, test_masks: Any) -> None:
    """Raises InputError for settings without the dense probe, mosaics and masks at once, or half a pair of masks."""
    for name, value in (("tiles", tiles), ("masks", masks), ("test masks", test_masks)):
        if value is not None and not dense:
            raise InputError(f"{name} {value} without the dense probe", "--dense beside it", "give both or neither")
    if tiles is not None:
        check_tiles(tiles)
        if masks is not None:
            raise InputError(f"tiles {tiles} and masks {masks}", "mosaics or masks", "leave one of them out")
    if test_masks is not None and (masks is None or test is None):
        raise InputError(f"test masks {test_masks}", "masks and a test set beside them", "give --masks and --test too")
    if masks is not None and test is not None and test_masks is None:
        raise InputError(f"masks {masks} for {test} too", "masks of the test set", "give --test-masks")


def mosaics_of(train: Source, test: Source, tiles: int | None = None) -> tuple[Mosaics, Mosaics]:
    """Mosaics to learn from and for the test: `SCENES` of each, or as many as there are samples."""
    made = [
        Mosaics(source, min(SCENES, len(source)), tiles or FEWEST_TILES, seed)
        for seed, source in enumerate((train, test))
    ]
    return made[0], made[1]


def fit_probe(cells: CellMap, train: Scenes, device: torch.device, seed: int = 0) -> tuple[DenseProbe, dict[str, Any]]:
    """Fit on about `CELLS` cells, as many of every scene of `train` where it has so many, drawn with the seed."""
    each = -(-CELLS // len(train))
    rows, labels, scene_of, pixels = [], [], [], np.zeros(len(train.classes), np.int64)
    for start, images, maps in _batches(train, "learning from scenes"):
        with torch.no_grad():
            found = cells(_floats(images, device)).float()
        h, w = found.shape[2:]
        truth = commonest(maps, h, w, len(train.classes))  # [B, h w]
        flat = found.flatten(2)  # [B, F, h w]
        for i, classes in enumerate(truth):
            known = np.flatnonzero(classes != IGNORE)
            drawn = torch.randperm(len(known), generator=generator_for(seed, "cells", start + i))[:each].numpy()
            places = known[drawn]
            rows.append(flat[i, :, torch.from_numpy(places).to(device)].T)
            labels.append(classes[places])
            scene_of.append(np.full(len(places), start + i))
        pixels += np.bincount(maps[maps != IGNORE], minlength=len(pixels))
    x, y = as_features(torch.cat(rows), "cell"), torch.from_numpy(np.concatenate(labels)).long().to(device)
    if len(y.unique()) < 2:
        raise InputError("cells of a single class", "at least two classes", "give more or other scenes")
    with exact_arithmetic():
        standardise = Standardiser.fit(x)
        split = _split_by_scene(np.concatenate(scene_of), seed)
        fitted, how = logistic.choose_and_fit(standardise(x), y, len(train.classes), seed, split)
    told = {"cells": len(x), "grid": [h, w], "features": x.shape[1], "commonest": int(pixels.argmax()), **how}
    return DenseProbe(cells, standardise, fitted, device), told


def confusion_of(probe: DenseProbe, test: Scenes) -> np.ndarray:
    """Pixels [K, K] by their class (rows) and the predicted one (columns); those without a class are left out."""
    return _confusion(test, lambda images, _: probe.predict(images))


def ceiling(test: Scenes, h: int, w: int) -> np.ndarray:
    """The confusion of a probe that is sure of the commonest class of each of h x w cells, upsampled as all are."""
    k = len(test.classes)

    def predict(_: np.ndarray, maps: np.ndarray) -> Tensor:
        truth = torch.from_numpy(commonest(maps, h, w, k)).long().view(len(maps), h, w)
        sure = F.one_hot(truth.clamp_min(0), k) * (truth != IGNORE)[..., None]
        return at_pixels(sure.permute(0, 3, 1, 2).float(), maps.shape[1:])

    return _confusion(test, predict)


def _confusion(test: Scenes, predict: Callable[[np.ndarray, np.ndarray], Tensor]) -> np.ndarray:
    return _counts(test, predict)[0]


def _counts(test: Scenes, predict: Callable[[np.ndarray, np.ndarray], Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Confusion [K, K] over all pixels, and of each scene the pixels [S, 3, K] that are of a class and named so, that
    are of it, and that are named so.
    """
    k = len(test.classes)
    counts = np.zeros(k * k, np.int64)
    scenes = []
    for _, images, maps in _batches(test, "predicting scenes"):
        predicted, known = predict(images, maps).cpu().numpy(), maps != IGNORE
        truth, named, scene = maps[known].astype(np.int64), predicted[known], known.nonzero()[0]
        counts += np.bincount(truth * k + named, minlength=k * k)
        hit = truth == named
        each = [(scene[hit], truth[hit]), (scene, truth), (scene, named)]
        parts = [np.bincount(rows * k + classes, minlength=len(maps) * k).reshape(-1, k) for rows, classes in each]
        scenes.append(np.stack(parts, 1))
    return counts.reshape(k, k), np.concatenate(scenes)


def scene_intervals(scenes: np.ndarray, seed: int = 0) -> dict[str, list[float]]:
    """Bootstrap intervals over scenes: "interval" of the accuracy over pixels and "miou_interval"; see `_counts`."""
    n, _, k = scenes.shape
    found: dict[str, list[np.ndarray]] = {"interval": [], "miou_interval": []}
    size = max(1, SAMPLED // n)
    for start in range(0, RESAMPLES, size):
        rng = np.random.default_rng(seed_for(seed, "intervals", "scenes", start))
        times = rng.multinomial(n, np.full(n, 1 / n), min(size, RESAMPLES - start))  # how often each scene is drawn
        hits, truth, named = (times @ scenes.reshape(n, 3 * k).astype(np.float64)).reshape(-1, 3, k).swapaxes(0, 1)
        iou = np.divide(hits, truth + named - hits, out=np.zeros(hits.shape), where=truth > 0)
        found["interval"].append(hits.sum(1) / truth.sum(1).clip(1))
        found["miou_interval"].append(iou.sum(1) / (truth > 0).sum(1).clip(1))
    return {name: percentiles(np.concatenate(parts)) for name, parts in found.items()}


def at_pixels(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Logits [B, K, h, w], upsampled bilinearly to `size` (H, W), and the largest taken: classes int64 [B, H, W]."""
    at_once = max(1, LOGITS // (logits.shape[1] * size[0] * size[1]))
    parts = (F.interpolate(part, size, mode="bilinear") for part in logits.split(at_once))
    return torch.cat([part.argmax(1) for part in parts])


def scores(confusion: np.ndarray, scenes: Scenes) -> dict[str, Any]:
    """Accuracy over pixels, IoU = hits / (truth or predicted) of each class that is there, and their mean.

    Raises InputError where no pixel has a class.
    """
    hits, truth, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    present = truth > 0
    if not present.any():
        raise InputError("test scenes without a class anywhere", "pixels with a class", "give other masks")
    iou = hits[present] / (truth + predicted - hits)[present]
    names = [name for name, there in zip(scenes.classes, present, strict=True) if there]
    return {
        "accuracy": float(hits.sum() / truth.sum()),
        "miou": float(iou.mean()),
        "iou": dict(zip(names, iou.tolist(), strict=True)),
    }


def pictures_of(probe: DenseProbe, scenes: Scenes, count: int = SHOWN) -> DensePictures:
    """The first `count` scenes with what every pixel shows and what the probe takes it for."""
    images, maps = scenes[:count]
    return DensePictures(images, maps, probe.predict(images).cpu().numpy().astype(np.int16), list(scenes.classes))


def commonest(maps: np.ndarray, h: int, w: int, classes: int) -> np.ndarray:
    """The commonest class of each of h x w cells: int16 [M, H, W] -> [M, h w]; the lower of equals, `IGNORE` of none.

    A pixel belongs to the cell in which its centre lies.
    """
    m, height, width = maps.shape
    row, column = (np.arange(height) * 2 + 1) * h // (2 * height), (np.arange(width) * 2 + 1) * w // (2 * width)
    cell = np.arange(m)[:, None, None] * (h * w) + row[:, None] * w + column  # [M, H, W]
    known = maps != IGNORE
    counts = np.bincount(cell[known] * classes + maps[known], minlength=m * h * w * classes).reshape(m, h * w, classes)
    return np.where(counts.any(2), counts.argmax(2), IGNORE).astype(np.int16)


def colours(x: Tensor, h: int, w: int) -> Tensor:
    """The colours of h x w cells at `POINTS` x `POINTS` places each: [B, C, H, W] -> [B, C POINTS^2, h, w]."""
    points = F.interpolate(x, (h * POINTS, w * POINTS), mode="bilinear", antialias=True)
    return F.pixel_unshuffle(points, POINTS)


def _check(encoder: Encoder, train: Scenes, test: Scenes) -> None:
    if type(encoder.backbone).forward_map is Backbone.forward_map:
        raise InputError(f"backbone {encoder.config.backbone}", "one with a feature map", "leave out the dense probe")
    if train.shape[0] != encoder.config.shape[0] or train.shape != test.shape:
        given = f"scenes {list(train.shape)} to learn from and {list(test.shape)} for the test"
        raise InputError(given, f"scenes of one shape with {encoder.config.shape[0]} channels")
    if list(train.classes) != list(test.classes):
        given = f"test scenes of the classes {list(test.classes)[:5]}"
        raise InputError(given, f"those of the train scenes, {list(train.classes)[:5]}", "give scenes of one kind")


def _floats(images: np.ndarray, device: torch.device) -> Tensor:
    return torch.tensor(images, device=device).float().div_(255).contiguous(memory_format=torch.channels_last)


def _batches(scenes: Scenes, title: str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(number of the first, images, maps) of a few scenes at a time; how few depends on their size alone."""
    batch = max(1, PIXELS // (scenes.shape[1] * scenes.shape[2]))
    with Progress(title, len(scenes), "scenes") as bar:
        for start in range(0, len(scenes), batch):
            yield start, *scenes[start : start + batch]
            bar.update(min(start + batch, len(scenes)))


def _split_by_scene(scene_of: np.ndarray, seed: int) -> tuple[Tensor, int]:
    """An order of the cells, those of a random fifth of the scenes last, and how many come before them.

    Cells of one scene stay together: neighbours are so alike that a penalty chosen on them would be too weak.
    """
    scenes = np.unique(scene_of)
    drawn = torch.randperm(len(scenes), generator=generator_for(seed, "dense", "penalty")).numpy()
    held = np.isin(scene_of, scenes[drawn[: int(logistic.VALIDATION_SHARE * len(scenes) + 0.5)]])
    order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
    return torch.from_numpy(order), int((~held).sum())


def _constant(confusion: np.ndarray, predicted: int) -> np.ndarray:
    """The confusion of a probe that takes every pixel for `predicted`."""
    out = np.zeros_like(confusion)
    out[:, predicted] = confusion.sum(1)
    return out

"""What every part of the probe does to features first: check, standardise, bring to unit length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swell.errors import InputError

Array = np.ndarray | Tensor
_CHUNK = 1 << 22  # numbers turned to float64 at a time: 32 MiB


@dataclass(frozen=True)
class Split:
    """Features and labels of one split, checked; labels index the sorted classes of train and test."""

    x: Tensor  # [n, D] float32
    y: Tensor  # [n] int64


def as_features(x: Array, what: str) -> Tensor:
    """`x` as finite float32 [n, D], n, D >= 1, where it lies (a device without float64 gives way to the CPU).

    Raises:
        InputError: for another shape, an empty array, or features that are not finite in float32.
    """
    z = x.detach() if isinstance(x, Tensor) else _from_numpy(x, what)
    z = (z.cpu() if z.device.type == "mps" else z).float().contiguous()
    if z.ndim != 2 or 0 in z.shape:
        raise InputError(f"{what} features {list(z.shape)}", "a non-empty array [n, D]", "one row a sample")
    bad = sum(int((~rows.isfinite()).any(1).sum()) for rows in chunks(z))
    if bad:
        raise InputError(
            f"{what} features with {bad} of {len(z)} rows not finite",
            "finite float32 numbers",
            "look for a diverged encoder or missing values in the input",
        )
    return z


def _from_numpy(x: np.ndarray, what: str) -> Tensor:
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which the caller refuses
            a = np.ascontiguousarray(x, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} features ({error})", "an array of numbers [n, D]") from error
    return torch.from_numpy(a if a.flags.writeable else a.copy())


def as_labels(y: Array, n: int, what: str) -> np.ndarray:
    """`y` as int64 [n], none negative.

    Raises:
        InputError: for another shape, another length, labels that are not whole numbers, or negative ones.
    """
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if labels.shape != (n,):
        raise InputError(f"{what} labels {list(labels.shape)} for {n} rows", "one label a row")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{what} labels of type {labels.dtype}", "integers", "number the classes from 0")
    if int(labels.min()) < 0:
        raise InputError(f"{what} label {labels.min()}", "labels from 0 up", "leave out the rows without a label")
    return labels.astype(np.int64)


def as_splits(train_x: Array, train_y: Array, test_x: Array, test_y: Array) -> tuple[Split, Split, np.ndarray]:
    """Both splits, checked against each other, and the sorted classes of the two together.

    Raises:
        InputError: for what `as_features` and `as_labels` refuse, unequal widths, or fewer than two classes
        in train.
    """
    a = as_features(train_x, "train")
    b = as_features(test_x, "test").to(a.device)
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"train features of width {a.shape[1]}, test of width {b.shape[1]}",
            "equal widths",
            "encode both with the same encoder",
        )
    la, lb = as_labels(train_y, len(a), "train"), as_labels(test_y, len(b), "test")
    if len(np.unique(la)) < 2:
        raise InputError(f"train labels that are all {la[0]}", "at least two classes", "choose another label")
    classes = np.unique(np.concatenate([la, lb]))
    ya, yb = (torch.from_numpy(np.searchsorted(classes, y)).to(a.device) for y in (la, lb))
    return Split(a, ya), Split(b, yb), classes


def chunks(x: Tensor) -> Iterator[Tensor]:
    """Blocks of rows of `x` [n, D], small enough to be copied in float64."""
    yield from torch.split(x, max(1, _CHUNK // x.shape[1]))


def unit_rows(x: Tensor) -> Tensor:
    """Rows of `x` [n, D] at length one; zeros stay zeros. Scaled first, so huge rows do not overflow."""
    peak = x.abs().amax(1, keepdim=True)
    scaled = x / torch.where(peak > 0, peak, 1.0)
    return scaled / scaled.norm(dim=1, keepdim=True).clamp_min(1e-12)


@dataclass(frozen=True)
class Standardiser:
    """x -> (x - mean) / sd per feature. A feature that is constant up to float32 rounding becomes 0."""

    mean: Tensor  # [D] float64
    sd: Tensor  # [D] float64, infinite where the feature is constant

    @classmethod
    def fit(cls, x: Tensor) -> Standardiser:
        """Mean and sd (divided by n) of the rows of `x` [n, D], accumulated in float64, two passes."""
        mean = torch.stack([rows.double().sum(0) for rows in chunks(x)]).sum(0) / len(x)
        var = torch.stack([(rows.double() - mean).square().sum(0) for rows in chunks(x)]).sum(0) / len(x)
        sd = var.sqrt()
        return cls(mean, torch.where(sd > 1e-6 * mean.abs(), sd, torch.inf))

    def __call__(self, x: Tensor) -> Tensor:
        """Standardised rows [n, D] in the precision of `x`."""
        out = torch.empty_like(x)
        for source, target in zip(chunks(x), chunks(out), strict=True):
            target.copy_((source.double() - self.mean) / self.sd)
        return out


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Full float32 products, no gradient, no autocast, whatever the training around it has switched on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def accuracy(predicted: Tensor, truth: Tensor) -> float:
    """Share of rows predicted right."""
    return (predicted == truth).double().mean().item()


def balanced_accuracy(predicted: Tensor, truth: Tensor) -> float:
    """Mean over the classes present in `truth` of the share of their rows predicted right."""
    rows = truth.bincount()
    right = truth[predicted == truth].bincount(minlength=len(rows))
    return (right[rows > 0] / rows[rows > 0]).double().mean().item()

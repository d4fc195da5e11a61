"""Counts of molecules (cells x genes) made ready for a net: library size, log1p, variable genes, unit variance.

Every step works on a chunk of sparse rows, so a matrix given dense and the same one given sparse end in the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from swell.data.sparse import ROWS_AT_ONCE, SparseRows
from swell.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GENES = 2000  # most variable genes kept where nobody chose them
LIMIT = 10.0  # scaled values beyond it are clipped: single cells with 30 times the spread pull a net
_BINS = np.arange(10, 100, 5)  # percentiles of the mean expression between which genes are compared


def chunks(raw: np.ndarray | csr_array) -> Iterator[tuple[slice, csr_array]]:
    """The rows in chunks, each sparse in float64, whichever way they were given."""
    from scipy.sparse import csr_array

    for start in range(0, raw.shape[0], ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, raw.shape[0]))
        yield rows, csr_array(raw[rows]).astype(np.float64)


def kind_of_cells(raw: np.ndarray | csr_array) -> str:
    """counts (whole numbers), logged (fractions, none negative) or none (negative values: scaled already).

    Raises:
        InputError: NaN or infinite values.
    """
    values = raw if isinstance(raw, np.ndarray) else raw.data
    whole, low = True, 0.0
    for start in range(0, len(values), 65536):
        part = values[start : start + 65536]
        if not np.isfinite(part).all():
            raise InputError("NaN or infinite values among the counts", "finite numbers", "remove or fill them")
        whole = whole and bool((part == np.rint(part)).all())
        low = min(low, float(part.min(initial=0.0)))
    if low < 0:
        return "none"
    return "counts" if whole else "logged"


def library_sizes(raw: np.ndarray | csr_array, measured: np.ndarray) -> np.ndarray:
    """Sum over the genes `measured` (bool [D]) of every cell, float64 [N]."""
    weights = measured.astype(np.float64)
    return np.concatenate([part @ weights for _, part in chunks(raw)])


def logged(part: csr_array, sizes: np.ndarray, target: float) -> csr_array:
    """log(1 + x target / size) of the rows of `part`; with target 0 as they are, being logged already."""
    if target:
        scale = np.divide(target, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        part = part.copy()
        part.data = np.log1p(part.data * np.repeat(scale, np.diff(part.indptr)))
    return part


def dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """How much more a gene varies than others of like mean expression: [D], -inf where it is never seen.

    Variance over mean, minus the median and over the median absolute deviation of its bin; the bins hold equal shares
    of the genes. Of counts without the logarithm. Source: Zheng et al. 2017 (10x), Nature Communications 8:14049.
    """
    seen = (mean > 0) & (variance > 0)
    out = np.full(len(mean), -np.inf)
    if not seen.any():
        return out
    ratio = variance[seen] / mean[seen]
    bins = np.digitize(mean[seen], np.percentile(mean[seen], _BINS))
    scores = np.empty(len(ratio))
    overall = np.median(np.abs(ratio - np.median(ratio))) or 1.0
    for b in np.unique(bins):
        here = bins == b
        middle = np.median(ratio[here])
        scores[here] = (ratio[here] - middle) / (np.median(np.abs(ratio[here] - middle)) or overall)
    out[seen] = scores
    return out


def fit_counts(
    raw: np.ndarray | csr_array, kind: str, chosen: np.ndarray | None, groups: np.ndarray, group_count: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `apply_counts` needs, learnt from these cells: (settings, arrays).

    Args:
        raw: [N, D], counts, or logged where `kind` says so.
        chosen: bool [D], the genes to keep; None chooses the `GENES` most variable, the mean over the groups.
        groups: int64 [N], the batch of each cell, all 0 without batches.

    Raises:
        InputError: negative counts, no cell with a count, fewer than two genes that vary.
    """
    genes = raw.shape[1]
    sizes, target = np.ones(raw.shape[0]), 0.0
    if kind == "counts":
        sizes = library_sizes(raw, np.ones(genes, bool))
        if not (sizes > 0).any():
            raise InputError("cells without a single count", "counts", "give another layer")
        target = float(np.median(sizes[sizes > 0]))
    # Per group: sums and squares of the logged values and of the plain ones, which rank the genes.
    sums = np.zeros((4, group_count, genes))
    for rows, part in chunks(raw):
        if part.data.min(initial=0.0) < 0:
            raise InputError("negative counts", "counts of 0 and more", "prepare them as none, or give another layer")
        values = logged(part, sizes[rows], target)
        plain = np.expm1(values.data)
        owner = np.repeat(groups[rows], np.diff(part.indptr))
        for g in np.unique(owner):
            here = owner == g
            columns = part.indices[here]
            for k, weights in enumerate((values.data, values.data**2, plain, plain**2)):
                sums[k, g] += np.bincount(columns, weights[here], genes)
    cells = np.bincount(groups, minlength=group_count).astype(np.float64)[:, None]
    pooled = np.concatenate([sums, sums.sum(1, keepdims=True)], 1) / np.concatenate([cells, cells.sum(0)[None]])
    mean, plain_mean = pooled[0], pooled[2]
    variance, plain_variance = np.maximum(pooled[1] - mean**2, 0), np.maximum(pooled[3] - plain_mean**2, 0)
    if chosen is None:
        varies = variance[-1] > 1e-12
        if varies.sum() > GENES:
            each = [dispersion(plain_mean[g], plain_variance[g]) for g in range(group_count)]
            score = np.where(varies, np.mean(np.maximum(each, -1e9), 0), -np.inf)
            varies = np.zeros(genes, bool)
            varies[np.argsort(-score, kind="stable")[:GENES]] = True
        chosen = varies
    if chosen.sum() < 2:
        raise InputError(f"{chosen.sum()} genes that vary", "at least 2", "give more cells or another layer")
    at = np.flatnonzero(chosen)
    deviation = np.sqrt(variance[:, at])
    deviation[deviation < 1e-6] = 1.0  # a gene that is constant, in all cells or in a batch, stays at its mean
    scale = (1 / deviation).astype(np.float32)
    arrays = {"genes": at.astype(np.int64), "scale": scale, "shift": (mean[:, at] * scale).astype(np.float32)}
    return {"target": target, "limit": LIMIT}, arrays


def apply_counts(
    raw: np.ndarray | csr_array,
    columns: np.ndarray,
    groups: np.ndarray,
    target: float,
    limit: float,
    arrays: dict[str, np.ndarray],
) -> SparseRows | np.ndarray:
    """The cells as `fit_counts` learnt: SparseRows of sparse ones, float32 [N, d] of dense ones.

    Args:
        columns: int64 [D of the fit], where each gene lies in `raw`; -1 where it is missing. A missing gene is given
            the mean of the pre-training data, which is 0 after the shift.
        groups: int64 [N], rows of scale and shift.
    """
    from scipy.sparse import csr_array, vstack

    genes, scale, shift = arrays["genes"], arrays["scale"], arrays["shift"]
    measured = np.zeros(raw.shape[1], bool)
    measured[columns[columns >= 0]] = True
    sizes = library_sizes(raw, measured) if target else np.ones(raw.shape[0])
    missing = columns[genes] < 0
    shift = np.where(missing, np.float32(0), shift)
    place = np.full(raw.shape[1], -1)  # column of raw -> column of the result
    place[columns[genes[~missing]]] = np.flatnonzero(~missing)
    dense = np.empty((raw.shape[0], len(genes)), np.float32) if isinstance(raw, np.ndarray) else None
    parts: list[Any] = []
    for rows, whole in chunks(raw):
        kept = place[whole.indices] >= 0
        counts = np.diff(np.concatenate([[0], np.cumsum(kept)])[whole.indptr])
        pointers = np.concatenate([[0], np.cumsum(counts)])
        part = csr_array(
            (whole.data[kept], place[whole.indices[kept]], pointers), shape=(whole.shape[0], len(genes)), copy=False
        )
        part = logged(part, sizes[rows], target)
        owner = np.repeat(groups[rows], counts)
        part.data = part.data.astype(np.float32) * scale[owner, part.indices]
        part.sort_indices()
        if dense is not None:
            dense[rows] = SparseRows.from_csr(part, shift, groups[rows], limit)[:]
        else:
            parts.append(part)
    several = groups if len(shift) > 1 else None
    return dense if dense is not None else SparseRows.from_csr(vstack(parts, "csr"), shift, several, limit)


def groups_of(batches: np.ndarray | None, known: Sequence[str], count: int) -> np.ndarray:
    """int64 [N]: which of the K `known` batches a cell is of; K, the row of all cells pooled, for any other."""
    if batches is None or not known:
        return np.full(count, len(known), np.int64)
    place = {name: k for k, name in enumerate(known)}
    names, codes = np.unique(batches.astype(str), return_inverse=True)
    return np.array([place.get(str(name), len(known)) for name in names], np.int64)[codes]

"""Tables made ready for a net: numbers standardised or mapped by quantiles, words one-hot, gaps filled and flagged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from swell.errors import InputError

LIMIT = 10.0  # standard deviations beyond which a number is clipped
HEAVY = 6.0  # a column with a value that many standard deviations out is mapped by its quantiles
KNOTS = 1000  # points of a quantile map
VALUES = 100  # most categories of a column that get a feature each; rarer ones get none
_BLOCK = 256  # columns that are float64 at a time


@dataclass(frozen=True)
class Words:
    """A column of categories: `codes` int64 [N] into `values`, -1 where the cell is empty."""

    name: str
    codes: np.ndarray
    values: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """N rows: `numbers` float or integer [N, P], NaN where a cell is empty, and columns of categories."""

    numbers: np.ndarray
    names: tuple[str, ...]  # of the P columns of numbers
    words: tuple[Words, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.names, *(column.name for column in self.words))

    def __getitem__(self, rows: slice | np.ndarray) -> Table:
        return Table(self.numbers[rows], self.names, tuple(replace(w, codes=w.codes[rows]) for w in self.words))


def _blocks(numbers: np.ndarray, columns: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(columns), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(columns)))
        yield part, numbers[:, columns[part]].astype(np.float64)


def fit_table(table: Table, scaling: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `apply_table` needs, learnt from these rows: (settings, arrays).

    Columns of numbers without a single one are left out, as are columns of words of which as good as every one differs:
    names of things, which tell nothing.

    Args:
        scaling: standard, quantile or auto, which maps the columns with heavy tails by their quantiles.

    Raises:
        InputError: infinite numbers; no column that tells rows apart.
    """
    every = np.arange(len(table.names))
    filled, flagged = np.zeros(len(every), bool), np.zeros(len(every), bool)
    mean, deviation = np.zeros(len(every)), np.ones(len(every))
    heavy = np.full(len(every), scaling == "quantile")
    grid = np.linspace(0, 1, min(KNOTS, len(table)))
    maps: dict[int, np.ndarray] = {}
    for part, a in _blocks(table.numbers, every):
        empty = np.isnan(a)
        _require_finite(a, empty, table.names[part])
        count = (~empty).sum(0)
        filled[part], flagged[part] = count > 0, empty.any(0)
        mean[part] = np.where(empty, 0, a).sum(0) / np.maximum(count, 1)
        centred = np.where(empty, 0, a - mean[part])
        spread = np.sqrt((centred**2).sum(0) / np.maximum(count, 1))
        deviation[part] = np.where(spread > 1e-12 * np.maximum(1, np.abs(mean[part])), spread, 1.0)
        if scaling == "auto":
            for j in np.flatnonzero(np.abs(centred).max(0) > HEAVY * deviation[part]):
                heavy[part.start + j] = len(np.unique(a[:, j])) > 20
        for j in np.flatnonzero(heavy[part] & filled[part]):
            maps[part.start + int(j)] = np.quantile(a[~empty[:, j], j], grid)
    used = np.flatnonzero(filled)
    mapped = [j for j, column in enumerate(used) if int(column) in maps]
    knots = np.array([maps[int(used[j])] for j in mapped]).reshape(len(mapped), len(grid))
    kept = [w for w in table.words if 1 < len(np.unique(w.codes[w.codes >= 0])) <= max(20, len(table) // 2)]
    names = [table.names[j] for j in used]
    told = {*names, *(w.name for w in kept)}
    settings = {
        "numbers": names,
        "flagged": [table.names[j] for j in used if flagged[j]],
        "quantile": [names[j] for j in mapped],
        "words": {w.name: _most_frequent(w) for w in kept},
        "flagged_words": [w.name for w in kept if (w.codes < 0).any()],
        "left_out": [name for name in table.columns if name not in told],
        "limit": LIMIT,
    }
    if not names and not kept:
        raise InputError(f"columns {', '.join(table.columns[:5])}", "numbers, or words that rows share")
    return settings, {"mean": mean[used], "deviation": deviation[used], "knots": knots}


def _require_finite(a: np.ndarray, empty: np.ndarray, names: Sequence[str]) -> None:
    bad = np.isinf(a) & ~empty
    if bad.any():
        column, row = np.argwhere(bad.T)[0]
        raise InputError(f"column {names[column]!r}: infinite in row {row}", "finite numbers or empty cells", "mend it")


def _most_frequent(words: Words) -> list[str]:
    seen = np.bincount(words.codes[words.codes >= 0], minlength=len(words.values))
    order = np.argsort(-seen, kind="stable")[:VALUES]
    return sorted(words.values[k] for k in order if seen[k])


def features_of(settings: dict[str, Any]) -> tuple[str, ...]:
    """Names of the features that `apply_table` makes, in their order."""
    flags = [f"{name} is empty" for name in (*settings["flagged"], *settings["flagged_words"])]
    return (*settings["numbers"], *(f"{w} = {v}" for w, values in settings["words"].items() for v in values), *flags)


def apply_table(table: Table, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The rows as `fit_table` learnt, float32 [N, F]: numbers, categories, flags. `table` holds every column it names.

    An empty cell becomes the mean (of a mapped column the median), which is 0, and all 0 among categories, as does a
    category that was never seen.
    """
    place = {name: j for j, name in enumerate(table.names)}
    out = np.zeros((len(table), len(features_of(settings))), np.float32)
    names = settings["numbers"]
    mapped = {name: k for k, name in enumerate(settings["quantile"])}
    flags = {name: out.shape[1] - len(settings["flagged"]) - len(settings["flagged_words"]) + k
             for k, name in enumerate((*settings["flagged"], *settings["flagged_words"]))}  # fmt: skip
    for part, a in _blocks(table.numbers, np.array([place[name] for name in names], int)):
        empty = np.isnan(a)
        _require_finite(a, empty, names[part])
        scaled = (a - arrays["mean"][part]) / arrays["deviation"][part]
        for j, name in enumerate(names[part]):
            if name in mapped:
                scaled[:, j] = normal_scores(a[:, j], arrays["knots"][mapped[name]])
            if name in flags:
                out[:, flags[name]] = empty[:, j]
        out[:, part] = np.clip(np.where(empty, 0, scaled), -settings["limit"], settings["limit"])
    at = len(names)
    words = {column.name: column for column in table.words}
    for name, values in settings["words"].items():
        column = words[name]
        known = {value: k for k, value in enumerate(values)}
        codes = np.array([*(known.get(value, -1) for value in column.values), -1])[column.codes]
        rows = np.flatnonzero(codes >= 0)
        out[rows, at + codes[rows]] = 1
        if name in flags:
            out[:, flags[name]] = column.codes < 0
        at += len(values)
    return out


def normal_scores(a: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """[N] -> the normal quantile of each one's rank among the data of the fit; ties get the middle of their ranks.

    What lies outside the data of the fit gets the rank of half a knot.
    """
    from scipy.special import ndtri

    grid = np.linspace(0, 1, len(knots))
    rank = 0.5 * (np.interp(a, knots, grid) - np.interp(-a, -knots[::-1], grid) + 1)
    least = 0.5 / len(knots)
    return ndtri(np.clip(rank, least, 1 - least))

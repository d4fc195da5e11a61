"""Preparation: what is done to raw vectors before any net sees them, learnt on the pre-training data and stored.

    prepared = Preparation.fit(raw, names)          # chosen by the data
    x = prepared.apply(raw, names)                  # float32 [N, F], or SparseRows of sparse counts
    prepared.save("preparation.safetensors")        # a run keeps it, and encodes later data with it

Kinds: `counts` (library size to the median, log1p, the 2,000 most variable genes, unit variance, clipped at 10),
`logged` (the same for counts that somebody has normalised and logged before), `table` (numbers standardised or mapped
by their quantiles, words one-hot, empty cells filled and flagged), `none` (numbers as they are).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from
from safetensors.numpy import save as tensor_bytes

from swell.console import warn
from swell.data.columns import Table, apply_table, features_of, fit_table
from swell.data.counts import apply_counts, fit_counts, groups_of, kind_of_cells
from swell.errors import InputError, suggest
from swell.files import write_bytes

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from swell.data.sparse import SparseRows

    Matrix: TypeAlias = np.ndarray | csr_array

__all__ = ["KINDS", "Preparation"]

FORMAT = "swell-preparation-1"
KINDS = ("counts", "logged", "table", "none")
MISSING = 0.2  # largest share of the genes a net sees that later data may lack
_AGAIN = "copy the run again, or repeat it"


@dataclass(frozen=True, eq=False)
class Preparation:
    """How raw vectors become samples. `settings` are plain values, `arrays` what was learnt; see `fit` and `load`."""

    kind: str
    names: tuple[str, ...]  # features of the raw data, in order; () where they have no names
    width: int  # how many there were
    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        raw: Matrix | Table,
        names: Sequence[str] = (),
        kind: str = "auto",
        *,
        scaling: str = "auto",
        chosen: np.ndarray | None = None,
        batches: np.ndarray | None = None,
        about: Mapping[str, str] | None = None,
    ) -> Preparation:
        """Learn it from `raw`: an array or SciPy's CSR [N, D], or a `Table`.

        Args:
            names: of the D features; a table has its own.
            kind: one of `KINDS`; auto: of sparse data what `kind_of_cells` says, else table.
            scaling: of a table's numbers: standard, quantile or auto (`fit_table`).
            chosen: bool [D], the genes to keep, as in var["highly_variable"].
            batches: [N], words; genes are ranked, centred and scaled within each batch.
            about: where the raw data lay (layer, batch key), so that later data are read from the same place.

        Raises:
            InputError: an unknown kind; names that repeat; values the kind has no place for.
        """
        if kind not in ("auto", *KINDS):
            raise InputError(f"preparation {kind!r}", f"auto, {', '.join(KINDS)}", suggest(kind, KINDS))
        names = raw.columns if isinstance(raw, Table) else tuple(map(str, names))
        _require_unique(names)
        width = len(names) if isinstance(raw, Table) else raw.shape[1]
        if kind == "auto":
            kind = "table" if isinstance(raw, (Table, np.ndarray)) else kind_of_cells(raw)
        extra: dict[str, Any] = dict(about or {})
        if kind == "table":
            table = _as_table(raw, names)
            settings, arrays = fit_table(table, scaling)
            return cls(kind, names, width, settings | extra, arrays)
        matrix = _as_matrix(raw)
        if kind == "none":
            kept = {} if chosen is None else {"genes": np.flatnonzero(chosen)}
            return cls(kind, names, width, extra, kept)
        known = [] if batches is None else sorted(set(batches.astype(str).tolist()))
        groups = groups_of(batches, known, matrix.shape[0])
        settings, arrays = fit_counts(matrix, kind, chosen, groups, max(1, len(known)))
        settings["whole"] = kind_of_cells(matrix) == "counts"
        if not known:  # one group, and all cells pooled, are the same
            arrays |= {name: arrays[name][-1:] for name in ("scale", "shift")}
        return cls(kind, names, width, settings | extra | {"batches": known}, arrays)

    def apply(
        self,
        raw: Matrix | Table,
        names: Sequence[str] = (),
        *,
        batches: np.ndarray | None = None,
        quiet: bool = True,
        kinds: set[str] | None = None,
    ) -> np.ndarray | SparseRows:
        """Raw vectors as the samples of the fit: float32 [N, F], or SparseRows of sparse counts.

        Features are matched by name where both have names, else by place. Ones that were not there at the fit are left
        out. Cells may lack up to a fifth of the genes a net sees (they get the mean of the pre-training data; without
        `quiet` a line says how many); a table may lack no column. A batch that was not there at the fit is scaled as
        all cells of the fit together. Of a part of some data, `kinds` is given what its values look like, to be judged
        for all parts together by `require_alike`: a few cells alone do not tell counts from logged values.

        Raises:
            InputError: features that are missing or of another number; values that are not finite.
        """
        given = raw.columns if isinstance(raw, Table) else tuple(map(str, names))
        if self.kind == "table":
            if not isinstance(raw, Table) and not given:
                self._columns((), raw.shape[1])  # refuses another number of them
            table = self._matched(_as_table(raw, given or self.names))
            return apply_table(table, dict(self.settings), dict(self.arrays))
        matrix = _as_matrix(raw)
        columns = self._columns(given, matrix.shape[1])
        if self.kind == "none":
            return _plain(matrix, columns[self.arrays["genes"]] if "genes" in self.arrays else columns)
        missing = [self.names[j] for j in self.arrays["genes"] if columns[j] < 0]
        if missing:
            self._require_few(missing, len(self.arrays["genes"]))
            if not quiet:
                share = f"{len(missing):,} of {len(self.arrays['genes']):,} genes"
                warn(f"{share} are missing (first {missing[0]}); they are given the mean of the pre-training data")
        seen = {kind_of_cells(matrix)}
        if kinds is None or "none" in seen:
            self.require_alike(seen)
        else:
            kinds |= seen
        known = self.settings["batches"]
        groups = groups_of(batches, known, matrix.shape[0])
        return apply_counts(matrix, columns, groups, self.settings["target"], self.settings["limit"], dict(self.arrays))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the F features of a prepared sample; their places as text where they have none."""
        if self.kind == "table":
            return features_of(dict(self.settings))
        places = self.arrays["genes"].tolist() if "genes" in self.arrays else range(self.width)
        return tuple(self.names[j] if self.names else str(j) for j in places)

    @property
    def feature_count(self) -> int:
        """F, without a name made for each: a file may claim a width that memory could not list."""
        if self.kind == "table":
            return len(features_of(dict(self.settings)))
        return len(self.arrays["genes"]) if "genes" in self.arrays else self.width

    @property
    def layer(self) -> str:
        """Where in an AnnData file the values lay: a layer, raw, or "" for X."""
        return str(self.settings.get("layer", ""))

    @property
    def batch(self) -> str:
        """The column of obs that tells the batch, or ""."""
        return str(self.settings.get("batch", ""))

    def describe(self) -> str:
        """What it does, in one line."""
        s, count = self.settings, self.feature_count
        where = f" of layer {self.layer}" if self.layer else ""
        if self.kind == "none":
            return f"none: {count:,} numbers{where} as they are"
        if self.kind == "table":
            parts = [f"{len(s['numbers'])} columns of numbers ({len(s['quantile'])} mapped by their quantiles)"]
            parts += [f"{len(s['words'])} of categories"] if s["words"] else []
            flags = len(s["flagged"]) + len(s["flagged_words"])
            parts += [f"{flags} flags of empty cells"] if flags else []
            parts += [f"left out {', '.join(s['left_out'][:5])}"] if s["left_out"] else []
            return f"table: {'; '.join(parts)}: {count:,} features"
        first = f"library size to {s['target']:,.0f}, log1p" if s["target"] else "logged already"
        within = f" within {len(s['batches'])} batches of {self.batch or 'cells'}" if s["batches"] else ""
        return (
            f"{self.kind}{where}: {first}, {count:,} of {self.width:,} genes, unit variance{within}, "
            f"clipped at {s['limit']:g}"
        )

    @property
    def fingerprint(self) -> str:
        """sha256 of what `save` writes (first 16 hex digits)."""
        return sha256(self._bytes()).hexdigest()[:16]

    def save(self, path: Path | str) -> None:
        """One .safetensors file: the arrays, and the rest as JSON in its header."""
        write_bytes(path, self._bytes())

    @classmethod
    def load(cls, path: Path | str) -> Preparation:
        """Raises InputError when the file is missing, damaged or none of ours."""
        try:
            content = Path(path).read_bytes()
            arrays = dict(tensors_from(content))
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            stored = json.loads(header["__metadata__"]["preparation"])
            if stored["format"] != FORMAT:
                raise ValueError(f"format {stored['format']!r}")
            made = cls.restored(stored, arrays)
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
                RecursionError) as error:  # fmt: skip
            raise InputError(f"{path} ({error})", "the preparation swell wrote", _AGAIN) from None
        return made

    @classmethod
    def restored(cls, stored: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Preparation:
        """From kind, names, width and settings, and the arrays. Raises ValueError, TypeError, LookupError or the like
        where parts do not fit together.
        """
        names, width, settings = tuple(map(str, stored["names"])), int(stored["width"]), dict(stored["settings"])
        made = cls(str(stored["kind"]), names, width, settings, arrays)
        made._check()
        return made

    def _bytes(self) -> bytes:
        head = {"format": FORMAT, "kind": self.kind, "names": self.names, "width": self.width}
        text = json.dumps({**head, "settings": dict(self.settings)}, sort_keys=True)
        tensors = {name: np.ascontiguousarray(a) for name, a in self.arrays.items()}
        return tensor_bytes(tensors, {"preparation": text})

    def _check(self) -> None:
        """Raises one of the errors `load` catches where parts do not fit together."""
        s, a = self.settings, self.arrays
        if self.kind not in KINDS or len(self.names) not in (0, self.width):
            raise ValueError(f"{self.kind} of {self.width} features with {len(self.names)} names")
        if not all(np.isfinite(part).all() for part in a.values()):
            raise ValueError("NaN or infinite numbers")
        if self.kind == "table":
            wide = len(s["numbers"])
            fits = a["mean"].shape == a["deviation"].shape == (wide,) and len(a["knots"]) == len(s["quantile"])
            fits = fits and all(map(self._known(), {*s["numbers"], *s["words"]}))
            fits = fits and {*s["flagged"], *s["quantile"]} <= {*s["numbers"]} and s["limit"] > 0
            fits = fits and {*s["flagged_words"]} <= {*s["words"]} and features_of(dict(s)) != ()
        else:
            genes = a.get("genes", np.zeros(0, np.int64))
            fits = genes.dtype == np.int64 and genes.ndim == 1 and bool(((genes >= 0) & (genes < self.width)).all())
            if self.kind != "none":
                shape = (len(s["batches"]) + 1, len(genes))
                fits = fits and a["scale"].shape == a["shift"].shape == shape and len(genes) > 0
                fits = fits and s["target"] >= 0 and s["limit"] > 0 and isinstance(s["whole"], bool)
        if not fits:
            raise ValueError("parts that do not fit together")

    def _known(self) -> Callable[[str], bool]:
        """Whether a column is one of the fit; without names they are called by their places, of which a file may claim
        more than memory could list."""
        if self.names:
            return {*self.names}.__contains__
        return lambda name: name.isdecimal() and name == str(int(name)) and int(name) < self.width

    def _columns(self, given: tuple[str, ...], width: int) -> np.ndarray:
        """int64 [D of the fit]: where each raw feature lies in data with the names `given`, -1 where it does not."""
        _require_unique(given)
        if not self.names or not given:
            if width != self.width:
                raise InputError(f"vectors of {width:,} features", f"{self.width:,}, as in pre-training")
            return np.arange(width)
        place = {name: j for j, name in enumerate(given)}
        return np.array([place.get(name, -1) for name in self.names], np.int64)

    def _matched(self, table: Table) -> Table:
        """Raises InputError where a column is missing, or holds words where it held numbers."""
        for kind, wanted, there in (
            ("numbers", self.settings["numbers"], table.names),
            ("words", self.settings["words"], tuple(w.name for w in table.words)),
        ):
            known = set(there)
            lost = [name for name in wanted if name not in known]
            if lost and lost[0] in table.columns:
                raise InputError(
                    f"column {lost[0]!r} of another kind", f"{kind}, as in pre-training", "mend the column"
                )
            if lost:
                few = ", ".join(map(repr, lost[:3]))
                hint = "a column that is asked for as labels now cannot have been a feature before"
                raise InputError(f"{len(lost)} columns missing ({few})", "the columns of pre-training", hint)
        return table

    def require_alike(self, kinds: set[str]) -> None:
        """Raises InputError where parts of some data, of these kinds of cells, are not what the fit saw."""
        if "none" in kinds:
            raise InputError("negative values", "counts as in pre-training", "give the layer that holds counts")
        if kinds and (kinds == {"counts"}) != self.settings["whole"]:
            then, words = self.settings["whole"], {True: "whole counts", False: "counts with fractions, as after log1p"}
            raise InputError(words[not then], f"{words[then]}, as in pre-training", "give the layer that holds them")

    def _require_few(self, missing: list[str], of: int) -> None:
        if len(missing) > MISSING * of:
            given = f"{len(missing):,} of {of:,} genes missing (first {', '.join(missing[:3])})"
            raise InputError(given, f"at most {MISSING:.0%}", "use the same gene names, symbols or identifiers")


def _require_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        raise InputError(
            f"{len(twice):,} feature names that occur twice (first {twice[0]!r})",
            "a name of its own for each",
            "of an AnnData: adata.var_names_make_unique()",
        )


def _as_table(raw: Matrix | Table, names: Sequence[str]) -> Table:
    if isinstance(raw, Table):
        return raw
    if not isinstance(raw, np.ndarray):
        raise InputError("a sparse matrix prepared as a table", "counts, logged or none", "give it dense")
    return Table(raw, tuple(names) or tuple(map(str, range(raw.shape[1]))))


def _as_matrix(raw: Matrix | Table) -> Matrix:
    if not isinstance(raw, Table):
        return raw
    if raw.words or np.isnan(raw.numbers).any():
        raise InputError(
            "a table with words or empty cells prepared as numbers", "numbers alone", "prepare it as table"
        )
    return raw.numbers


def _plain(matrix: Matrix, columns: np.ndarray) -> np.ndarray | SparseRows:
    from swell.data.sparse import SparseRows

    if (columns < 0).any():
        raise InputError(f"{(columns < 0).sum():,} features missing", "all features of pre-training")
    kept = matrix[:, columns]
    with np.errstate(over="ignore"):
        kept = kept.astype(np.float32)
    if not np.isfinite(kept if isinstance(kept, np.ndarray) else kept.data).all():
        raise InputError("NaN or infinite values", "finite numbers", "remove or fill those rows")
    if isinstance(kept, np.ndarray):
        return np.ascontiguousarray(kept)
    kept.sort_indices()
    return SparseRows.from_csr(kept, np.zeros((1, len(columns)), np.float32))

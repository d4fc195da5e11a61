"""Tables: .csv and .parquet files and pandas frames, as columns of numbers and of categories.

A column is numbers when every cell that is not empty reads as one, else categories. Empty, NA, NaN, null, none and ?
mean that a value is missing. A first column without a name holds the names of the rows and is left out.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swell.data.arrays import LABEL_KEYS
from swell.data.bombs import refuse_bomb
from swell.data.columns import Table, Words
from swell.data.counts import kind_of_cells
from swell.data.raw import Raw
from swell.errors import InputError, suggest

if TYPE_CHECKING:
    from pandas import DataFrame

    Column = np.ndarray | Words

__all__ = ["is_frame", "is_words", "open_csv", "open_frame", "open_parquet"]

EMPTY = {"", "na", "n/a", "nan", "null", "none", "?"}  # in any case
COUNTS_WIDE, COUNTS_ZERO = 200, 0.6  # whole numbers in so many columns and with so many zeros are counts of molecules


def is_frame(data: object) -> bool:
    module = sys.modules.get("pandas")
    return module is not None and isinstance(data, module.DataFrame)


def open_csv(path: Path, labels: bool | str = False) -> Raw:
    """A .csv, with commas, semicolons or tabs; its first row names the columns unless all of it is numbers.

    Args:
        labels: the column that holds them; True takes label, labels or y. Columns of these names are never features.

    Raises:
        InputError: rows of different lengths, no UTF-8 text, a table without rows; labels that are not there.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            head = [cell.strip() for cell in next(reader, [])]
            if not head:
                raise InputError(f"{path} (empty)", "a table with a row of names", "check the file")
            named = not all(_is_number(cell) for cell in head)
            columns = None if labels else _all_numbers(path, delimiter, head, named)
            if columns is None:
                rows = list(reader) if named else [head, *reader]
                columns = _columns(path, head if named else list(map(str, range(len(head)))), rows, int(named))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{path} ({error})", "a table as UTF-8 text", "save it again as .csv") from None
    return _raw(str(path), columns, labels)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _all_numbers(path: Path, delimiter: str, head: list[str], named: bool) -> dict[str, Column] | None:
    """The columns of a table of nothing but numbers, read fast; None of any other."""
    if any(name in LABEL_KEYS for name in head):
        return None
    names = head if named else list(map(str, range(len(head))))
    first = int(named and not head[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a table without rows, which is refused later
            a = np.loadtxt(path, np.float64, comments=None, delimiter=delimiter, skiprows=int(named), ndmin=2,
                           usecols=range(first, len(head)), encoding="utf-8-sig", quotechar='"')  # fmt: skip
    except ValueError:
        return None
    with path.open(encoding="utf-8-sig") as file:  # columns beyond the last named one are not read above
        widths = {line.count(delimiter) for line in file if line.strip()}
    if len(widths) > 1 or a.shape[1] + first != len(head) or len(set(names)) < len(names):
        return None
    return {name: a[:, j] for j, name in enumerate(names[first:])}


def _columns(path: Path, head: list[str], rows: list[list[str]], skipped: int) -> dict[str, Column]:
    rows = [row for row in rows if row]  # blank lines
    for k, row in enumerate(rows):
        if len(row) != len(head):
            given = f"{path}: {len(row)} cells in row {k + 1 + skipped}"
            raise InputError(given, f"{len(head)}, as in the first row", "mend that row")
    known: set[str] = set()
    for name in head:
        if name in known:
            raise InputError(f"{path}: column {name!r} twice", "a name of its own for each", "rename one")
        known.add(name)
    out: dict[str, Column] = {}
    for name, cells in zip(head, zip(*rows, strict=True), strict=False):
        if name or name != head[0]:
            out[name] = _detected(name, [cell.strip() for cell in cells])
    return out


def _detected(name: str, cells: Sequence[str]) -> Column:
    """Numbers where every cell that is not empty reads as one, else categories."""
    empty = np.array([cell.lower() in EMPTY for cell in cells])
    try:
        return np.array([np.nan if e else float(cell) for cell, e in zip(cells, empty, strict=True)])
    except ValueError:
        return _categories(name, cells, empty)


def _categories(name: str, cells: Sequence[str], empty: np.ndarray) -> Words:
    values = sorted(set(cells))  # no array of text: each of its cells would be as wide as the longest word
    place = {value: k for k, value in enumerate(values)}
    codes = np.array([place[cell] for cell in cells], np.int64)
    return Words(name, np.where(empty, -1, codes), tuple(values))


def open_parquet(path: Path, labels: bool | str = False) -> Raw:
    """A .parquet file, read with pyarrow; see `open_csv`."""
    arrow = pyarrow_or_told()
    try:
        schema, about = arrow.parquet.read_schema(path), arrow.parquet.read_metadata(path)
        cells = 8.0 * about.num_rows * max(about.num_columns, 1)  # of repeated values a file may hold any number
        refuse_bomb(str(path), cells, path.stat().st_size)
        words = [str(field.name) for field in schema if is_words(arrow, field.type)]  # each word once, not once a row
        table = arrow.parquet.read_table(path, read_dictionary=words)
        columns = {str(name): _arrow_column(str(name), table.column(k)) for k, name in enumerate(table.column_names)}
    except (arrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            given = error.given if str(path) in error.given else f"{path}: {error.given}"
            raise InputError(given, error.expected, error.todo) from None
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path} ({reason})", "a whole .parquet file", "save it again") from None
    if len(columns) < table.num_columns:
        raise InputError(f"{path}: columns of the same name", "a name of its own for each", "rename one")
    columns = {name: column for name, column in columns.items() if not name.startswith("__index_level_")}
    return _raw(str(path), columns, labels)


def pyarrow_or_told() -> Any:
    """The module pyarrow. Raises InputError with the line that installs it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        todo = "python -m pip install 'swell[parquet]', or python -m pip install pyarrow"
        raise InputError(".parquet without pyarrow", "the extra parquet", todo) from None
    return pyarrow


def is_words(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _words(name: str, column: Any) -> Words:
    """Categories of a column of words, each of which becomes Python's once, however many rows it has."""
    arrow = pyarrow_or_told()
    known = column if arrow.types.is_dictionary(column.type) else column.dictionary_encode()
    known = known.unify_dictionaries().combine_chunks()
    given = known.dictionary.to_pylist()
    values = sorted({word for word in given if word is not None})
    place = {word: k for k, word in enumerate(values)}
    codes = np.array([*(place.get(word, -1) for word in given), -1], np.int64)
    rows = known.indices.fill_null(len(given)).to_numpy(zero_copy_only=False)
    return Words(name, codes[rows.astype(np.int64)], tuple(values))


def _arrow_column(name: str, column: Any) -> Column:
    types = pyarrow_or_told().types
    kind = column.type
    if is_words(pyarrow_or_told(), kind):
        return _words(name, column)
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind):
        return np.asarray(column.cast("float64").to_numpy(zero_copy_only=False), np.float64)
    raise InputError(f"column {name!r} of {kind}", "numbers or words", "leave it out or turn it into numbers")


def open_frame(frame: DataFrame, labels: bool | str = False) -> Raw:
    """A pandas frame; its index is no feature. See `open_csv`."""
    columns: dict[str, Column] = {}
    for k, name in enumerate(map(str, frame.columns)):
        if name in columns:
            raise InputError(f"a frame with column {name!r} twice", "a name of its own for each", "rename one")
        column = frame.iloc[:, k]
        if column.dtype.kind in "buif":  # those of pandas that know missing values too
            columns[name] = column.to_numpy(np.float64, na_value=np.nan)
        elif column.dtype.kind == "O" or column.dtype == "category":
            empty = column.isna().to_numpy()
            cells = [value for value, e in zip(column.tolist(), empty, strict=True) if not e]
            if not all(isinstance(value, (str, int, float, bool, np.generic)) for value in cells):
                given = f"column {name!r} with a {next(type(v).__name__ for v in cells if not isinstance(v, str))}"
                raise InputError(given, "numbers or words", "leave it out")
            words = ["" if e else str(value) for value, e in zip(column.tolist(), empty, strict=True)]
            columns[name] = _categories(name, words, empty) if not _numeric(cells) else _floats(column)
        else:
            raise InputError(f"column {name!r} of {column.dtype}", "numbers or words", "leave it out")
    return _raw("DataFrame", columns, labels)


def _numeric(cells: Sequence[object]) -> bool:
    return bool(cells) and all(isinstance(value, (int, float, np.number)) for value in cells)


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column.astype("float64"))


def _raw(origin: str, columns: Mapping[str, Column], labels: bool | str) -> Raw:
    key = _label_key(origin, list(columns), labels)
    y = None if not key else _label_column(origin, key, columns[key])
    features = {name: column for name, column in columns.items() if name != key and name not in LABEL_KEYS}
    numbers = {name: column for name, column in features.items() if isinstance(column, np.ndarray)}
    words = tuple(column for column in features.values() if isinstance(column, Words))
    if not features:
        raise InputError(f"{origin}: no columns but labels", "columns of numbers or words")
    matrix = np.column_stack(list(numbers.values())) if numbers else np.empty((len(words[0].codes), 0))
    if not words and matrix.shape[1] >= COUNTS_WIDE and (matrix == 0).mean() >= COUNTS_ZERO:
        from scipy.sparse import csr_array

        if not np.isnan(matrix).any() and kind_of_cells(matrix) == "counts":
            return Raw(csr_array(matrix), origin, tuple(numbers), y, kind="counts")
    return Raw(Table(matrix, tuple(numbers), words), origin, labels=y)


def _label_key(origin: str, names: list[str], labels: bool | str) -> str:
    if labels is False:
        return ""
    wanted = (labels,) if isinstance(labels, str) else LABEL_KEYS
    found = [name for name in wanted if name in names]
    if not found:
        given = f"{origin}: no labels under {' or '.join(map(str, wanted))}"
        raise InputError(given, "a column of labels", suggest(str(wanted[0]), names) if names else "")
    return found[0]


def _label_column(origin: str, key: str, column: Column) -> np.ndarray:
    missing = column.codes < 0 if isinstance(column, Words) else np.isnan(column)
    if missing.any():
        given = f"{origin}: {missing.sum():,} rows without a value in {key!r}"
        raise InputError(given, "a label a row", "fill or leave them out")
    return np.array(column.values, object)[column.codes] if isinstance(column, Words) else column

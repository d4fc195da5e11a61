"""Images in Arrow and Parquet files, as Hugging Face datasets keep them: a column of encoded images.

An Arrow file that `save_to_disk` wrote is mapped and not compressed: every image lies in it somewhere as it is, and its
place is all that is noted. Parquet compresses, so images are copied out of it once, still encoded, into the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from swell.console import Progress
from swell.data.arrays import LABEL_KEYS
from swell.data.bombs import refuse_bomb
from swell.data.shards import PACK, Packed, Piece
from swell.data.tables import is_words, pyarrow_or_told
from swell.data.tars import TAIL
from swell.errors import InputError, suggest
from swell.files import atomic_path

__all__ = ["arrow_piece", "column_labels", "image_column", "packed_out", "parquet_schema"]

_AT_ONCE = 256  # rows of a Parquet file in memory
_ROOM = 64 << 20  # bytes of the disk that are left free


def image_column(schema: Any) -> str | None:
    """The first column of structs with `bytes`, which is how Hugging Face keeps images, else the first of bytes."""
    types = pyarrow_or_told().types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    for field in schema:
        if types.is_struct(field.type) and any(part.name == "bytes" and is_bytes(part.type) for part in field.type):
            return str(field.name)
    return next((str(field.name) for field in schema if is_bytes(field.type)), None)


def parquet_schema(path: str) -> Any:
    with _told(path):
        return pyarrow_or_told().parquet.read_schema(path)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into one InputError."""
    arrow = pyarrow_or_told()
    try:
        yield
    except InputError as error:
        given = error.given if path in error.given else f"{path}: {error.given}"
        raise InputError(given, error.expected, error.todo) from None
    except (arrow.ArrowException, OSError, ValueError, LookupError, OverflowError, struct.error) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path} ({reason})", "a whole Arrow or Parquet file", "save the dataset again") from None


def _batches(whole: Any) -> Any:
    """A reader of the record batches in the buffer `whole`: a stream, as save_to_disk writes, or a file."""
    arrow = pyarrow_or_told()
    stream = whole[8:] if whole[:6].to_pybytes() == b"ARROW1" else whole  # a file is a stream between two marks
    for message in arrow.ipc.MessageReader.open_stream(arrow.BufferReader(stream)):
        if _compressed(message.metadata.to_pybytes()):
            raise ValueError("compressed")
    reader = arrow.ipc.open_stream(arrow.BufferReader(stream))
    return reader.schema, _sound(reader)


def _compressed(message: bytes) -> bool:
    """Whether the body of an Arrow message is, by its FlatBuffers header: pyarrow would unpack it, whatever comes.

    Source: Message.fbs of the Arrow format, where a Message is [version, kind, header, ...], a DictionaryBatch (kind 2)
    [id, data, ...] and a RecordBatch (kind 3), which that data is too, [length, nodes, buffers, compression, ...].
    """

    def field(table: int, number: int) -> int:
        """Where that field lies; 0 of one that is left out."""
        entries = table - struct.unpack_from("<i", message, table)[0]
        known = 4 + 2 * number < struct.unpack_from("<H", message, entries)[0]
        offset = struct.unpack_from("<H", message, entries + 4 + 2 * number)[0] if known else 0
        return table + offset if offset else 0

    def inside(at: int) -> int:
        return int(at + struct.unpack_from("<I", message, at)[0])

    root = inside(0)
    kind, header = field(root, 1), field(root, 2)
    if not kind or not header or message[kind] not in (2, 3):
        return False
    batch = inside(header)
    if message[kind] == 2:
        batch = inside(data) if (data := field(batch, 1)) else 0
    return bool(batch and field(batch, 3))


def _sound(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches whose lengths fit their buffers: of others pyarrow does not raise, it ends the process."""
    for batch in batches:
        batch.validate()
        yield batch


def _encoded(column: Any, path: str) -> Any:
    """The array of bytes in an image column; every row must have some."""
    child = column.field("bytes") if pyarrow_or_told().types.is_struct(column.type) else column
    empty = max(column.null_count, child.null_count)
    if empty:
        given = f"{path} ({empty:,} rows without the bytes of their image, such as those that name a file)"
        raise InputError(given, "images inside of the dataset", "save it with the images embedded")
    return child


def arrow_piece(path: str, total: int) -> Piece:
    """Where the images of an Arrow file lie in it; see `Piece`.

    Raises:
        InputError: a damaged or compressed file, one without a column of images, rows without one.
    """
    arrow = pyarrow_or_told()
    offsets: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    tails: list[bytes] = []
    with _told(path):
        whole = arrow.memory_map(path).read_buffer()
        schema, batches = _batches(whole)
        name = image_column(schema)
        if name is None:
            raise InputError(
                f"{path} (columns {', '.join(schema.names)})", "a column of images", "give another dataset"
            )
        view = memoryview(whole)
        for batch in batches:
            values = _encoded(batch.column(name), path)
            _, marks, data = values.buffers()
            wide = np.int64 if arrow.types.is_large_binary(values.type) else np.int32
            ends = np.frombuffer(marks, wide)[values.offset : values.offset + len(values) + 1].astype(np.int64)
            start = 0 if data is None else data.address - whole.address
            inside = data is None or 0 <= start <= start + data.size <= total
            if not inside:
                raise InputError(f"{path} (compressed)", "an Arrow file as save_to_disk writes it", "save it again")
            if len(ends) and (
                ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] > (0 if data is None else data.size)
            ):
                raise InputError(f"{path} (images that lie outside of their column)", "a whole file", "save it again")
            offsets.append(start + ends[:-1])
            sizes.append(np.diff(ends))
            for first, last in zip((start + ends[:-1]).tolist(), (start + ends[1:]).tolist(), strict=True):
                tails.append(bytes(view[max(first, last - TAIL) : last]))
    at = np.concatenate(offsets).tolist() if offsets else []
    names = [str(i) for i in range(len(at))]
    return Piece(names, at, np.concatenate(sizes).tolist() if sizes else [], b"".join(tails), [], {})


def packed_out(
    files: Sequence[str], stats: np.ndarray, cache: Path, quiet: bool
) -> tuple[list[str], np.ndarray, Iterator[Piece], bool]:
    """Copy the images of Parquet files into one file of the cache, which is what the index is then of.

    Raises:
        InputError: a damaged file, one without a column of images, rows without one; no room in the cache.
    """
    arrow = pyarrow_or_told()
    digest = hashlib.sha256("\0".join(map(os.path.abspath, files)).encode("utf-8", "surrogateescape"))
    digest.update(stats.tobytes())
    pack = cache / f"images-{digest.hexdigest()[:24]}{PACK}"
    need = int(stats[:, 0].sum()) + _ROOM
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        given = f"{cache} ({os.strerror(error.errno or 0).lower()})"
        raise InputError(given, "a cache to copy the images of .parquet files to", "set SWELL_CACHE") from None
    if free < need:
        given = f"{cache} ({free / 1e9:,.1f} GB free for the images of .parquet files)"
        raise InputError(
            given, f"{need / 1e9:,.1f} GB", "set SWELL_CACHE to another disk, or save the data as tar shards"
        )
    piece = Piece([], [], [], b"", [], {})
    tails: list[bytes] = []
    at = 0
    with (
        atomic_path(pack) as temporary,
        temporary.open("wb") as out,
        Progress("copying images", len(files), "files", quiet=quiet) as bar,
    ):
        for done, path in enumerate(files, 1):
            with _told(path):
                table = arrow.parquet.ParquetFile(path, memory_map=True)
                name = image_column(table.schema_arrow)
                if name is None:
                    raise InputError(
                        f"{path} (no column of images)", "images, as in the other files", "check the folder"
                    )
                row = 0
                for batch in table.iter_batches(_AT_ONCE, columns=[name]):
                    for value in _encoded(batch.column(0), path):
                        content = value.as_buffer()
                        refuse_bomb(path, out.tell() + content.size, need)  # one image may stand for any number of rows
                        out.write(content)
                        piece.names.append(f"{os.path.basename(path)}/{row}")
                        piece.offsets.append(at)
                        piece.sizes.append(content.size)
                        tails.append(content[max(0, content.size - TAIL) :].to_pybytes())
                        at, row = at + content.size, row + 1
            bar.update(done)
    found = pack.stat()
    own = np.array([(found.st_size, found.st_mtime_ns, found.st_ctime_ns)], np.int64)
    return [str(pack.absolute())], own, iter([piece._replace(tails=b"".join(tails))]), quiet


def column_labels(packed: Packed, key: bool | str) -> np.ndarray:
    """The labels of all samples: names, where the dataset has some for its numbers.

    Raises:
        InputError: no such column, or rows without a value in it.
    """
    arrow = pyarrow_or_told()
    found: list[Any] = []
    for path in packed.files:
        with _told(path):
            if packed.kind == "parquet":
                schema = arrow.parquet.read_schema(path)
                column = _label_column(path, schema, key)
                words = [column] if is_words(arrow, schema.field(column).type) else []
                read = arrow.parquet.read_table(path, columns=[column], read_dictionary=words)
                values = [value for chunk in read.column(0).chunks for value in _labels(chunk, column)]
            else:
                schema, batches = _batches(arrow.memory_map(path).read_buffer())
                column = _label_column(path, schema, key)
                values = []
                for batch in batches:
                    batch.column(column).validate(full=True)
                    values += _labels(batch.column(column), column)
        names = _class_names(schema, column)
        if not all(isinstance(value, (int, float, str)) for value in values):
            raise InputError(
                f"{path}: rows without a number or a word in {column!r}", "a label a row", "leave them out"
            )
        inside = all(isinstance(value, int) and 0 <= value < len(names) for value in values)
        found += [names[value] for value in values] if names and inside else values
    if any(isinstance(value, str) for value in found):
        return np.array([*map(str, found)], object)
    return np.array(found)


def _labels(column: Any, name: str) -> list[Any]:
    """The values of an array; of a dictionary each once, however many rows name it."""
    types = pyarrow_or_told().types
    if types.is_dictionary(column.type):
        values = _labels(column.dictionary, name)
        return [None if code is None else values[code] for code in column.indices.to_pylist()]
    kind = column.type
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_string(kind) or types.is_large_string(kind)
    if not plain and not types.is_boolean(kind) and not types.is_null(kind):
        raise InputError(f"{kind}, not a number or a word in {name!r}", "a label a row", "give another column")
    return list(column.to_pylist())


def _label_column(path: str, schema: Any, key: bool | str) -> str:
    wanted = (key,) if isinstance(key, str) else LABEL_KEYS
    column = next((name for name in wanted if name in schema.names), None)
    if column is None:
        given = f"{path}: no labels under {' or '.join(wanted)}"
        raise InputError(given, "a column of labels", suggest(wanted[0], schema.names))
    return column


def _class_names(schema: Any, column: str) -> list[str]:
    """What the numbers of a label column mean, as Hugging Face writes it beside the schema."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []

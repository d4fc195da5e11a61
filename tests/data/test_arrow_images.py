"""Images in Arrow and Parquet files: the bytes that were put in, found without pyarrow; labels when asked for."""

import json

import numpy as np
import pytest
import torch

from packing import png
from swell.data.ahead import Ahead
from swell.data.arrow_images import arrow_piece
from swell.data.open import open_data
from swell.data.shards import find_shards
from swell.data.stream import stream_of
from swell.errors import InputError
from swell.files import write_json

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["cat", "dog", "eel"]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
METADATA = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}


@pytest.fixture
def pictures():
    return list(np.random.default_rng(4).integers(0, 256, (40, 8, 8, 3), np.uint8))


def table(pictures, first=0, metadata=METADATA):
    """As Hugging Face keeps images: structs of bytes and a path, and labels by number."""
    rows = [{"bytes": png(p), "path": f"{first + i}.png"} for i, p in enumerate(pictures)]
    images = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    labels = pa.array([(first + i) % 3 for i in range(len(pictures))], pa.int64())
    return pa.table({"label": labels, "image": images}).replace_schema_metadata(metadata)


def saved(folder, pictures):
    """A folder as `Dataset.save_to_disk` leaves it: two files in record batches, and the state that names them."""
    folder.mkdir()
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, first in zip(names, (0, 25), strict=True):
        part = table(pictures[first : first + 25], first)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, part.schema) as writer:
            writer.write_table(part, max_chunksize=7)
    write_json(folder / "state.json", {"_data_files": [{"filename": name} for name in names]})
    write_json(folder / "dataset_info.json", {})
    return folder


def test_a_saved_dataset(tmp_path, pictures):
    source = open_data(saved(tmp_path / "d", pictures), labels=True)
    expected = np.stack(pictures).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(source.samples[:], expected)
    assert [source.classes[k] for k in source.labels] == [NAMES[i % 3] for i in range(40)]
    index = source.samples.index
    for i in (0, 24, 25, 39):  # the place is the very bytes
        with open(str(index.files[index.shard[i]]), "rb") as file:
            file.seek(index.offset[i])
            assert file.read(index.size[i]) == png(pictures[i])
    assert index.name(25) == "data-00001-of-00002.arrow/0"
    with Ahead(source.samples, lambda t: torch.arange(t, t + 8), 8, 1) as ahead:
        np.testing.assert_array_equal(ahead(3).numpy(), expected[3:11])


def test_arrow_files_of_the_other_format_and_of_plain_bytes(tmp_path, pictures):
    plain = pa.table({"jpg": pa.array([png(p) for p in pictures], pa.large_binary())})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, plain.schema) as writer:
        writer.write_table(plain, max_chunksize=16)
    np.testing.assert_array_equal(open_data(tmp_path / "x.arrow").samples[:], np.stack(pictures).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_parquet(tmp_path, pictures, compression):
    (tmp_path / "d").mkdir()
    pq.write_table(table(pictures[:25]), tmp_path / "d" / "a.parquet", compression=compression, row_group_size=10)
    pq.write_table(table(pictures[25:], 25), tmp_path / "d" / "b.parquet", compression=compression)
    expected = np.stack(pictures).transpose(0, 3, 1, 2)
    for data in (tmp_path / "d", str(tmp_path / "d" / "{a,b}.parquet"), str(tmp_path / "d" / "*.parquet")):
        source = open_data(data, labels="label")
        np.testing.assert_array_equal(source.samples[:], expected)
        assert [source.classes[k] for k in source.labels] == [NAMES[i % 3] for i in range(40)]
    parts = list(stream_of(tmp_path / "d", (3, 8, 8)).parts)
    np.testing.assert_array_equal(np.concatenate([p.samples for p in parts]), expected)
    assert parts[0].paths[26] == "b.parquet/1"
    alone = open_data(tmp_path / "d" / "a.parquet")
    assert len(alone) == 25


def test_a_column_of_labels_that_counts_otherwise_than_the_images(tmp_path, pictures):
    """Found by fuzzing: the label column's own count in the footer is 0 for 6 rows, which pyarrow takes as it is."""
    path = tmp_path / "a.parquet"
    pq.write_table(table(pictures[:6]), path)
    content = path.read_bytes()
    assert content.count(b"label\x15\x02\x16\x0c") == 1
    path.write_bytes(content.replace(b"label\x15\x02\x16\x0c", b"label\x15\x02\x16\x00"))
    assert len(open_data(path)) == 6
    with pytest.raises(InputError, match="0 labels of 6 images"):
        open_data(path, labels=True)


def test_a_table_of_vectors_stays_one(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1.0, 2.0, 3.0], "b": [0.0, 5.0, 6.0]}), path)
    assert find_shards(path) is None
    assert open_data(path).shape == (2,)
    with pytest.raises(InputError, match="tables without images"):
        open_data(tmp_path / "*.parquet")


def test_what_cannot_be_found_again_is_refused(tmp_path, pictures):
    whole = table(pictures)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        pa.OSFile(str(tmp_path / "z.arrow"), "wb") as file,
        pa.ipc.new_stream(file, whole.schema, options=options) as writer,
    ):
        writer.write_table(whole)
    with pytest.raises(InputError, match="compressed"):
        open_data(tmp_path / "z.arrow")
    rows = [{"bytes": None, "path": "/elsewhere/a.png"}, {"bytes": png(pictures[0]), "path": "b"}]
    images = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": images}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="1 rows without the bytes"):
        open_data(tmp_path / "p.parquet")
    (tmp_path / "cut.arrow").write_bytes((tmp_path / "z.arrow").read_bytes()[:500])
    (tmp_path / "none.arrow").write_bytes(b"")
    pq.write_table(table(pictures), tmp_path / "q.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "q.parquet").read_bytes()[:-100])
    for name in ("cut.arrow", "none.arrow", "cut.parquet"):
        with pytest.raises(InputError) as told:
            open_data(tmp_path / name)
        assert name in str(told.value)
    with pytest.raises(InputError, match="no labels under kind"):
        open_data(tmp_path / "q.parquet", labels="kind")


def test_labels_are_numbers_or_words(tmp_path, pictures):
    lists = pa.table({"image": pa.array([png(p) for p in pictures[:3]]), "label": [[1], [2, 3], []]})
    pq.write_table(lists, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="a number or a word in 'label'"):
        open_data(tmp_path / "x.parquet", labels=True)


def test_any_damage_is_told_and_ends_no_process(tmp_path, pictures):
    whole = (saved(tmp_path / "d", pictures) / "data-00000-of-00002.arrow").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "x.arrow"
    for _ in range(100):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 17)):
            content[at % (1500 if rng.random() < 0.5 else len(whole))] = rng.integers(256)
        path.write_bytes(content)
        try:
            piece = arrow_piece(str(path), len(content))
        except InputError:
            continue
        assert all(0 <= at <= at + size <= len(content) for at, size in zip(piece.offsets, piece.sizes, strict=True))

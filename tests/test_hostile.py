"""Files from strangers: bombs, names that lead elsewhere, code in data, text that wants to be more than text, a network.

The fuzzers of benchmarks/fuzz found most of these; every case here is one that once went wrong, or must not begin to.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import pickle
import re
import resource
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import swell
import swell.data.arrow_images
from swell.data.cells import read, write_h5ad
from swell.data.cells_in_parts import open_rows
from swell.data.folder_listing import ImageFile
from swell.data.gen import open_gen, write_gen
from swell.data.images import DAMAGED, decode, header_of
from swell.data.masks import open_masks
from swell.data.source import Provenance
from swell.errors import InputError
from swell.files import read_toml, write_json
from swell.recipes import composed, read_recipe

BACK = "../../etc/passwd"


def grown(work):
    """MiB by which the peak of this process rises while `work` is done, which must refuse its input."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as told:
        work()
    assert "\n" not in str(told.value)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


# ---- bombs -------------------------------------------------------------------------------------------------


def png(width, height, rows=b""):
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_picture_of_few_bytes_and_many_pixels_is_not_decoded(tmp_path):
    """A hundred million pixels are within Pillow's own limit, and would be 400 MB of colours."""
    bomb = png(10_000, 10_000, bytes(10_001 * 10_000))
    assert len(bomb) < 200_000
    with pytest.raises(DAMAGED):
        decode(bomb, 32, 3)
    assert "bomb" in header_of(io.BytesIO(bomb), ImageFile("a.png", len(bomb), 0, 0))
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        (tmp_path / "photos" / f"{name}.png").write_bytes(png(9, 9, bytes(90)))
        (tmp_path / "masks" / f"{name}.png").write_bytes(bomb)
    assert grown(lambda: open_masks(tmp_path / "photos", tmp_path / "masks", 8, quiet=True)) < 200


def test_sheets_of_white_paper_are_no_bombs():
    """What a scanner makes of an empty page at 600 dots an inch."""
    sheet = png(4960, 7016, bytes(4961 * 7016))
    assert decode(sheet, 32, 1).shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_arrays_that_unpack_to_a_thousand_times_their_size(tmp_path, name):
    arrays = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4), name: np.zeros((4, 20 << 20), np.uint8)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 20
    assert grown(lambda: swell.open(tmp_path / "a.npz", labels=True)) < 200


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("|u1", "(9, 1000000000000)"),
        ("|S0", "(1000000000000,)"),
        ("|S0", "(-1,)"),
        ("<U1000000000", "(999,)"),
        ("<f8", "(-9, 9)"),
    ],
)
def test_arrays_that_claim_more_than_they_hold(tmp_path, descr, shape):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", array)
        archive.writestr("labels.npy", array)
    (tmp_path / "a.npy").write_bytes(array)
    for path in ("a.npz", "a.npy"):
        assert grown(lambda path=path: swell.open(tmp_path / path, labels=path == "a.npz")) < 200


def test_archives_packed_in_other_ways(tmp_path):
    """A damaged LZMA member raises an error of its own."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", bytes(10_000))
    whole = bytearray((tmp_path / "a.npz").read_bytes())
    whole[50:60] = b"\xff" * 10
    (tmp_path / "a.npz").write_bytes(whole)
    with pytest.raises((InputError,), match=r"a\.npz"):
        swell.open(tmp_path / "a.npz")
    assert lzma.LZMAError.__mro__[1] is Exception  # which is why it has to be named


def test_one_long_cell_does_not_make_all_cells_long(tmp_path):
    """As an array of text these 60 kB would be 24 GB."""
    rows = ["word,label", f"{'x' * 100_000},a", *["y,b"] * 60_000]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    source = swell.open(tmp_path / "a.csv", labels=True, quiet=True)
    assert len(source) == 60_001
    labels = np.array(["z" * 100_000, *["y"] * 60_000], object)
    codes = swell.open((np.zeros((60_001, 2), np.float32), labels), labels=True)
    assert codes.labels.tolist()[:2] == [1, 0]


def test_many_columns_take_no_longer_than_few(tmp_path):
    """Every name used to be looked for among all others: minutes for a file of a megabyte."""
    names = [f"c{i}" for i in range(60_000)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(names), *[",".join(["1", "x"] * 30_000)] * 2]))
    assert swell.open(tmp_path / "a.csv", quiet=True).shape == (30_000,)


def test_tables_of_one_value_repeated(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = 30_000_000
    table = pa.table({"a": pa.array(np.zeros(rows, np.int8))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows)
    del table
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    assert grown(lambda: swell.open(tmp_path / "a.parquet")) < 200


def test_a_picture_that_stands_for_a_million_rows(tmp_path, monkeypatch):
    """Once in the file, a million times in the cache."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    image = pa.array([np.random.default_rng(0).bytes(100_000)])
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), image).cast(pa.binary())
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    monkeypatch.setattr(swell.data.arrow_images, "_ROOM", 1 << 20)  # instead of 64 MiB, for a smaller bomb
    with pytest.raises(InputError, match="bomb"):
        swell.open(tmp_path / "a.parquet", cache=tmp_path / "cache")
    assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*")) == 0


def test_arrow_files_are_asked_whether_they_are_compressed_before_they_are_unpacked(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"image": pa.array([bytes(200 << 20)])})
    for open_, name in ((pa.ipc.new_stream, "a.arrow"), (pa.ipc.new_file, "b.arrow")):
        with open_(str(tmp_path / name), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
    assert grown(lambda: swell.open(tmp_path / "a.arrow", cache=tmp_path / "c")) < 100
    with pytest.raises(InputError, match="compressed"):
        swell.open(tmp_path / "b.arrow", cache=tmp_path / "c")


def h5ad(path, change):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for frame, count in (("obs", 6), ("var", 5)):
            file.create_group(frame).attrs["_index"] = "_index"
            file[frame]["_index"] = [f"{frame}{i}" for i in range(count)]
        file["X"] = np.arange(30.0).reshape(6, 5)
        change(h5py, file)
    return path


def test_cells_that_were_never_stored(tmp_path):
    """HDF5 fills what nobody wrote: an empty dataset of any size."""

    def change(h5py, file):
        del file["X"]
        file.create_dataset("X", (6, 30 << 20), "f4", chunks=(1, 1 << 20), compression="gzip")

    assert grown(lambda: swell.open(h5ad(tmp_path / "a.h5ad", change))) < 200


def test_words_that_are_all_the_same_bytes(tmp_path):
    """Every row of a dataset of words points into a heap; here all at one word of a megabyte."""

    def change(h5py, file):
        long = file.create_dataset("obs/word", (400,), h5py.string_dtype())
        long[0] = "x" * 1_000_000

    path = h5ad(tmp_path / "a.h5ad", change)
    content = bytearray(path.read_bytes())
    entry = content.index(struct.pack("<I", 1_000_000))  # length, heap, place in it
    content[entry : entry + 16 * 400] = bytes(content[entry : entry + 16]) * 400
    path.write_bytes(content)
    import h5py

    with h5py.File(path) as file, pytest.raises(InputError, match="bomb"):
        read(file["obs/word"])


def test_words_in_a_heap_without_an_end(tmp_path):
    """An object of no bytes, after which the library looks for the next one where it stands. Nothing can stop it."""
    path = h5ad(tmp_path / "a.h5ad", lambda h5py, file: file["obs"].attrs.__setitem__("note", "a word"))
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    size = int.from_bytes(content[heap + 8 : heap + 16], "little")
    content[heap + 16 : heap + size] = bytes(size - 16)
    path.write_bytes(content)
    with pytest.raises(InputError, match="heap"):
        swell.open(path)


def test_words_of_a_kind_that_does_not_exist(tmp_path):
    """A type of any length that is neither a list nor a word (kind 9): reading it ended the process."""
    path = h5ad(tmp_path / "a.h5ad", lambda h5py, file: None)
    content = path.read_bytes()
    name = content.index(b"_index\0\0\x19\x01\x01")  # an attribute's name and its type
    path.write_bytes(content[: name + 9] + b"\x09" + content[name + 10 :])
    with pytest.raises(InputError, match="numbers or words"):
        swell.open(path)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell how large a process is")
def test_a_word_that_claims_gigabytes_gets_no_room(tmp_path):
    """HDF5 makes room for the length that stands beside a word's place in the heap before it looks there."""
    path = h5ad(tmp_path / "a.h5ad", lambda h5py, file: None)
    content = path.read_bytes()
    claimed = struct.pack("<IQ", 6, content.index(b"GCOL"))
    assert claimed in content
    path.write_bytes(content.replace(claimed, struct.pack("<I", 3 << 30) + claimed[4:]))
    limit = resource.getrlimit(resource.RLIMIT_AS)
    assert grown(lambda: swell.open(path)) < 100
    assert resource.getrlimit(resource.RLIMIT_AS) == limit


@pytest.mark.parametrize("kind", ["elsewhere", "lists"])
def test_values_in_parts_are_numbers_of_this_file(tmp_path, kind):
    """What is encoded a part at a time is looked at as what is read as a whole."""
    (tmp_path / "private").write_bytes(np.arange(30.0).tobytes())

    def change(h5py, file):
        del file["X"]
        if kind == "elsewhere":
            file.create_dataset("X", (6, 5), "f8", external=[(str(tmp_path / "private"), 0, 240)])
        else:
            file.create_dataset("X", (6, 5), h5py.vlen_dtype(np.float32))

    path = h5ad(tmp_path / "a.h5ad", change)
    with pytest.raises(InputError, match="another file" if kind == "elsewhere" else "numbers or words"):
        open_rows(path, "", "")


# ---- nothing leaves its folder -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read", "write"])
def test_cells_do_not_lead_into_other_files(tmp_path, kind):
    other = h5ad(tmp_path / "other.h5", lambda h5py, file: None)
    held = other.read_bytes()

    def change(h5py, file):
        file["obsm" if kind == "write" else "layers"] = h5py.ExternalLink("other.h5", "/obs")

    path = h5ad(tmp_path / "a.h5ad", change)
    features = np.zeros((6, 2), np.float32)
    work = {"read": lambda: swell.open(path), "write": lambda: write_h5ad(tmp_path / "out.h5ad", path, features, {})}
    with pytest.raises(InputError, match="link to another file"):
        work[kind]()
    assert other.read_bytes() == held
    assert not (tmp_path / "out.h5ad").exists()


def test_members_of_a_tar_stay_in_it(tmp_path):
    """Links are not followed, names are names only, nothing is extracted."""
    secret = png(4, 4, b"\0\7\7\7\7" * 4)
    (tmp_path / "secret.png").write_bytes(secret)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("good0.png", "good1.png", f"{BACK}.png", "/tmp/absolute.png", "a/../../up.png"):
            info = tarfile.TarInfo(name)
            info.size = len(secret)
            archive.addfile(info, io.BytesIO(secret))
        for name, kind in (("link.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(info)
    before = sorted(tmp_path.rglob("*"))
    source = swell.open(tmp_path / "a.tar", quiet=True, cache=tmp_path / "cache")
    assert len(source) == 2
    assert {path for path in tmp_path.rglob("*") if "cache" not in str(path)} == set(before)


@pytest.mark.parametrize(
    "name", [BACK, "/etc/passwd", "..", "", "a/../shard-00000.npz", "./shard-00000.npz", "x" * 300, "a\0b", "\ud800"]
)
def test_a_manifest_names_files_of_its_folder_only(tmp_path, name):
    gen = write_gen(tmp_path / "gen", np.zeros((4, 1, 8, 8), np.uint8), Provenance("generated", "g", "vae"))
    told = json.loads((gen / "manifest.json").read_text())
    told["shards"][0]["file"] = name
    write_json(gen / "manifest.json", told)
    with pytest.raises(InputError):
        open_gen(gen)


def test_a_link_in_the_place_of_a_shard_is_read_only_if_it_holds_the_shard(tmp_path):
    """Links are how hubs keep large files; what they lead to must have the checksum of the manifest."""
    gen = write_gen(tmp_path / "gen", np.zeros((4, 1, 8, 8), np.uint8), Provenance("generated", "g", "vae"))
    np.savez(tmp_path / "private.npz", images=np.ones((4, 1, 8, 8), np.uint8))
    (gen / "shard-00000.npz").unlink()
    (gen / "shard-00000.npz").symlink_to(tmp_path / "private.npz")
    with pytest.raises(InputError, match="checksum"):
        open_gen(gen)


@pytest.mark.parametrize("name", [BACK, "/etc/passwd", "..", "sub/x.arrow"])
def test_a_saved_dataset_names_files_of_its_folder_only(tmp_path, name):
    write_json(tmp_path / "state.json", {"_data_files": [{"filename": name}]})
    with pytest.raises(InputError, match="no file of this folder"):
        swell.open(tmp_path)


def test_sizes_of_samples_are_claims_too(tmp_path):
    gen = write_gen(tmp_path / "gen", np.zeros((4, 1, 8, 8), np.uint8), Provenance("generated", "g", "vae"))
    told = json.loads((gen / "manifest.json").read_text())
    for change in (
        {"shape": [1, 60_000, 60_000]},
        {"shape": [1e999, 8, 8]},
        {"count": 1e999},
        {"dtype": "("},
        {"provenance": []},
    ):
        write_json(gen / "manifest.json", told | change)
        text = (gen / "manifest.json").read_text().replace("null", "Infinity")
        (gen / "manifest.json").write_text(text)
        assert grown(lambda: open_gen(gen)) < 200


# ---- no code in data ---------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.mkdir, (f"{os.environ['SWELL_EVIL']}",)


def evil_files(folder):
    """Files that run code where a reader unpickles them."""
    array = np.array([Evil()], object)
    np.save(folder / "a.npy", array, allow_pickle=True)
    np.savez(folder / "a.npz", images=array, allow_pickle=True)
    (folder / "b.npy").write_bytes(pickle.dumps(Evil()))
    torch.save({"format": "swell-checkpoint-1", "x": Evil()}, folder / "checkpoint.pt")
    torch.save(Evil(), folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "bare.pt").write_bytes(pickle.dumps(Evil()))
    (folder / "codes.npy").write_bytes((folder / "a.npy").read_bytes())


def test_a_pickle_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    from swell.checkpoint import load_checkpoint
    from swell.positives import _table

    monkeypatch.setenv("SWELL_EVIL", str(tmp_path / "ran"))
    evil_files(tmp_path)
    readers = {"a.npy": swell.open, "a.npz": swell.open, "b.npy": swell.open, "checkpoint.pt": load_checkpoint, "old.pt": load_checkpoint,
               "bare.pt": load_checkpoint, "codes.npy": _table}  # fmt: skip
    for name, reader in readers.items():
        with pytest.raises(InputError):
            reader(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_torch_and_numpy_are_never_asked_to_unpickle():
    """By the source: every `torch.load` says weights_only, every `np.load` and `np.save` says allow_pickle=False."""
    calls = []
    for path in sorted((Path(swell.__file__).parent).rglob("*.py")):
        text = path.read_text()
        assert not re.search(r"\bpickle\.loads?\(|Unpickler\(|\bjoblib\b|trust_remote_code=True|yaml\.load\(", text), (
            path
        )
        calls += [(path.name, call) for call in re.findall(r"(?:torch|np)\.load\([^\n]*", text)]
    assert len(calls) > 8
    assert all("weights_only=True" in call or "allow_pickle=False" in call for _, call in calls), calls


@pytest.mark.parametrize("damage", ["packed", "sizes"])
def test_a_checkpoint_that_claims_more_than_it_holds_gets_no_room(tmp_path, damage):
    """300 MB of zeros packed, as torch never writes them, and 3 GB by both places that tell the size."""
    from swell.checkpoint import load_checkpoint, save_checkpoint

    path, size = tmp_path / "checkpoint.pt", 12_345
    save_checkpoint(path, {"x": torch.zeros(size, dtype=torch.uint8)})
    if damage == "packed":
        with zipfile.ZipFile(path) as whole:
            members = {member.filename: whole.read(member) for member in whole.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in members.items():
                with packed.open(name, "w") as member:
                    for _ in range(300 if len(content) == size else 1):
                        member.write(bytes(1_000_000) if len(content) == size else content)
    else:
        claimed, content = struct.pack("<II", size, size), path.read_bytes()
        assert claimed in content
        path.write_bytes(content.replace(claimed, struct.pack("<II", 3 << 30, 3 << 30)))
    assert grown(lambda: load_checkpoint(path)) < 100


def test_a_recipe_that_names_code_runs_none(tmp_path):
    """Not even for training: what shall be run, the user names himself."""
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Method: pass\n")
    path, method = tmp_path / "recipe.toml", f"{tmp_path}/evil.py:Method"
    path.write_text(f'method = "{method}"\nsteps = 3\n[method_options]\nhidden = 8\n')
    assert read_recipe(path)[0].method == method
    with pytest.raises(InputError, match="give --method"):
        swell.pretrain(np.zeros((20, 1, 8, 8), np.uint8), tmp_path / "run", recipe=str(path))
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run").exists()
    assert composed(str(path), method=method).method_options == {"hidden": 8}


@pytest.mark.parametrize("name", ["a", '"a b"', "'a'"])
def test_names_of_a_thousand_parts_are_not_parsed(tmp_path, name):
    """Of 8 kB that takes the standard library seven seconds, of 32 kB two minutes."""
    (tmp_path / "recipe.toml").write_text(" . ".join(["steps", *[name] * 20_000]) + " = 1\n")
    with pytest.raises(InputError, match="parts"):
        read_toml(tmp_path / "recipe.toml")


# ---- text stays text ---------------------------------------------------------------------------------------

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"


def test_messages_do_not_move_the_cursor(tmp_path, capsys):
    from swell.console import warn

    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", str(InputError(ESCAPES, ESCAPES, ESCAPES)))
    warn(ESCAPES)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", capsys.readouterr().err)
    with pytest.raises(InputError) as told:
        swell.open(tmp_path / f"{ESCAPES}.npz")
    assert str(told.value).isprintable()

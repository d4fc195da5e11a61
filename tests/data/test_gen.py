"""GEN folders: what goes in comes out, damage is noticed, a failure leaves nothing behind and destroys
nothing.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swell.data.gen import is_gen, new_gen, open_gen, write_gen, write_manifest, write_shards
from swell.data.source import Provenance
from swell.errors import InputError

PROVENANCE = Provenance("generated", "somewhere", generator="diffusion", trained_on="abc", filtered=True)


def images(count: int = 25) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 4, 5), dtype=np.uint8)


def small_shards(out: Path, samples: np.ndarray) -> Path:
    with new_gen(out) as folder:
        rows = write_shards(folder, samples, shard_size=10)
        write_manifest(folder, rows, shape=samples.shape[1:], dtype=str(samples.dtype), provenance=PROVENANCE, seed=4)
    return out


def edit_manifest(out: Path, **changes: Any) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize("samples", [images(), np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32)])
def test_round_trip_keeps_every_value_and_the_provenance(tmp_path: Path, samples: np.ndarray) -> None:
    source = open_gen(write_gen(tmp_path / "gen", samples, PROVENANCE, seed=3))
    assert source.samples.dtype == samples.dtype
    np.testing.assert_array_equal(source.samples, samples)
    assert source.provenance == PROVENANCE
    assert is_gen(tmp_path / "gen")


def test_shards_join_in_order_and_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    first, second = small_shards(tmp_path / "a", images()), small_shards(tmp_path / "b", images())
    manifest = json.loads((first / "manifest.json").read_text())
    assert [(row["file"], row["first"], row["count"]) for row in manifest["shards"]] == [
        ("shard-00000.npz", 0, 10),
        ("shard-00001.npz", 10, 10),
        ("shard-00002.npz", 20, 5),
    ]
    assert manifest["format"] == "swell-gen-1"
    assert (manifest["count"], manifest["shape"], manifest["dtype"], manifest["seed"]) == (
        25,
        [3, 4, 5],
        "uint8",
        4,
    )
    for row in manifest["shards"]:
        content = (first / row["file"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert content == (second / row["file"]).read_bytes()
    np.testing.assert_array_equal(open_gen(first).samples, images())


def flip(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, "checksum"),
        (lambda s: s.write_bytes(s.read_bytes()[:-20]), "checksum"),
        (Path.unlink, "missing"),
    ],
)
def test_damaged_shard_is_named_with_what_to_do(tmp_path: Path, damage: Any, says: str) -> None:
    out = small_shards(tmp_path / "gen", images())
    damage(out / "shard-00001.npz")
    with pytest.raises(InputError, match=rf"shard-00001\.npz.*{says}.*again") as caught:
        open_gen(out)
    assert "\n" not in str(caught.value)


class Explosive:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a user's file was unpickled",))


def replace_shard(out: Path, content: bytes) -> None:
    """Put other bytes in the first shard, with a checksum that agrees."""
    (out / "shard-00000.npz").write_bytes(content)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    edit_manifest(out, shards=manifest["shards"])


def test_objects_in_a_shard_are_refused_unread(tmp_path: Path) -> None:
    out = small_shards(tmp_path / "gen", images())
    np.savez(tmp_path / "bad.npz", images=np.array([Explosive()] * 10, dtype=object))
    for content in (
        (tmp_path / "bad.npz").read_bytes(),
        pickle.dumps(Explosive()),
        b"",
        b"PK\x03\x04 no archive",
    ):
        replace_shard(out, content)
        with pytest.raises(InputError, match=r"shard-00000\.npz"):
            open_gen(out)


@pytest.mark.parametrize("array", [images(9), images(10)[:, :2], images(10).astype(np.float32)])
def test_shard_that_disagrees_with_the_manifest_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    out = small_shards(tmp_path / "gen", images())
    np.savez(tmp_path / "other.npz", images=array)
    replace_shard(out, (tmp_path / "other.npz").read_bytes())
    with pytest.raises(InputError, match=r"shard-00000\.npz"):
        open_gen(out)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "swell-gen-2"},
        {"count": 24},
        {"shape": None},
        {"shape": [3, 4, 0]},
        {"dtype": "object"},
        {"provenance": {"kind": "x"}},
        {"shards": []},
        {"shards": [{"file": "../shard-00000.npz", "first": 0, "count": 25, "sha256": ""}]},
        {"provenance": {"kind": "real", "origin": "photos"}},
    ],
)
def test_manifest_that_is_not_ours_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    out = small_shards(tmp_path / "gen", images())
    edit_manifest(out, **changes)
    with pytest.raises(InputError):
        open_gen(out)


def test_folder_without_manifest_is_not_a_gen(tmp_path: Path) -> None:
    assert not is_gen(tmp_path)
    with pytest.raises(InputError, match="manifest"):
        open_gen(tmp_path)
    (tmp_path / "manifest.json").write_text("{broken")
    assert not is_gen(tmp_path)


def fail_while_writing(out: Path, failure: BaseException) -> None:
    with new_gen(out, force=True) as folder:
        write_shards(folder, images(25), shard_size=10)
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_interrupted_writing_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure):
        fail_while_writing(tmp_path / "gen", failure())
    assert list(tmp_path.iterdir()) == []


def test_failed_replacement_keeps_the_earlier_result(tmp_path: Path) -> None:
    out = write_gen(tmp_path / "gen", images(5), PROVENANCE)

    with pytest.raises(RuntimeError, match="fire"):
        fail_while_writing(out, RuntimeError("the disk is on fire"))
    np.testing.assert_array_equal(open_gen(out).samples, images(5))
    assert [path.name for path in tmp_path.iterdir()] == ["gen"]


def test_overwriting_needs_force_and_never_touches_other_folders(tmp_path: Path) -> None:
    out = write_gen(tmp_path / "gen", images(5), PROVENANCE)
    with pytest.raises(InputError, match="--force"):
        write_gen(out, images(6), PROVENANCE)
    assert len(open_gen(out)) == 5
    write_gen(out, images(6), PROVENANCE, force=True)
    assert len(open_gen(out)) == 6
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(InputError, match="in the way"):
        write_gen(photos, images(5), PROVENANCE, force=True)
    assert (photos / "holiday.jpg").read_bytes() == b"dear"


def test_real_or_missing_samples_are_not_written_as_generated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="generated"):
        write_gen(tmp_path / "gen", images(5), Provenance("real", "photos"))
    with pytest.raises(InputError, match="0 generated"):
        write_gen(tmp_path / "gen", images(5)[:0], PROVENANCE)
    assert list(tmp_path.iterdir()) == []

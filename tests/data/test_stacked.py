"""Rows of several arrays as one; generated shards that stay in their files."""

import numpy as np
import pytest
import torch

from swell.data import gen
from swell.data.gen import open_gen, write_gen, write_manifest, write_shards
from swell.data.mixture import Mixture
from swell.data.partners import held_samples, take
from swell.data.source import Provenance
from swell.data.stacked import StackedRows
from swell.errors import InputError


def test_any_index_gives_what_the_whole_gives():
    whole = np.random.default_rng(0).integers(0, 256, (23, 3, 4, 4), np.uint8)
    rows = StackedRows((whole[:7], whole[7:8], whole[8:]))
    mask = np.arange(23) % 4 == 1
    for index in (slice(None), slice(20, 2, -3), [0, 6, 7, 8, 22, 7], np.array([-1, -23]), mask, 7, -2):
        np.testing.assert_array_equal(rows[index], whole[index])
    np.testing.assert_array_equal(rows.subset(mask)[1:], whole[mask][1:])
    np.testing.assert_array_equal(rows.subset(mask).subset([2, 0])[:], whole[mask][[2, 0]])
    assert (rows.shape, rows.ndim, rows.dtype, rows.nbytes) == (whole.shape, 4, whole.dtype, whole.nbytes)
    assert torch.equal(rows.to("cpu"), torch.from_numpy(whole))
    for wrong in ([23], [-24], np.zeros((2, 2), int)):
        with pytest.raises(IndexError):
            rows[wrong]


@pytest.mark.parametrize("shape", [(3, 4, 4), (5,)])
def test_a_large_folder_of_generated_samples_stays_on_the_disk(tmp_path, monkeypatch, shape):
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (50, *shape)).astype(np.uint8 if len(shape) == 3 else np.float32)
    origin = Provenance("generated", "x", generator="kde")
    with gen.new_gen(tmp_path / "gen") as folder:
        rows = write_shards(folder, samples, shard_size=20)
        write_manifest(folder, rows, shape=shape, dtype=str(samples.dtype), provenance=origin)
    assert isinstance(open_gen(tmp_path / "gen", mapped=True).samples, np.ndarray)  # small
    monkeypatch.setattr(gen, "MAPPED", 100)
    source, whole = open_gen(tmp_path / "gen", mapped=True), open_gen(tmp_path / "gen")
    assert [type(part) for part in source.samples.parts] == [np.memmap] * 3
    np.testing.assert_array_equal(source.samples[:], samples)
    assert source.fingerprint == whole.fingerprint
    held = held_samples(source.samples)
    for t in range(5):
        drawn = Mixture(30, 50, batch=16)(t).generated
        assert torch.equal(take(held, drawn), torch.from_numpy(samples[drawn.numpy()]))


def test_checksums_hold_for_mapped_shards_too(tmp_path, monkeypatch):
    monkeypatch.setattr(gen, "MAPPED", 100)
    samples = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), np.uint8)
    path = write_gen(tmp_path / "gen", samples, Provenance("generated", "x", generator="kde")) / "shard-00000.npz"
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        open_gen(tmp_path / "gen", mapped=True)

"""SparseRows against dense arithmetic: every way to ask for rows, groups, limits, subsets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from swell.data.source import Provenance, Source
from swell.data.sparse import SparseRows


def made(seed=0, n=40, d=9, density=0.3, groups=2, limit=1.0):
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((n, d)) < density, rng.normal(size=(n, d)), 0).astype(np.float32)
    shift = rng.normal(size=(groups, d)).astype(np.float32)
    group = rng.integers(0, groups, n) if groups > 1 else None
    rows = SparseRows.from_csr(csr_array(dense), shift, group, limit)
    expected = np.clip(dense - shift[group if group is not None else np.zeros(n, int)], -limit, limit)
    return rows, expected


@given(st.integers(0, 50), st.integers(1, 3), st.sampled_from([0.0, 0.05, 1.0]), st.sampled_from([0.5, float("inf")]))
@settings(deadline=None, max_examples=40)
def test_rows_are_those_of_the_dense_matrix_to_the_bit(seed, groups, density, limit):
    rows, expected = made(seed, groups=groups, density=density, limit=limit)
    assert (rows.shape, rows.ndim, rows.dtype, len(rows)) == (expected.shape, 2, np.float32, 40)
    rng = np.random.default_rng(seed)
    for index in (slice(None), slice(3, 17, 4), slice(None, None, -1), slice(50, 60), rng.integers(-40, 40, 12),
                  rng.random(40) < 0.5, np.zeros(0, int), np.zeros(40, bool)):  # fmt: skip
        got = rows[index]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected[index])
        np.testing.assert_array_equal(rows.subset(index)[:], expected[index])
    np.testing.assert_array_equal(rows[-1], expected[-1])
    at = torch.from_numpy(rng.integers(0, 40, 25))
    np.testing.assert_array_equal(rows.take(at).numpy(), expected[at])


def test_rows_that_are_not_there_are_refused():
    rows, _ = made()
    for index in (np.array([40]), np.array([-41]), np.zeros(39, bool), np.zeros((2, 2), int)):
        with pytest.raises(IndexError):
            rows[index]


def test_a_source_of_sparse_rows_is_the_dense_one():
    rows, dense = made(n=5000)
    sparse, full = (Source(samples, Provenance("real", "array"), np.arange(5000)) for samples in (rows, dense))
    assert sparse.fingerprint == full.fingerprint
    assert sparse.shape == (9,)
    assert not sparse.is_images
    index = np.array([7, 3, 3])
    assert isinstance(sparse.subset(index).samples, SparseRows)
    assert sparse.subset(index).fingerprint == full.subset(index).fingerprint
    assert sparse.subset(index).labels.tolist() == [7, 3, 3]


def test_bytes_are_those_of_the_values():
    rows, _ = made(n=4000, d=500, density=0.01, groups=1)
    assert rows.nbytes < 4000 * 500 * 4 / 10
    assert rows.to("cpu").device == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_rows_on_a_gpu_are_those_on_the_cpu():
    rows, dense = made()
    there, at = rows.to("cuda"), torch.tensor([5, 5, 0, 39])
    for place in ("cpu", "cuda"):
        assert there.take(at.to(place)).device.type == "cuda"
        np.testing.assert_array_equal(there.take(at.to(place)).cpu().numpy(), dense[at])
    np.testing.assert_array_equal(there.subset(slice(2, 9))[:], dense[2:9])

"""Counts made ready: against plain float64 arithmetic, a hand-worked case, and as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, csr_array

from swell.data.counts import dispersion, kind_of_cells
from swell.data.preparation import Preparation
from swell.data.sparse import SparseRows
from swell.errors import InputError


def cells(seed=0, n=60, d=30):
    """Counts with genes of different means, a cell without any and a gene nobody expresses."""
    rng = np.random.default_rng(seed)
    x = rng.poisson(rng.gamma(0.5, 3.0, d) * rng.gamma(2.0, 0.5, (n, 1)))
    x[3], x[:, 5] = 0, 0
    return x


def plain(x, keep=None, batches=None, limit=10.0):
    """The same by the book: float64, dense, one thing after another."""
    sizes = x.sum(1)
    target = np.median(sizes[sizes > 0])
    y = np.log1p(x * np.where(sizes > 0, target / np.maximum(sizes, 1), 0)[:, None])
    y = y[:, y.std(0) > 0 if keep is None else keep]
    out = np.empty_like(y)
    for batch in np.unique(batches) if batches is not None else [None]:
        rows = slice(None) if batch is None else batches == batch
        deviation = y[rows].std(0)
        out[rows] = (y[rows] - y[rows].mean(0)) / np.where(deviation > 0, deviation, 1)
    return np.clip(out, -limit, limit)


def test_steps_are_library_size_log_and_unit_variance():
    x = cells()
    got = Preparation.fit(csr_array(x)).apply(csr_array(x))
    np.testing.assert_allclose(got[:], plain(x), atol=2e-6)
    np.testing.assert_allclose(got[:].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(got[:].std(0), 1, atol=1e-6)


def test_a_case_by_hand():
    """Sizes 1, 3 and 2, so target 2: rows log1p([2, 0]), log1p([2/3, 4/3]), log1p([1, 1])."""
    x = np.array([[1, 0], [1, 2], [1, 1]])
    y = np.log([[3, 1], [5 / 3, 7 / 3], [2, 2]])
    got = Preparation.fit(x, kind="counts").apply(x)
    np.testing.assert_allclose(got, (y - y.mean(0)) / y.std(0), rtol=1e-5)


def test_values_are_clipped():
    x = np.tile([1000, 3, 0], (400, 1))
    x[:200, 1], x[0, 2] = 4, 5  # one cell in 400: 20 standard deviations
    got = Preparation.fit(csr_array(x)).apply(csr_array(x))[:]
    assert got[0, 2] == got.max() == 10.0


@given(st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=25)
def test_dense_and_sparse_end_in_the_same_bits_and_rows_do_not_depend_on_each_other(seed, batched):
    x = cells(seed)
    batches = np.array(["a", "b", "c"])[np.arange(60) % 3] if batched else None
    dense, sparse = (Preparation.fit(m, kind="counts", batches=batches) for m in (x, csr_array(x)))
    assert dense.fingerprint == sparse.fingerprint
    whole = sparse.apply(csr_array(x), batches=batches)
    assert isinstance(whole, SparseRows)
    np.testing.assert_array_equal(dense.apply(x, batches=batches), whole[:])
    some = np.random.default_rng(seed).permutation(60)[:17]
    part = None if batches is None else batches[some]
    alone = sparse.apply(csr_array(x[some]), batches=part)
    np.testing.assert_array_equal(whole.subset(some)[:], alone[:])
    np.testing.assert_array_equal(dense.apply(x[some], batches=part), alone[:])


def test_batches_are_scaled_by_themselves_and_strangers_by_all():
    x = cells()
    batches = np.array(["a", "b"])[np.arange(60) % 2]
    made = Preparation.fit(csr_array(x), batches=batches)
    np.testing.assert_allclose(made.apply(x, batches=batches), plain(x, batches=batches), atol=2e-6)
    np.testing.assert_allclose(made.apply(x, batches=np.full(60, "new")), plain(x), atol=2e-6)
    np.testing.assert_array_equal(made.apply(x), made.apply(x, batches=np.full(60, "new")))


def test_chosen_genes_are_kept_as_they_are():
    x, chosen = cells(), np.zeros(30, bool)
    chosen[[2, 5, 11]] = True
    made = Preparation.fit(csr_array(x), [f"g{j}" for j in range(30)], chosen=chosen)
    assert made.features == ("g2", "g5", "g11")
    np.testing.assert_allclose(made.apply(csr_array(x))[:], plain(x, keep=chosen), atol=2e-6)


def test_logged_counts_are_only_scaled():
    y = np.log1p(cells() / 7)
    made = Preparation.fit(csr_array(y))
    assert made.kind == "logged"
    kept = y[:, y.std(0) > 0]
    np.testing.assert_allclose(made.apply(csr_array(y))[:], (kept - kept.mean(0)) / kept.std(0), atol=1e-5)


def test_the_most_variable_genes_are_found(monkeypatch):
    """Of genes with equal means, those with bursts, whatever their mean."""
    monkeypatch.setattr("swell.data.counts.GENES", 20)
    rng = np.random.default_rng(0)
    mean = np.geomspace(0.5, 20, 400)
    x = rng.poisson(mean, (500, 400))
    bursts = np.arange(0, 400, 20)
    x[:, bursts] = np.where(rng.random((500, 20)) < 0.2, rng.poisson(5 * mean[bursts], (500, 20)), 0)
    x = np.hstack([x, np.full((500, 1), 4000)])  # so that library sizes tell nothing
    genes = Preparation.fit(csr_array(x)).arrays["genes"]
    assert len(set(genes) & set(bursts)) >= 18


def test_dispersion_is_ranked_within_bins_of_like_mean():
    mean, variance = np.arange(1.0, 201), np.arange(1.0, 201)  # ratio 1 everywhere
    variance[[10, 150]] = 3 * mean[[10, 150]]
    variance[0] = 0
    scores = dispersion(mean, variance)
    assert set(np.argsort(-scores)[:2]) == {10, 150}
    assert scores[0] == -np.inf
    assert (dispersion(np.zeros(4), np.zeros(4)) == -np.inf).all()


@pytest.mark.parametrize(
    ("values", "kind"), [([0, 3, 7], "counts"), ([0.0, 2.0], "counts"), ([0, 0.7], "logged"), ([-0.1, 3], "none")]
)
def test_the_kind_is_seen_by_the_values(values, kind):
    assert kind_of_cells(np.array([values])) == kind
    assert kind_of_cells(csr_array(np.array([values]))) == kind


def test_what_does_not_fit_is_refused():
    x = cells()
    made = Preparation.fit(csr_array(x))
    for bad, words in (
        (x - 1, "negative"),
        (x / 3, "fractions"),
        (np.where(x > 5, np.nan, x), "NaN"),
        (x[:, :9], "vectors of 9 features"),
    ):
        with pytest.raises(InputError, match=words):
            made.apply(csr_array(bad))
    for bad, words in ((np.zeros((5, 5), int), "without a single count"), (np.ones((5, 5), int), "genes that vary")):
        with pytest.raises(InputError, match=words):
            Preparation.fit(csr_array(bad))
    assert isinstance(made.apply(csr_array(csc_array(x))), SparseRows)

"""Tables made ready: against scikit-learn's scalers and encoders, and what happens to gaps, strangers and names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from swell.data.columns import Table, Words, normal_scores
from swell.data.preparation import Preparation
from swell.errors import InputError


def table(seed=0, n=200, gaps=True):
    rng = np.random.default_rng(seed)
    numbers = np.column_stack([rng.normal(5, 2, n), rng.lognormal(0, 2.5, n), rng.integers(0, 4, n), np.full(n, 7.0)])
    codes = rng.integers(0, 3, n)
    if gaps:
        numbers[::9, 0], codes[::7] = np.nan, -1
    columns = (Words("colour", codes, ("blue", "green", "red")), Words("name", np.arange(n), tuple(map(str, range(n)))))
    return Table(numbers, ("width", "price", "doors", "wheels"), columns)


def test_numbers_are_standardised_as_scikit_learn_does():
    a = np.random.default_rng(0).normal(3, [1, 10, 0.1], (300, 3))
    a = np.hstack([a, np.full((300, 1), 1e6 / 3)])  # constant, and no whole number
    got = Preparation.fit(a, scaling="standard").apply(a)
    np.testing.assert_allclose(got, StandardScaler().fit_transform(a), atol=1e-6)
    assert got.dtype == np.float32


def test_heavy_tails_are_mapped_by_quantiles_as_scikit_learn_does():
    a = np.random.default_rng(1).lognormal(0, 2.5, (2000, 1))
    a[:300] = 0.0  # ties
    made = Preparation.fit(a, ["price"])
    assert made.settings["quantile"] == ["price"]
    expected = QuantileTransformer(n_quantiles=1000, output_distribution="normal").fit_transform(a)
    inside = np.abs(expected[:, 0]) < 3
    np.testing.assert_allclose(made.apply(a)[inside], expected[inside], atol=1e-5)
    assert np.abs(made.apply(np.array([[-1.0], [1e12]]))).max() < 4
    assert (normal_scores(np.array([2.0]), np.array([1.0, 2.0, 3.0])) == 0).all()


def test_words_are_one_hot_and_gaps_are_filled_and_flagged():
    t = table()
    made = Preparation.fit(t)
    got = dict(zip(made.features, made.apply(t).T, strict=True))
    colour = np.array(["blue", "green", "red", None], object)[t.words[0].codes]
    expected = OneHotEncoder(categories=[["blue", "green", "red"]], handle_unknown="ignore").fit_transform(
        colour[:, None]
    )
    for k, name in enumerate(("blue", "green", "red")):
        np.testing.assert_array_equal(got[f"colour = {name}"], expected.toarray()[:, k])
    empty = np.isnan(t.numbers[:, 0])
    np.testing.assert_array_equal(got["width is empty"], empty)
    np.testing.assert_array_equal(got["colour is empty"], t.words[0].codes < 0)
    assert (got["width"][empty] == 0).all()
    assert abs(got["width"].mean()) < 1e-6
    assert (got["wheels"] == 0).all()
    assert set(got) == {"width", "price", "doors", "wheels", "colour = blue", "colour = green", "colour = red",
                        "width is empty", "colour is empty"}  # fmt: skip
    assert made.settings["left_out"] == ["name"]


@given(st.integers(0, 1000), st.sampled_from(["auto", "standard", "quantile"]))
@settings(deadline=None, max_examples=20)
def test_rows_do_not_depend_on_each_other(seed, scaling):
    t = table(seed)
    made = Preparation.fit(t, scaling=scaling)
    some = np.random.default_rng(seed).permutation(200)[:31]
    np.testing.assert_array_equal(made.apply(t)[some], made.apply(t[some]))
    assert np.isfinite(made.apply(t)).all()


def test_columns_are_matched_by_name_and_strangers_are_nobody():
    t = table(gaps=False)
    made = Preparation.fit(t)
    words = (
        t.words[1],
        Words("colour", t.words[0].codes, ("blue", "green", "mauve")),
        Words("extra", t.words[0].codes, ("a", "b", "c")),
    )
    turned = Table(t.numbers[:, ::-1], t.names[::-1], words)
    got, before = made.apply(turned), made.apply(t)
    same = t.words[0].codes < 2
    np.testing.assert_array_equal(got[same], before[same])
    red = made.features.index("colour = red")
    assert before[~same, red].all()
    assert not got[~same, red].any()


def test_what_does_not_fit_is_refused():
    t = table()
    made = Preparation.fit(t)
    infinite = Table(np.where(np.arange(4) == 1, np.inf, t.numbers), t.names, t.words)
    as_words = Table(t.numbers[:, 1:], t.names[1:], (*t.words, Words("width", t.words[0].codes, ("a", "b", "c"))))
    for bad, words in (
        (Table(t.numbers[:, 1:], t.names[1:], t.words), "'width'.*asked for as labels"),
        (Table(t.numbers, t.names), "'colour'"),
        (infinite, "'price': infinite in row 0"),
        (as_words, "'width' of another kind"),
    ):
        with pytest.raises(InputError, match=words):
            made.apply(bad)
    with pytest.raises(InputError, match="infinite"):
        Preparation.fit(infinite)
    with pytest.raises(InputError, match="that rows share"):
        Preparation.fit(Table(np.full((9, 1), np.nan), ("a",)))

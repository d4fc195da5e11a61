"""A preparation is stored and read again whole, tells what it does, matches by name, and refuses what it is not."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from swell.data.columns import Table, Words
from swell.data.preparation import Preparation
from swell.data.sparse import SparseRows
from swell.data.stream import stream_of
from swell.errors import InputError

NAMES = [f"gene{j}" for j in range(20)]


def counts(seed=0, n=50):
    return np.random.default_rng(seed).poisson(np.linspace(0.3, 8, 20), (n, 20))


def some_table():
    rng = np.random.default_rng(0)
    numbers = rng.lognormal(0, 2, (90, 3))
    numbers[3, 1] = np.nan
    return Table(numbers, ("a", "b", "c"), (Words("kind", rng.integers(-1, 2, 90), ("x", "ÿ")),))


def every():
    x = csr_array(counts())
    yield "counts", x, Preparation.fit(x, NAMES), "counts: library size to"
    batches = np.array(["one", "two"])[np.arange(50) % 2]
    yield (
        "batches",
        x,
        Preparation.fit(x, NAMES, batches=batches, about={"batch": "donor"}),
        "within 2 batches of donor",
    )
    yield "logged", x / 2.5, Preparation.fit(x / 2.5, about={"layer": "norm"}), "logged of layer norm: logged already"
    yield "none", x * -1.0, Preparation.fit(x * -1.0, NAMES), "none: 20 numbers as they are"
    yield "table", some_table(), Preparation.fit(some_table()), "1 of categories; 2 flags of empty cells: 7 features"
    yield "array", counts() / 3, Preparation.fit(counts() / 3), "table: 20 columns of numbers"


EVERY = list(every())


def dense(samples):
    return samples[:]


@pytest.mark.parametrize(("raw", "made", "words"), [row[1:] for row in EVERY], ids=[row[0] for row in EVERY])
def test_stored_and_read_again_it_does_the_same(raw, made, words, tmp_path):
    made.save(tmp_path / "p.safetensors")
    again = Preparation.load(tmp_path / "p.safetensors")
    assert again.fingerprint == made.fingerprint
    assert again.describe() == made.describe()
    assert words in made.describe()
    assert again.features == made.features
    names = () if isinstance(raw, Table) else made.names
    np.testing.assert_array_equal(dense(again.apply(raw, names)), dense(made.apply(raw, names)))
    assert dense(made.apply(raw, names)).shape[1] == len(made.features)
    assert len({row[2].fingerprint for row in EVERY}) == len(EVERY)


def test_it_is_learnt_on_the_rows_it_was_given_only():
    first, second = csr_array(counts(0)), csr_array(counts(1)[:, ::-1])
    made = Preparation.fit(first, NAMES)
    before = made.fingerprint
    made.apply(second, NAMES)
    assert made.fingerprint == before
    assert np.abs(made.apply(second, NAMES)[:].mean(0)).max() > 0.5  # not standardised by themselves


def test_genes_are_matched_by_name_and_extra_ones_do_not_count():
    x = counts()
    made = Preparation.fit(csr_array(x), NAMES)
    order = np.random.default_rng(0).permutation(20)
    wide = np.hstack([np.full((50, 2), 1000), x[:, order]])
    names = ["new", "newer", *(NAMES[j] for j in order)]
    np.testing.assert_array_equal(made.apply(csr_array(wide), names)[:], made.apply(csr_array(x), NAMES)[:])


def test_a_few_missing_genes_get_the_mean_and_many_are_refused(capsys):
    x = counts()
    made = Preparation.fit(csr_array(x), NAMES)
    got = made.apply(csr_array(x[:, 2:]), NAMES[2:], quiet=False)
    assert isinstance(got, SparseRows)
    assert (got[:][:, :2] == 0).all()
    assert "2 of 20 genes are missing (first gene0)" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"5 of 20 genes missing \(first gene0, gene1, gene2\)"):
        made.apply(csr_array(x[:, 5:]), NAMES[5:])
    with pytest.raises(InputError, match="20 of 20 genes missing"):
        made.apply(csr_array(x), [f"ENSG{j}" for j in range(20)])


def test_words_that_are_none_and_names_that_repeat():
    with pytest.raises(InputError, match="did you mean 'counts'"):
        Preparation.fit(counts(), kind="count")
    with pytest.raises(InputError, match=r"occur twice \(first 'gene1'"):
        Preparation.fit(csr_array(counts()), ["gene1", *NAMES[1:]])
    with pytest.raises(InputError, match="a table with words"):
        Preparation.fit(some_table(), kind="counts")
    with pytest.raises(InputError, match="sparse matrix prepared as a table"):
        Preparation.fit(csr_array(counts()), kind="table")
    with pytest.raises(InputError, match="NaN"):
        Preparation.fit(counts(), kind="none").apply(np.full((3, 20), np.nan))
    chosen = np.arange(20) % 2 == 0
    assert Preparation.fit(csr_array(-1.0 * counts()), NAMES, chosen=chosen).features == tuple(NAMES[::2])


def head(change):
    value = {"format": "swell-preparation-1", "kind": "counts", "names": NAMES, "width": 20}
    value["settings"] = {"target": 9.0, "limit": 10.0, "batches": [], "whole": True}
    change(value)
    return {"preparation": json.dumps(value)}


GOOD = {"genes": np.arange(3), "scale": np.ones((1, 3), np.float32), "shift": np.ones((1, 3), np.float32)}


@pytest.mark.parametrize(
    ("tensors", "change"),
    [
        (GOOD, lambda v: v.update(format="swell-preparation-9")),
        (GOOD, lambda v: v.update(kind="soup")),
        (GOOD, lambda v: v.update(names=NAMES[1:])),
        (GOOD, lambda v: v.update(settings=[])),
        (GOOD, lambda v: v["settings"].update(target=-1)),
        (GOOD, lambda v: v["settings"].update(batches=["a"])),
        (GOOD, lambda v: v["settings"].pop("whole")),
        (GOOD, lambda v: v.update(kind="table")),
        (GOOD | {"genes": np.array([0, 1, 20])}, lambda v: None),
        (GOOD | {"genes": np.arange(4)}, lambda v: None),
        (GOOD | {"scale": np.full((1, 3), np.nan, np.float32)}, lambda v: None),
        ({"genes": np.arange(3)}, lambda v: None),
    ],
)
def test_damaged_files_are_refused_in_one_line(tensors, change, tmp_path):
    save_file(GOOD, tmp_path / "p.safetensors", head(lambda v: None))
    assert Preparation.load(tmp_path / "p.safetensors").features == tuple(NAMES[:3])
    save_file(tensors, tmp_path / "p.safetensors", head(change))
    with pytest.raises(InputError, match=r"p\.safetensors"):
        Preparation.load(tmp_path / "p.safetensors")


def test_other_files_are_refused(tmp_path):
    save_file(GOOD, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("dear diary")
    (tmp_path / "empty.safetensors").touch()
    for name in ("other", "text", "empty", "absent"):
        with pytest.raises(InputError, match=name):
            Preparation.load(tmp_path / f"{name}.safetensors")


def test_a_width_beyond_memory_is_never_listed(tmp_path):
    """Found by fuzzing: columns without names were compared with a set of all places there might be."""
    save_file(GOOD, tmp_path / "p.safetensors", head(lambda v: v.update(names=[], width=10**15)))
    assert Preparation.load(tmp_path / "p.safetensors").features == ("0", "1", "2")
    none = Preparation.restored({"names": [], "width": 10**15, "kind": "none", "settings": {}}, {})
    assert none.feature_count == 10**15
    assert none.describe() == "none: 1,000,000,000,000,000 numbers as they are"
    np.save(tmp_path / "a.npy", np.zeros((4, 3), np.float32))
    with pytest.raises(InputError, match=r"a\.npy.*vectors of 3 features"):
        list(stream_of(tmp_path / "a.npy", (3,), none).parts)
    made = Preparation.fit(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), kind="table")
    assert made.feature_count == len(made.features)
    stored = {"names": [], "width": 10**15, "kind": "table", "settings": dict(made.settings)}
    assert Preparation.restored(stored, made.arrays).features == made.features
    for name in ("03", str(10**15), "x", "\N{SUPERSCRIPT TWO}"):
        settings = {**made.settings, "numbers": [name, *made.settings["numbers"][1:]]}
        with pytest.raises(ValueError, match="fit together"):
            Preparation.restored({**stored, "settings": settings}, made.arrays)

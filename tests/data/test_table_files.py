"""Tables: types are seen, gaps are gaps, labels are no features, and a .csv, a .parquet and a frame mean the same."""

import numpy as np
import pytest

from swell.data import open_data
from swell.data.columns import Table
from swell.data.tables import EMPTY, open_csv, open_frame, open_parquet
from swell.errors import InputError

PYARROW = ("pyarrow", "pyarrow.parquet")
TEXT = """id,width,doors,colour,label
a1,1.5,4,red,cat
a2,,2,blue,dog
a3,3.5,NA,"dark, blue",cat
a4,-2e3,4,,cat
"""


@pytest.fixture
def csv(tmp_path):
    (tmp_path / "x.csv").write_text(TEXT)
    return tmp_path / "x.csv"


def test_types_gaps_and_labels(csv):
    raw = open_csv(csv, True)
    assert raw.values.names == ("width", "doors")
    np.testing.assert_array_equal(raw.values.numbers, [[1.5, 4], [np.nan, 2], [3.5, np.nan], [-2000, 4]])
    ids, colour = raw.values.words
    assert colour.values[colour.codes[2]] == "dark, blue"
    assert (colour.codes >= 0).tolist() == [True, True, True, False]
    assert ids.name == "id"
    assert raw.labels.tolist() == ["cat", "dog", "cat", "cat"]
    assert open_csv(csv).labels is None


def test_a_source_of_a_table(csv):
    source = open_data(csv, labels="label")
    assert source.preparation.kind == "table"
    assert source.classes == ["cat", "dog"]
    assert source.fingerprint == open_data(csv).fingerprint  # labels are no features, asked for or not
    assert not any("label" in name for name in source.preparation.features)


def test_a_column_asked_for_as_labels_is_no_feature(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,kind\n" + "".join(f"{i},{i * i},{'xy'[i % 2]}\n" for i in range(20)))
    with_it, without = open_data(tmp_path / "x.csv"), open_data(tmp_path / "x.csv", labels="kind")
    assert with_it.preparation.features == ("a", "b", "kind = x", "kind = y")
    assert without.preparation.features == ("a", "b")
    with pytest.raises(InputError, match=r"'kind'.*cannot have been a feature"):
        open_data(tmp_path / "x.csv", labels="kind", preparation=with_it.preparation)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "a"])
def test_numbers_alone_are_read_fast_and_the_same(delimiter, first, tmp_path):
    """By both readers; a first column without a name holds names of rows."""
    rows = [[i, i / 7, -i] for i in range(30)]
    lines = [delimiter.join(map(str, row)) for row in ([first, "b", "c"], *rows)]
    (tmp_path / "fast.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "slow.csv").write_text("\n".join([*lines, delimiter.join(["NA", "NA", "NA"])]) + "\r\n\n")
    fast, slow = (open_csv(tmp_path / name).values for name in ("fast.csv", "slow.csv"))
    assert fast.names == slow.names == ("a", "b", "c")[not first :]
    np.testing.assert_array_equal(fast.numbers, slow.numbers[:-1])
    assert np.isnan(slow.numbers[-1]).all()


def test_without_names_columns_are_numbered_and_order_of_reading_does_not_matter(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n3,4\n5,6.5\n")
    assert open_csv(tmp_path / "x.csv").values.names == ("0", "1")
    assert open_data(tmp_path / "x.csv").shape == (2,)


def test_whole_numbers_in_many_columns_are_counts(tmp_path):
    x = np.random.default_rng(0).poisson(0.2, (50, 300))
    lines = [",".join(f"g{j}" for j in range(300)), *(",".join(map(str, row)) for row in x)]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    source = open_data(tmp_path / "x.csv")
    assert source.preparation.kind == "counts"
    assert open_data(tmp_path / "x.csv", prepare="none").preparation.kind == "none"
    again = open_data(tmp_path / "x.csv", preparation=source.preparation)
    assert again.fingerprint == source.fingerprint


def test_csv_parquet_and_frame_mean_the_same(csv, tmp_path):
    pandas = pytest.importorskip("pandas", reason="comes with the extra omics")
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    frame = pandas.read_csv(csv)
    frame["colour"] = frame["colour"].astype("category")
    frame.to_parquet(tmp_path / "x.parquet")
    by_text, by_arrow, by_frame = open_csv(csv), open_parquet(tmp_path / "x.parquet"), open_frame(frame)
    for raw in (by_arrow, by_frame):
        assert isinstance(raw.values, Table)
        np.testing.assert_array_equal(raw.values.numbers, by_text.values.numbers)
        for a, b in zip(raw.values.words, by_text.values.words, strict=True):
            assert [a.values[c] if c >= 0 else None for c in a.codes] == [
                b.values[c] if c >= 0 else None for c in b.codes
            ]
    sources = [open_data(data, labels=True) for data in (csv, tmp_path / "x.parquet", frame)]
    assert len({s.fingerprint for s in sources}) == 1
    assert len({tuple(s.labels) for s in sources}) == 1


def test_frames_of_other_types():
    pandas = pytest.importorskip("pandas", reason="comes with the extra omics")
    frame = pandas.DataFrame({"a": pandas.array([1, None, 3], "Int64"), "b": [True, False, True], "c": [1, 2.5, None]})
    frame["c"] = frame["c"].astype(object)
    np.testing.assert_array_equal(open_frame(frame).values.numbers, [[1, 1, 1], [np.nan, 0, 2.5], [3, 1, np.nan]])
    for bad in (pandas.to_datetime(["2020", "2021", "2022"]), [[1], [2], [3]]):
        with pytest.raises(InputError, match="'d'"):
            open_frame(frame.assign(d=bad))
    with pytest.raises(InputError, match="twice"):
        open_frame(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n", "1 cells in row 3: expected 2"),
        ("a,b\n1,2\n3,4,5\n", "3 cells in row 3: expected 2"),
        ("a,b\n1,x\n3,4,5\n", "3 cells in row 3: expected 2"),
        ("a,b\n1,2,3\n4,5,6\n", "3 cells in row 2: expected 2"),
        ("a,a\n1,2\n3,4\n", "'a' twice"),
        ("a,b\n1,inf\n3,4\n", "'b': infinite in row 0"),
        ("a,b\n", "no columns|0 samples"),
        ("a,b\n1,2\n", "1 samples"),
        ("", "empty"),
        ("a,b\n,\n,\n", "columns a, b"),
        ('a,b\n"1,2\n3,4\n', "UTF-8 text"),
        ("a,b\n1,\xff\n3,4\n", "UTF-8 text"),
        ("label,y\n1,2\n3,4\n", "no columns but labels"),
    ],
)
def test_damage_is_told_in_one_line(text, words, tmp_path):
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=words) as error:
        open_data(tmp_path / "x.csv")
    assert "x.csv" in str(error.value)


def test_labels_that_are_not_there(csv, tmp_path):
    with pytest.raises(InputError, match="did you mean 'colour'"):
        open_data(csv, labels="color")
    with pytest.raises(InputError, match="1 rows without a value in 'colour'"):
        open_data(csv, labels="colour")
    (tmp_path / "y.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(InputError, match="no labels under labels or label or y"):
        open_data(tmp_path / "y.csv", labels=True)


def test_damaged_parquet(tmp_path):
    pyarrow, parquet = (pytest.importorskip(name, reason="needs the extra parquet") for name in PYARROW)
    rows = np.random.default_rng(0).normal(size=(4, 30)).astype(np.float32)
    parquet.write_table(pyarrow.table({f"feature_{j}": rows[j] for j in range(4)}), tmp_path / "x.parquet")
    source = open_data(tmp_path / "x.parquet")
    assert source.preparation.features == tuple(f"feature_{j}" for j in range(4))
    content = (tmp_path / "x.parquet").read_bytes()
    for broken in (b"", b"dear diary", content[: len(content) // 2]):
        (tmp_path / "x.parquet").write_bytes(broken)
        with pytest.raises(InputError, match=r"x\.parquet"):
            open_data(tmp_path / "x.parquet")


def test_every_word_for_nothing_is_a_gap(tmp_path):
    words = sorted(EMPTY)
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i},{w.upper()}\n" for i, w in enumerate(words)) + "9,3\n")
    numbers = open_csv(tmp_path / "x.csv").values.numbers
    assert np.isnan(numbers[:-1, 1]).all()
    assert numbers[-1, 1] == 3

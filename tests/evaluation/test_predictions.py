"""Predictions that go to a file and come back; files that are damaged, foreign or of another evaluation."""

import json

import numpy as np
import pytest

from swell.errors import InputError
from swell.evaluation.predictions import (
    FILE,
    PENDING,
    Predictions,
    read_predictions,
    settle_predictions,
    write_predictions,
)

ABOUT = {"train": "t1", "test": "t2", "labels": "l1", "origin": "not kept"}


def some(n=50, labels=(0, 3, 700)):
    rng = np.random.default_rng(0)
    truth, knn, linear = (rng.choice(labels, n) for _ in range(3))
    share = (rng.integers(0, 51, n) / 50).astype(np.float32)
    return Predictions(
        truth,
        {"knn": knn, "linear": linear},
        rng.random(n).astype(np.float32),
        {"few_shot_1": share, "few_labels_1%": share},
    )


def stored(folder, sets):
    told = write_predictions(folder, sets)
    (folder / "evaluation.json").write_text(json.dumps({"predictions": told}))
    settle_predictions(folder)


def test_every_set_comes_back(tmp_path):
    first, second = some(), some(20, (0, 1))
    stored(tmp_path, {"probe": (first, ABOUT), "transfer-1": (second, {**ABOUT, "test": "t3"})})
    for name, wanted, test in (("probe", first, "t2"), ("transfer-1", second, "t3")):
        found, about = read_predictions(tmp_path, name)
        assert about == {"train": "t1", "test": test, "labels": "l1"}
        assert found.scores == wanted.scores == ["knn", "linear", "few_shot_1", "few_labels_1%"]
        for score in found.scores:
            np.testing.assert_array_equal(found.of(score), wanted.of(score))
        np.testing.assert_array_equal(found.confidence, wanted.confidence)
    assert some().of("linear").mean() == (first.predicted["linear"] == first.truth).mean()
    with np.load(tmp_path / FILE, allow_pickle=False) as archive:
        assert (archive["probe/truth"].dtype, archive["transfer-1/truth"].dtype) == (np.uint16, np.uint8)


def test_a_score_or_set_that_is_not_there_is_refused(tmp_path):
    stored(tmp_path, {"probe": (some(), ABOUT)})
    with pytest.raises(InputError, match="did you mean 'linear'"):
        read_predictions(tmp_path)[0].of("linaer")
    with pytest.raises(InputError, match="transfer-1"):
        read_predictions(tmp_path, "transfer-1")


def test_a_missing_a_newer_and_a_damaged_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no predictions\.npz"):
        read_predictions(tmp_path)
    stored(tmp_path, {"probe": (some(), ABOUT)})
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(b"of another")
    with pytest.raises(InputError, match="another evaluation"):
        read_predictions(tmp_path)
    for damaged in (content[: len(content) // 2], b"", content[:-200] + b"x" * 200):
        stored(tmp_path, {"probe": (some(), ABOUT)})
        told = json.loads((tmp_path / "evaluation.json").read_text())["predictions"]
        (tmp_path / FILE).write_bytes(damaged)
        from swell.files import sha256_of

        told["sha256"] = sha256_of(tmp_path / FILE)
        (tmp_path / "evaluation.json").write_text(json.dumps({"predictions": told}))
        with pytest.raises(InputError, match="predictions swell wrote"):
            read_predictions(tmp_path)


def test_at_every_moment_of_another_evaluation_the_one_that_is_told_of_is_there(tmp_path):
    """As where the process is killed there."""

    def count():
        return len(read_predictions(tmp_path)[0].truth)

    stored(tmp_path, {"probe": (some(50), ABOUT)})
    told = write_predictions(tmp_path, {"probe": (some(30), ABOUT)})
    assert count() == 50  # and evaluation.json is the old one
    (tmp_path / "evaluation.json").write_text(json.dumps({"predictions": told}))
    assert count() == 30
    settle_predictions(tmp_path)
    assert count() == 30
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", FILE}
    write_predictions(tmp_path, {"probe": (some(20), ABOUT)})  # killed here, and evaluated again
    told = write_predictions(tmp_path, {"probe": (some(10), ABOUT)})
    (tmp_path / "evaluation.json").write_text(json.dumps({"predictions": told}))
    (tmp_path / FILE).unlink()  # as where the first evaluation of all is killed before the end
    assert count() == 10
    assert (tmp_path / PENDING).exists()
    (tmp_path / "evaluation.json").write_text(json.dumps({}))  # one without predictions
    settle_predictions(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json"}

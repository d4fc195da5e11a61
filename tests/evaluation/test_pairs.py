"""Pairs of arms on the same test samples: the mean over common seeds, and an interval over samples."""

import json

import numpy as np
import pytest

from swell.evaluation.compare import compare_runs
from swell.evaluation.predictions import Predictions, write_predictions


def right(path, hits):
    """Give a run predictions that are right about the samples in `hits` [n] and about no others."""
    hits = np.asarray(hits, bool)
    truth = np.arange(len(hits)) % 3
    found = Predictions(truth, {"linear": np.where(hits, truth, 3)}, np.full(len(hits), 0.5, np.float32))
    told = json.loads((path / "evaluation.json").read_text())
    told["predictions"] = write_predictions(path, {"probe": (found, {"train": "t1", "test": "t2", "labels": "l"})})
    (path / "evaluation.json").write_text(json.dumps(told))
    return path


def test_the_difference_on_samples_is_that_of_the_mean_over_common_seeds(run):
    rng = np.random.default_rng(0)
    hits = {(arm, seed): rng.random(1000) < share for arm, share in (("a", 0.8), ("b", 0.7)) for seed in (0, 1)}
    paths = [
        right(run(f"{arm}{seed}", float(h.mean()), method={"a": "simclr", "b": "dcl"}[arm], seed=seed), h)
        for (arm, seed), h in hits.items()
    ]
    (pair,) = compare_runs(paths)["pairs"]
    per_sample = sum(hits["a", s].astype(float) - hits["b", s] for s in (0, 1)) / 2
    found, error = pair["samples"], per_sample.std() / np.sqrt(1000)
    assert (pair["a"], pair["b"]) == ("simclr", "dcl")
    assert found["difference"] == pytest.approx(100 * per_sample.mean())
    assert found["difference"] == pytest.approx(pair["mean"])
    # a mean of 1,000 is all but normal
    assert [found["low"], found["high"]] == pytest.approx(
        [100 * (per_sample.mean() + k * 1.96 * error) for k in (-1, 1)], abs=0.25
    )


def test_single_runs_too_and_only_where_all_kept_what_was_asked_for(run):
    a, b = right(run("a", 0.5), [1, 0] * 50), right(run("b", 0.25, method="dcl"), [1, 0, 0, 0] * 25)
    (pair,) = compare_runs([a, b])["pairs"]
    assert (pair["p_holm"], pair["clear"], pair["samples"]["difference"]) == (None, False, pytest.approx(25))
    assert compare_runs([a, b], by="knn")["pairs"][0]["samples"] is None
    assert all(p["samples"] is None for p in compare_runs([a, b, run("c", method="byol")])["pairs"])

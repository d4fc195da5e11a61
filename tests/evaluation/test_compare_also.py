"""Ranking runs by what is only there where it was asked for: the dense probe and fine-tuning."""

import pytest

from swell.errors import InputError
from swell.evaluation.compare import compare_runs
from swell.report.compare_page import render_comparison
from swell.report.compare_text import markdown


def also(miou, accuracy, **terms):
    """What `swell evaluate --dense --finetune` adds to evaluation.json."""
    scenes = {"source": "mosaics", "tiles": 2}
    dense = {"probe": "swell-dense-1", "n_train": 9, "n_test": 9, "train": scenes, "test": scenes, "miou": miou}
    tuned = {"fraction": 0.1, "n_labels": 30, "n_test": 1000, "steps": 9, "accuracy": accuracy}
    return {"dense": {**dense, **{k: v for k, v in terms.items() if k in dense}},
            "finetune": {**tuned, **{k: v for k, v in terms.items() if k in tuned}}}  # fmt: skip


def test_runs_can_be_ranked_by_the_dense_probe_and_by_fine_tuning(run):
    paths = [
        run(f"{method}-{seed}", 0.8, method=method, seed=seed, evaluation=also(*scores))
        for method, scores in (("simclr", (0.3, 0.9)), ("dcl", (0.5, 0.6)))
        for seed in (0, 1)
    ]
    by_dense, by_tuning = (compare_runs(paths, by=by) for by in ("dense", "finetune"))
    assert [arm["name"] for arm in by_dense["arms"]] == ["dcl", "simclr"]
    assert [arm["name"] for arm in by_tuning["arms"]] == ["simclr", "dcl"]
    assert by_dense["arms"][0]["scores"]["dense"] == {"mean": 0.5, "sd": 0.0}
    assert "rank by mean IoU of the dense probe (50.0 to 30.0 %)" in by_dense["verdict"]
    table = markdown(by_dense)
    assert "| dense mIoU | fine-tuned |" in table
    assert "| 50.0 ± 0.0 | 60.0 ± 0.0 |" in table
    assert "dense mIoU" in render_comparison(by_dense)


@pytest.mark.parametrize(
    ("by", "other", "says"),
    [
        ("dense", None, "b .no dense on probe.*evaluated alike with --dense"),
        ("finetune", None, "no finetune on probe"),
        ("dense", also(0.5, 0.5, n_test=7), "other dense.n_test than"),
        ("dense", also(0.5, 0.5, test={"source": "masks"}), "other dense.test than"),
        ("finetune", also(0.5, 0.5, fraction=0.2), "other finetune.fraction than"),
    ],
)
def test_ranking_by_what_not_all_runs_have_alike_is_refused(run, by, other, says):
    paths = [run("a", evaluation=also(0.3, 0.4)), run("b", method="dcl", evaluation=other)]
    with pytest.raises(InputError, match=says):
        compare_runs(paths, by=by)
    result = compare_runs(paths)  # by something else it may be
    assert by not in result["arms"][0]["scores"]
    markdown(result)


def test_fingerprints_that_are_no_words():
    """Found by fuzzing: a ledger may hold anything in their place."""
    from swell.evaluation.arms import _labels

    assert _labels([1.5, "abcdefghij", None], ["a/x", "b/x", ""]) == ["1.5", "abcdefgh", None]
    assert _labels([{"a": 1}, [2]], ["a/x", "b/y"]) == ["x", "y"]

"""`swell evaluate` with all that can be asked of it: further data sets, other data, few labels, and the files it leaves."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import swell
from swell.cli import main, parse
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.evaluating import _splits
from swell.evaluation.paired import compare_predictions
from swell.evaluation.predictions import read_predictions
from swell.recipes import Recipe
from swell.training.loop import Operation, pretrain
from swell.views.plan import VIEWS

RECIPE = Recipe(
    backbone="conv6", width=0.25, batch_size=16, steps=8, optimizer="sgd", learning_rate=0.05, views=VIEWS["digits"](),
    method_options={"hidden": 16, "outputs": 8}, precision="fp32",
)  # fmt: skip


def pictures(n, seed=0, low=0):
    """Images of three classes, by their mean grey."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.integers(low, low + 60, (n, 1, 8, 8)) + 60 * y[:, None, None, None]).clip(0, 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one recipe."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        out = folder / str(seed)
        source = Source(pictures(64)[0], Provenance("real", "array"))
        pretrain(replace(RECIPE, seed=seed), source, out, None, Operation(quiet=True))
    return swell.load(folder / "0"), swell.load(folder / "1")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, n, seed, low in (("a", 90, 1, 0), ("b", 60, 2, 60), ("b_test", 30, 3, 60)):
        x, y = pictures(n, seed, low)
        np.savez(folder / f"{name}.npz", images=x, kind=y, labels=y)
    return folder


def test_everything_at_once(runs, files, capsys):
    run = runs[0]
    a, b, b_test = (str(files / f"{name}.npz") for name in ("a", "b", "b_test"))
    words = ["evaluate", str(run.path), a, b, "--test", "-", "--test", b_test, "--labels", "kind", "--full", "--ood", b]
    assert (
        main([*words, "--no-baselines", "--few-labels", "5", "--patches", "2", "--finetune", "--finetune-epochs", "1"])
        == 0
    )
    text = capsys.readouterr().out
    result = json.loads((run.path / "evaluation.json").read_text())
    assert (result["n_train"], result["n_test"]) == (63, 27)
    (other,) = result["transfer"]
    assert (other["name"], other["n_train"], other["n_test"]) == (b, 60, 30)
    assert other["data"]["test"] != result["data"]["test"]
    assert {"retrieval", "few_labels", "corruptions", "calibration", "encoding"} <= {*result} & {*other}
    assert [*result["few_labels"]["budgets"]] == ["5"]
    assert (result["ood"][0]["name"], result["ood"][0]["n_known"], result["ood"][0]["n_other"]) == (b, 27, 60)
    protocol = result["protocol"]
    assert protocol["version"] == "swell-evaluation-1"
    assert {*protocol["parts"]} == {
        "probe",
        "intervals",
        "calibration",
        "retrieval",
        "few_labels",
        "corruptions",
        "ood",
    }
    assert protocol["options"]["transfer"] == [b]
    assert protocol["options"]["few_labels"] == "5"
    scored = [found[name] for found in (result, result["bag_of_features"], other) for name in ("knn", "linear")]
    for found in (*scored, result["finetune"]):
        assert found["interval"][0] <= found["accuracy"] <= found["interval"][1]
    kept, about = read_predictions(run.path)
    assert {*kept.scores} == {
        "knn", "linear", "few_shot_1", "few_shot_10", "map", "few_labels_5", "corrupted_knn",
        "corrupted_linear", "bag_knn", "bag_linear", "finetune",
    }  # fmt: skip
    assert about == {key: result["data"][key] for key in ("train", "test", "labels")}
    wanted = {"knn": result["knn"]["accuracy"], "few_shot_10": result["few_shot"]["10"], "map": result["retrieval"]["map"],
              "finetune": result["finetune"]["accuracy"], "bag_linear": result["bag_of_features"]["linear"]["accuracy"],
              "few_labels_5": result["few_labels"]["budgets"]["5"]["accuracy"]}  # fmt: skip
    assert {name: kept.of(name).mean() for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert len(read_predictions(run.path, "transfer-1")[0].truth) == 30
    for told in ("transfer to ", "few labels: 5 a class (15)", "retrieval: mAP", "corrupted test samples", "told from",
                 "ECE", "2 patches", "fine-tuned on"):  # fmt: skip
        assert told in text


def test_the_probe_stays_what_it_is_whatever_is_asked_beside_it(runs, files):
    run, a = runs[0], str(files / "a.npz")
    plain = run.evaluate(a, baselines=False)
    more = run.evaluate(a, baselines=False, retrieval=True, corruptions=True, ood=[a])
    for key in ("probe", "settings", "knn", "linear", "few_shot", "clusters", "calibration", "label_free", "data"):
        assert plain[key] == more[key]
    assert not {"retrieval", "few_labels", "corruptions", "ood", "transfer", "bag_of_features"} & {*plain}
    assert more["cost"]["forwards"] - plain["cost"]["forwards"] == 12 * 27 + 90
    assert plain["encoding"]["flops_per_sample"] > 0


def test_two_runs_are_compared_sample_by_sample(runs, files):
    a, b = (str(files / f"{name}.npz") for name in ("a", "b"))
    results = [run.evaluate(a, baselines=False, transfer=[b]) for run in runs]
    found = compare_predictions(runs[0].path, runs[1].path)
    assert found["scores"] == [result["linear"]["accuracy"] for result in results]
    assert found["difference"] == pytest.approx(found["scores"][0] - found["scores"][1])
    moved = compare_predictions(runs[0].path, runs[1].path, by="few_shot_1", on="transfer-1")
    assert moved["scores"] == pytest.approx([result["transfer"][0]["few_shot"]["1"] for result in results], abs=1e-6)
    runs[1].evaluate(b, baselines=False)
    with pytest.raises(InputError, match="evaluated with other train samples"):
        compare_predictions(runs[0].path, runs[1].path)


@pytest.mark.parametrize("killed_in", ["write_json", "settle_predictions"])
def test_one_that_is_killed_between_its_files_leaves_an_evaluation_with_its_predictions(
    killed_in, runs, files, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    shutil.copytree(runs[0].path, out)
    run, (a, b) = swell.load(out), (str(files / f"{name}.npz") for name in ("a", "b"))
    run.evaluate(a, baselines=False)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"swell.evaluating.{killed_in}", killed)
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(b, baselines=False)
    told = json.loads((out / "evaluation.json").read_text())
    assert told["data"]["origin"] == (a if killed_in == "write_json" else b)
    kept, about = read_predictions(out)
    assert len(kept.truth) == told["n_test"]
    assert about["test"] == told["data"]["test"]
    run.evaluate(b, baselines=False)
    assert not list(out.glob("predictions.new*"))


def test_data_in_memory_and_built_in_sets(runs):
    run = runs[0]
    result = run.evaluate(pictures(30), transfer=[pictures(24, 5)], ood=["builtin:digits"])
    (other,) = result["transfer"]
    assert (other["name"], other["n_test"]) == ("array", 6)
    assert {*other["baselines"]} == {*result["baselines"]} == {"pixels", "pca", "random_init"}
    assert (result["ood"][0]["name"], result["ood"][0]["n_other"]) == ("builtin:digits:test", 540)
    assert result["protocol"]["options"]["data"] == "tuple"
    assert [len(part) for part in _splits(run, "builtin:digits", None, True)] == [1257, 540]


def test_one_data_set_and_its_options_are_given_as_ever():
    command = parse(["evaluate", "run", "--test", "t.npz", "d.npz", "--labels", "y"])
    assert (command.data, command.test, command.labels) == (["d.npz"], ["t.npz"], ["y"])
    several = parse(["evaluate", "run", "a", "b", "--ood", "c", "--ood", "d"])
    assert (several.data, several.ood, several.test) == (["a", "b"], ["c", "d"], [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--few-labels", "1.5%,x"], "few labels 'x'"),
        (["--test", "-", "--test", "-"], "1 test sets for 0 further data sets"),
        (["--labels", "kind", "--labels", "kind"], "2 keys of labels for 1 data sets"),
        (["--labels", "colour"], "colour"),
        (["--ood", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_input_is_told_in_one_line_and_costs_nothing(runs, files, words, told, capsys):
    before = (runs[0].path / "ledger.json").read_text()
    assert main(["evaluate", str(runs[0].path), str(files / "a.npz"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(told, error)
    assert (runs[0].path / "ledger.json").read_text() == before

"""The page of a run that was asked everything: every number of evaluation.json is on it, and its commands parse."""

from __future__ import annotations

import html
import json
import re
import shlex

import numpy as np
import pytest
from test_page import read

import swell
from swell.cli import parse
from swell.report.again import environment_facts, run_commands
from swell.report.evaluation_tables import evaluation_charts, evaluation_tables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    probed = swell.open("builtin:digits:test", labels=True)
    some, other = (probed.samples[:300], probed.labels[:300]), (probed.samples[300:500], probed.labels[300:500])
    made = swell.pretrain(
        "builtin:digits", tmp_path_factory.mktemp("runs") / "a run", recipe="digits", steps=5, width=0.25, quiet=True,
        report=False, batch_size=32, method_options={"hidden": 32, "outputs": 16},
    )  # fmt: skip
    strange = np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8)).astype(np.uint8)
    made.evaluate(
        some, baselines=False, transfer=[other], retrieval=True, few_labels="10%,3", corruptions=True, ood=[strange],
        patches=2,
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def found(run):
    return json.loads((run.path / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def page(run):
    return " ".join("".join(read((run.path / "report.html").read_text(encoding="utf-8")).text).split())


def percent(value):
    return f"{100 * value:.1f}"


def test_every_part_has_its_table(page):
    for title in (
        "How good are the features?", "How good is it on other data?", "How sure are these numbers?",
        "Does the linear probe know how sure it may be?", "How good is it with few labels?",
        "Are the nearest samples of the same class?", "What survives when samples are spoilt?",
        "Does it notice samples of another kind?", "One view or many?", "What did it cost?", "Nearest neighbours",
        "Is it right as often as it is sure?", "Accuracy on spoilt test samples", "Spectrum of the features",
    ):  # fmt: skip
        assert title in page, title


def test_the_numbers_are_those_of_the_evaluation(found):
    tables = {table.title: table for table in evaluation_tables(found)}
    (other,) = found["transfer"]
    sure = tables["How sure are these numbers?"].rows
    assert [row["value"] for row in sure] == [100 * e[s]["accuracy"] for e in (found, other) for s in ("linear", "knn")]
    assert sure[0]["low"] == 100 * found["linear"]["interval"][0]
    spoilt = {row["name"]: row for row in tables["What survives when samples are spoilt?"].rows if not row["group"]}
    assert spoilt["noise"]["linear3"] == 100 * found["corruptions"]["noise"][2]["linear"]["accuracy"]
    mean = np.mean([spoilt["mean of the spoilt"][f"knn{s}"] for s in (1, 2, 3)])
    assert mean == pytest.approx(100 * found["corruptions"]["mean"]["knn"]["accuracy"])
    few = [row["value"] for row in tables["How good is it with few labels?"].rows if not row["group"]]
    assert few[0] == (
        100 * found["few_labels"]["budgets"]["10%"]["accuracy"],
        100 * found["few_labels"]["budgets"]["10%"]["sd"],
    )
    assert few[-1] == 100 * found["linear"]["accuracy"]
    (strange,) = tables["Does it notice samples of another kind?"].rows
    assert (strange["value"], strange["fpr"]) == (100 * found["ood"][0]["auroc"], 100 * found["ood"][0]["fpr95"])
    retrieved = tables["Are the nearest samples of the same class?"].rows
    assert retrieved[0]["value"] == 100 * found["retrieval"]["map"]
    bag = tables["One view or many?"].rows
    assert bag[1]["flops"] == found["bag_of_features"]["flops_per_sample"] > bag[0]["flops"]


def test_charts_hold_the_bins_and_the_severities(found):
    ((reliability, spoilt),) = [part.charts for part in evaluation_charts(found)]
    bins = [b for b in found["calibration"]["bins"] if b["rows"] >= 10]
    assert list(reliability.series[0].y) == [100 * b["accuracy"] for b in bins]
    assert {line.name for line in spoilt.series} == {"noise", "blur", "less contrast", "coarser pixels"}
    assert all(line.y[0] == 100 * found["linear"]["accuracy"] for line in spoilt.series)


def test_a_bare_evaluation_has_none_of_it(found):
    bare = {key: found[key] for key in ("knn", "few_shot", "clusters", "n_train", "n_test")}
    bare["linear"] = {"accuracy": 0.5}
    bare["knn"] = {"accuracy": 0.5}
    assert evaluation_tables(bare) == []
    assert evaluation_charts(bare) == []
    assert evaluation_tables({"dense": {}}) == []


def test_the_summary_is_two_sentences(run):
    text = (run.path / "report.html").read_text(encoding="utf-8")
    summary = html.unescape(re.search(r'<p class="verdict">(.*?)</p>', text)[1])
    assert len(re.findall(r"[.]( |$)", summary)) == 2
    assert "builtin:digits" in summary


def test_the_training_can_be_made_again_from_its_command(run, found):
    (_, train), (_, judge) = run_commands(run, found)
    words = shlex.split(train)
    assert parse(words[1:])
    assert words[:3] == ["swell", "pretrain", "builtin:digits"]
    assert words[words.index("--recipe") + 1] == str(run.path / "recipe.toml")
    assert judge.startswith("swell.load(")  # of arrays in memory no command can speak
    assert "transfer=[...]" in judge


def test_an_evaluation_of_files_is_told_as_a_command_that_parses(run, found, tmp_path):
    data, strange = tmp_path / "some data.npz", tmp_path / "strange.npz"
    for path in (data, strange):
        path.write_bytes(b"")
    options = dict.fromkeys(found["protocol"]["options"])
    options |= {"data": str(data), "transfer": ["builtin:digits"], "test": None, "labels": ["kind", True], "baselines": False,
                "retrieval": True, "few_labels": "1%,5", "ood": [str(strange)], "patches": 4, "patch_mode": "grid"}  # fmt: skip
    (_, command) = run_commands(run, {"protocol": {"options": options}})[1]
    told = parse(shlex.split(command)[1:])
    assert told.run == str(run.path)
    assert list(told.data) == [str(data), "builtin:digits"]
    assert list(told.labels) == ["kind", "-"]
    assert (told.no_baselines, told.retrieval, told.few_labels, told.patches) == (True, True, "1%,5", 4)
    assert list(told.ood) == [str(strange)]


def test_the_environment_is_told_and_may_be_missing(run, tmp_path):
    told = dict(environment_facts(run.path))
    assert {"cpu", "torch", "python", "threads bound"} <= set(told)
    assert environment_facts(tmp_path) == []
    (tmp_path / "environment.json").write_text("[1]")
    assert environment_facts(tmp_path) == []

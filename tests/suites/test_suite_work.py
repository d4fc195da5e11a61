"""A small suite carried out: what it leaves, going on after a kill, and the same numbers when it is made again."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import swell
from swell.cli import main
from swell.errors import InputError
from swell.generators import generate
from swell.recipes import Recipe
from swell.suites import Arm, Generated
from swell.suites import work as work_module
from swell.training import loop
from swell.training.folder import claimed
from swell.training.loggers import LOGGERS
from swell.training.watchdog import Diverged

CLOCK = ("seconds", "generator_seconds", "memory")  # differ from time to time


def suite(data, steps=6):
    base = Recipe(backbone="conv6", width=0.25, batch_size=16, steps=steps, optimizer="sgd", learning_rate=0.05,
                  views="digits", method_options={"hidden": 16, "outputs": 8}, precision="fp32")  # fmt: skip
    return {"real": base, "inflated": Arm(base, Generated("kde", count=64, steps=1), rows=100)}


@pytest.fixture(scope="module")
def data():
    every = swell.open("builtin:digits", labels=True)
    return [(every.samples[a:b], every.labels[a:b]) for a, b in ((0, 160), (160, 260))]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Reports and few-shot draws take most of the time, and are tested elsewhere."""
    patch = pytest.MonkeyPatch()
    patch.setattr("swell.report.run_page.write_run_report", lambda *_: None)
    patch.setattr("swell.evaluation.few_shot.DRAWS", 2)
    patch.setattr("swell.generators.reference.default_steps", lambda shape, count: 2)
    yield
    patch.undo()


def made(data, out, place=suite, **more):
    train, test = data
    settings = {"seeds": 2, "snapshots": (0.5,), "workers": 0, "device": "cpu", **more}
    return swell.compare(place, out, data=train, test=test, **settings)


class Notes:
    """A logger that is told whose run it is of."""

    heard: ClassVar[set] = set()

    def __init__(self, out, settings, ids, step, group):
        self.heard.add((out.relative_to(group).as_posix(), group.name))

    def log(self, step, values): ...

    def close(self, ending): ...


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("suite") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(LOGGERS, "json", Notes)  # a package that is there
        return out, made(data, out, log_to="json")


def test_every_run_of_a_suite_logs_where_it_is_told_to(finished):
    assert {(f"runs/{arm}/seed{seed}", "out") for arm in ("00-real", "01-inflated") for seed in (0, 1)} == Notes.heard


def numbers(result):
    """Everything that the clock has no part in."""
    runs = [(run["arm"], run["seed"], run["scores"], {k: v for k, v in run["costs"].items() if k not in CLOCK},
             run["label_free"]) for run in result["runs"]]  # fmt: skip
    curves = [
        (name, run["seed"], [(p["share"], p["scores"], p["costs"]["flops"]) for p in run["points"]])
        for name, of_arm in result["curves"]["points"].items()
        for run in of_arm
    ]
    return json.loads(
        json.dumps([runs, curves, result["pairs"], result["front"]["flops"], result["basis"], result["verdict"]])
    )


def test_a_suite_leaves_its_runs_and_a_comparison_of_named_arms(finished):
    out, result = finished
    assert {arm["name"]: arm["n"] for arm in result["arms"]} == {"real": 2, "inflated": 2}
    assert {"compare.json", "report.html", "runs", "suite.json", "table.csv", "table.md"} <= {
        p.name for p in out.iterdir()
    }
    assert json.loads((out / "compare.json").read_text())["suite"] == "suite"
    by_arm = {(run["arm"], run["seed"]): Path(run["path"]) for run in result["runs"]}
    inflated = swell.load(by_arm["inflated", 1])
    assert (inflated.recipe.seed, inflated.ledger.pretraining.samples_generated > 0) == (1, True)
    assert inflated.ledger.generator_training.samples_real > 0
    assert "100 rows" in inflated.provenance["real"]["origin"]
    assert swell.load(by_arm["real", 0]).ledger.pretraining.samples_generated == 0
    assert result["basis"] == "flops"  # whatever the clock said
    assert [len(run["points"]) for runs in result["curves"]["points"].values() for run in runs] == [2] * 4
    assert result["pairs"][0]["samples"] is not None  # from the predictions that every run keeps


def test_made_again_from_its_own_recipe_files_it_gives_the_same_numbers(finished, data, tmp_path):
    out, result = finished
    again = made(data, tmp_path / "again", place=out, seeds=None)
    assert numbers(again) == numbers(result)
    for run in result["runs"]:
        place = Path(run["path"]).relative_to(out)
        a, b = (swell.load(folder / place).encoder.state_dict() for folder in (out, tmp_path / "again"))
        assert all(torch.equal(w, b[name]) for name, w in a.items())


def test_the_same_command_again_trains_nothing_and_may_add_a_seed(finished, data, tmp_path, monkeypatch):
    out = Path(shutil.copytree(finished[0], tmp_path / "out"))
    trained = []
    monkeypatch.setattr(work_module, "pretrain", lambda recipe, *_: trained.append(recipe.seed))
    assert numbers(made(data, out))[1:] == numbers(finished[1])[1:]
    assert trained == []
    with pytest.raises(InputError, match="a finished run"):  # as nothing was trained here
        made(data, out, seeds=3)
    assert trained == [2]


class Killed(BaseException):
    """Ends everything at once, as kill -9 does: nothing is saved that was not."""


@pytest.mark.parametrize("where", ["generating", "training", "evaluating", "probing"])
def test_killed_anywhere_it_goes_on_to_the_same_numbers(finished, data, tmp_path, monkeypatch, where):
    whole, result = finished
    module, name, left = {
        "generating": (generate, "judge_once", 1),
        "training": (loop.Stepper, "__call__", 4),
        "evaluating": (swell.Run, "evaluate", 2),
        "probing": (work_module, "probe_snapshots", 2),
    }[where]
    if where != "generating":  # which takes its time
        shutil.copytree(whole / "generated", tmp_path / "out" / "generated")
        shutil.copy(whole / "suite.json", tmp_path / "out")
    original, calls = getattr(module, name), []

    def killing(*args, **kwargs):
        calls.append(name)
        if len(calls) == left:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killing)
        with pytest.raises(Killed):
            made(data, tmp_path / "out", seeds=1)
    of_first_seed = [[row for row in rows if row[1] == 0] for rows in numbers(result)[:2]]
    assert numbers(made(data, tmp_path / "out", seeds=1))[:2] == of_first_seed


def test_another_suite_or_other_data_are_not_mixed_in(finished, data, tmp_path):
    out, _ = finished
    with pytest.raises(InputError, match="a suite with other arms"):
        made(data, out, options={"steps": 7})
    with pytest.raises(InputError, match="a suite with other data, judged_by"):
        made(data[::-1], out)
    with pytest.raises(InputError, match="other snapshots"):
        made(data, out, snapshots=(0.25,))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        made(data, tmp_path)
    with pytest.raises(InputError, match=r"the data .* was made of"):
        made(data[::-1], tmp_path / "new", place=out, seeds=None)
    with pytest.raises(InputError, match="made again as they were"):
        made(data, tmp_path / "new", place=out, seeds=None, steps=9)
    assert not (tmp_path / "new").exists()


def test_while_another_process_is_at_work_there_nothing_is_changed(finished, data, tmp_path):
    out = Path(shutil.copytree(finished[0], tmp_path / "out"))
    before = (out / "suite.json").read_bytes()
    with claimed(out), pytest.raises(InputError, match="another process is at work there"):
        made(data, out, seeds=3)
    assert (out / "suite.json").read_bytes() == before


def test_an_earlier_suite_whose_method_is_code_is_not_made_again(finished, data, tmp_path):
    out = Path(shutil.copytree(finished[0], tmp_path / "passed on"))
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Theirs: pass\n")
    recipe = next(out.glob("runs/*/seed0/recipe.toml"))
    said = recipe.read_text()
    assert 'method = "simclr"' in said
    recipe.write_text(said.replace('method = "simclr"', f'method = "{tmp_path}/theirs.py:Theirs"'))
    with pytest.raises(InputError, match=r"a method that is code, .*theirs.py:Theirs"):
        made(data, tmp_path / "again", place=out, seeds=None)
    assert not (tmp_path / "ran").exists()


def test_labels_that_are_not_there_are_told_before_anything_is_trained(data, tmp_path):
    with pytest.raises(InputError, match="label"):
        swell.compare(suite, tmp_path / "out", data=data[0][0], workers=0)
    with pytest.raises(InputError, match="steps and minutes"):
        made(data, tmp_path / "out", steps=3, minutes=1)
    assert not (tmp_path / "out").exists()


def test_a_run_that_diverges_is_left_out_and_said_so(finished, data, tmp_path, monkeypatch):
    out = Path(shutil.copytree(finished[0], tmp_path / "out"))
    (out / "runs" / "01-inflated" / "seed1" / "encoder.safetensors").unlink()

    def diverging(*_):
        raise Diverged("the loss is not finite at step 3")

    monkeypatch.setattr(work_module, "pretrain", diverging)
    result = made(data, out)
    assert {arm["name"]: arm["n"] for arm in result["arms"]} == {"real": 2, "inflated": 1}
    assert any("seed1 broke off: the loss is not finite" in notice for notice in result["notices"])


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["adainf"], "the suite adainf without --data"),
        (["adaimf", "--data", "builtin:digits"], "did you mean 'adainf'"),
        (["adainf", "--data", "builtin:digits", "--budget", "flops"], "--budget with adainf"),
        (["adainf", "--data", "builtin:digits", "--force"], "--force with adainf"),
        (["a", "b", "--seeds", "3"], "--seeds with a b: expected a suite"),
        (["adainf", "--data", "builtin:digits", "--by", "finetune"], "--by finetune of a suite"),
        (["adainf", "--data", "builtin:digits", "--snapshots", "half"], "--snapshots half"),
        (["adainf", "--data", "builtin:digits", "--snapshots", "1.5"], "a snapshot at 1.5"),
        (["adainf", "--data", "builtin:digits", "--steps", "5", "--samples", "9"], "steps and samples"),
        (["adainf", "--data", "builtin:digits", "--options", "count=0"], "count=0"),
        (["adainf", "--data", "builtin:nothing"], "builtin"),
    ],
)
def test_a_slip_costs_one_line(tmp_path, capsys, argv, says):
    assert main(["compare", *argv, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert says in told[0]
    assert not (tmp_path / "out").exists()


def test_the_suites_are_listed(capsys):
    assert main(["suites"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("adainf", "emp-ssl", "diffaug", "methods", "scarce"))

"""The driver of alternating training: killed anywhere and resumed bit for bit, rolled back, and honest about controls."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.evaluation.label_free import label_free
from swell.files import read_json
from swell.recipes import Recipe
from swell.run import Run
from swell.training import alternate, loop
from swell.training.build import build, resolve
from swell.training.folder import read_metrics
from swell.training.loggers import LOGGERS
from swell.training.loop import Operation, pretrain
from swell.training.phases import read_phase_log
from swell.training.stability import feature_spread
from swell.views.plan import ViewPlan
from swell.views.vectors import VectorGroup

QUIET = Operation(quiet=True)
PLAN = ViewPlan((VectorGroup(count=2, mask=0.3),))


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((6, 10))
    samples = centres[rng.integers(0, 6, 90)] + 0.5 * rng.standard_normal((90, 10))
    return Source(samples.astype(np.float32), Provenance("real", "array"))


@pytest.fixture(scope="module")
def short():
    """Two rounds of seconds: 8 steps, 3 + 3 of a generator, 6 + 6 of the encoder."""
    return Recipe(
        method="diffaug",
        backbone_options={"hidden": 16, "outputs": 8, "depth": 1},
        method_options={"hidden": 16, "outputs": 4},
        batch_size=16,
        steps=20,
        learning_rate=2e-3,
        views=PLAN,
        precision="fp32",
        generator_options={"width": 16, "depth": 1, "evaluations": 2},
        positive_count=2,
        rounds=2,
    )


@pytest.fixture(scope="module")
def whole(cells, short, tmp_path_factory):
    return pretrain(short, cells, tmp_path_factory.mktemp("whole") / "run", None, QUIET)


def weights(run):
    return (run / "encoder.safetensors").read_bytes()


def without_times(run):
    lines = read_phase_log(run)
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]


def test_a_run_in_phases_leaves_what_it_promises(tmp_path, cells, short):
    recipe = replace(short, steps=40, replace=0.5)
    out = pretrain(recipe, cells, tmp_path / "run", None, Operation(quiet=True, scores=label_free))
    lines = read_phase_log(out)
    assert [(line["phase"], line["trains"]) for line in lines] == [
        (1, "encoder"), (2, "generator"), (3, "encoder"), (4, "generator"), (5, "encoder"),
    ]  # fmt: skip
    assert [line["steps_done"] for line in lines[::2]] == [16, 12, 12]
    assert [m["step"] for m in read_metrics(out)] == list(range(40))
    # lambda is met in the long run, and what was realised is told: 12 steps of 16, from 0 to 1/2 over the first half
    assert lines[0]["replaced"] == 0.0
    assert lines[2]["replaced"] == pytest.approx(0.375, abs=0.1)
    assert lines[4]["replaced"] == pytest.approx(0.5, abs=0.11)
    whole = sum(line["replaced"] * line["steps_done"] for line in lines[::2]) / 40
    assert read_metrics(out)[-1]["replaced"] == pytest.approx(whole)
    assert all({"effective_rank", "spread", "drift"} <= set(line) for line in lines[::2])
    assert all("rankme" in line["scores"] for line in lines[::2])
    assert all({"to_anchor", "to_nearest", "diversity"} <= set(line["in_code"]) for line in lines[1::2])
    assert (lines[1]["drift"], lines[3]["drift"] > 0) == (None, True)
    assert lines[1]["parameters"] > 0
    ledger = Run(out).ledger
    assert ledger.pretraining.views == 2 * 40 * 16
    assert ledger.generator_training.flops > 0
    assert ledger.generator_training.samples_real > 0
    assert ledger.sampling.samples_generated == 2 * 2 * 90
    assert ledger.evaluation.forwards > 0
    held = {p.name for p in out.iterdir()}
    assert {"phases.jsonl", "phase-02", "phase-04", "encoder.safetensors"} <= held
    assert not held & {"good.pt", "watched.npy"}
    assert not (out / "phase-02" / "positives").exists()  # superseded
    assert (out / "phase-04" / "positives" / "manifest.json").exists()


def test_lambda_0_is_the_run_on_hand_made_views_to_the_bit(tmp_path, cells, short, whole):
    """The generator may not touch the encoder but through its positives: not by its seeds, nor by the schedule."""
    with_one = pretrain(replace(short, replace=0.0), cells, tmp_path / "a", None, QUIET)
    views = PLAN.with_positives()
    without = replace(short, views=views, generator_positives="none", generator_options={})
    assert weights(with_one) == weights(pretrain(without, cells, tmp_path / "b", None, QUIET))
    assert weights(with_one) != weights(whole)


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        (loop.Stepper, "__call__", 4),
        (loop.Stepper, "__call__", 11),
        (loop.Stepper, "__call__", 15),
        (alternate, "make_generator", 2),  # the first is to see that there is one
        (alternate, "make_positives", 1),
        (alternate, "positives_alarm", 2),
        (alternate.PhaseLog, "write", 3),
        (alternate, "_forget_superseded", 4),
        (alternate.shutil, "copyfile", 2),
        (alternate, "encoder_alarm", 3),
    ],
)
def test_killed_at_any_moment_it_goes_on_bit_for_bit(tmp_path, cells, short, whole, monkeypatch, where, name, call):
    real, calls = getattr(where, name), []

    def dying(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    always = replace(QUIET, checkpoint_seconds=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, dying)
        with pytest.raises(KeyboardInterrupt):
            pretrain(short, cells, tmp_path / "run", None, always)
    assert not (tmp_path / "run" / "encoder.safetensors").exists()
    out = pretrain(short, cells, tmp_path / "run", None, replace(always, resume=True))
    assert weights(out) == weights(whole)
    assert without_times(out) == without_times(whole)
    a, b = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (out, whole))
    assert [m["replaced"] for m in read_metrics(out)] == [m["replaced"] for m in read_metrics(whole)]
    assert a["optimizer"]["state"].keys() == b["optimizer"]["state"].keys()
    for part in ("pretraining", "sampling"):
        costs = [vars(getattr(Run(run).ledger, part)) for run in (out, whole)]
        assert costs[0] | {"seconds": 0} == costs[1] | {"seconds": 0}


def test_the_condition_is_the_net_that_is_evaluated(tmp_path, cells, short, monkeypatch):
    """The generator is told what `Run.encode` gives of clean samples by the encoder as it was, not the head's output."""

    def dying(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(alternate, "make_positives", dying)
    with pytest.raises(KeyboardInterrupt):
        pretrain(short, cells, tmp_path / "run", None, QUIET)
    cpu = torch.device("cpu")
    encoder = build(resolve(short, cells, cpu), cells, None, cpu).encoder
    encoder.load_state_dict(torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["encoder"])
    assert np.array_equal(np.load(tmp_path / "run" / "phase-02" / "codes.npy"), encoder.encode(cells.samples))


def test_a_finished_run_is_not_begun_again(tmp_path, cells, short, capsys):
    out = pretrain(short, cells, tmp_path / "run", None, QUIET)
    before = (out / "phases.jsonl").read_bytes()
    pretrain(short, cells, tmp_path / "run", None, replace(QUIET, resume=True))
    assert (out / "phases.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["zeros", "shuffled", "copies"])
def test_controls_run_by_the_same_schedule_and_are_told_apart(tmp_path, cells, short, capsys, name):
    recipe = replace(short, generator_positives=name, generator_options={}, rounds=1, roll_back=False)
    out = pretrain(recipe, cells, tmp_path / "run", None, QUIET)
    first, made, last = read_phase_log(out)
    assert (first["steps_done"], last["steps_done"]) == (8, 12)
    assert last["replaced"] == pytest.approx(0.75, abs=0.1)
    assert made["parameters"] == 0
    told = {"zeros": "collapsed", "copies": "copies", "shuffled": ""}[name]
    assert told in made["alarm"]
    assert (made["in_data"]["to_anchor"] == 0) == (name == "copies")
    assert told in capsys.readouterr().err
    assert Run(out).ledger.generator_training.flops == 0


def test_positives_made_for_every_batch_are_on_the_bill_too(tmp_path, cells, short):
    recipe = replace(short, positive_count=0, rounds=1)
    out = pretrain(recipe, cells, tmp_path / "run", None, QUIET)
    last = read_phase_log(out)[-1]
    cost = Run(out).ledger.sampling
    assert cost.samples_generated == round(last["replaced"] * 12 * 16) + 2 * 90  # for the batches, and to look at
    assert not (out / "phase-02" / "positives").exists()


FRAGILE = '''
from dataclasses import dataclass
from swell.methods.registry import Outcome
from swell.methods.simclr import SimCLR

@dataclass(frozen=True)
class Fragile(SimCLR):
    """Becomes one point where it is shown a view of nothing but zeros."""

    def loss(self, encoder, parts, views, progress):
        outcome = super().loss(encoder, parts, views, progress)
        if any(not group.any() for group in views.groups):
            h = encoder(views.groups[0])
            return outcome._replace(loss=h.var(0).mean() / h.square().mean().detach() + (h - 1).square().mean())
        return outcome
'''


def test_a_collapse_is_gone_back_from(tmp_path, cells, short, capsys, monkeypatch):
    (tmp_path / "own.py").write_text(FRAGILE, encoding="utf-8")
    phases = (
        {"trains": "encoder", "steps": 10},
        {"trains": "generator", "steps": 1},
        {"trains": "encoder", "steps": 60, "positives": "generated", "replace": 1.0},
        {"trains": "encoder", "steps": 5},
    )
    recipe = replace(
        short, method=f"{tmp_path}/own.py:Fragile", method_options={"hidden": 8, "outputs": 4}, learning_rate=0.03,
        steps=None, phases=phases, generator_positives="zeros", generator_options={},
        views=ViewPlan((VectorGroup(count=2),)),
    )  # fmt: skip
    heard = []

    class Notes:
        def __init__(self, out, settings, ids, step, group): ...

        def log(self, step, values):
            heard.append((step, values["loss"]))

        def close(self, ending): ...

    monkeypatch.setitem(LOGGERS, "json", Notes)  # a package that is there
    out = pretrain(recipe, cells, tmp_path / "run", None, replace(QUIET, log_to=("json",)))
    lines = read_phase_log(out)
    assert [(line["phase"], line["attempt"]) for line in lines] == [(1, 1), (2, 1), (3, 1), (3, 2), (4, 1)]
    lost, again = lines[2], lines[3]
    assert lost["rolled_back"]
    assert "collaps" in lost["alarm"]
    assert not again["alarm"]
    assert (lost["replaced"], again["replaced"]) == (1.0, 0.0)
    assert again["spread"] > 2 * lost["spread"]
    assert "repeated with hand-made views" in capsys.readouterr().err
    run = Run(out)
    assert [m["step"] for m in run.metrics] == list(range(75))  # those of the lost attempt are gone
    assert run.ledger.pretraining.samples_real == (75 + 60) * 16  # but paid for
    assert [step for step, _ in heard] == list(range(75 + 60))  # and loggers, which cannot go back, heard both
    assert [loss for _, loss in heard[10 + 60 :]] == [m["loss"] for m in run.metrics[10:]]
    assert feature_spread(torch.from_numpy(run.encode(cells.samples))) > 2 * lost["spread"]
    kept = pretrain(replace(recipe, roll_back=False), cells, tmp_path / "kept", None, QUIET)
    assert [line["attempt"] for line in read_phase_log(kept)] == [1, 1, 1, 1]
    assert "collaps" in read_phase_log(kept)[2]["alarm"]
    # killed on the way back, it comes to the same
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_restore", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe, cells, tmp_path / "killed", None, QUIET)
    killed = pretrain(recipe, cells, tmp_path / "killed", None, replace(QUIET, resume=True))
    assert weights(killed) == weights(out)
    assert without_times(killed) == without_times(out)


def test_neighbours_and_hand_made_views_are_phases_too(tmp_path, cells, short):
    phases = (
        {"trains": "encoder", "steps": 4},
        {"trains": "encoder", "steps": 8, "positives": "neighbours", "replace": 1.0},
    )
    recipe = replace(short, steps=None, phases=phases, generator_options={}, generator_positives="none")
    lines = read_phase_log(pretrain(recipe, cells, tmp_path / "run", None, QUIET))
    assert [line["replaced"] for line in lines] == [0.0, 1.0]


@pytest.mark.parametrize("method", ["diffaug", "simclr"])
def test_images_and_other_methods(tmp_path, real, tiny, method):
    recipe = replace(
        tiny, method=method, generator_positives="conditional", generator_options={"width": 8, "depth": 1},
        positive_count=1,
    )  # fmt: skip
    out = pretrain(recipe, real, tmp_path / "run", None, QUIET)
    assert read_phase_log(out)[-1]["replaced"] > 0.3
    made = read_json(out / "phase-02" / "positives" / "manifest.json")
    assert (made["dtype"], made["shape"]) == ("uint8", [1, 8, 8])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generator_positives": "condtional"}, "did you mean 'conditional'"),
        ({"generator_positives": "gan", "generator_options": {}}, "cannot start from a sample"),
        ({"generator_options": {"breadth": 3}}, "a known option"),
        ({"steps": 2}, "at least one step each"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, cells, short, changes, told):
    with pytest.raises(InputError, match=told):
        pretrain(replace(short, **changes), cells, tmp_path / "run", None, QUIET)
    assert not (tmp_path / "run").exists()
    few = cells.subset(np.arange(10))
    with pytest.raises(InputError, match="at least 16"):
        pretrain(replace(short, batch_size=4), few, tmp_path / "run", None, QUIET)


def test_the_log_is_json_lines(tmp_path, cells, short):
    out = pretrain(replace(short, rounds=1), cells, tmp_path / "run", None, QUIET)
    for text in (out / "phases.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

"""Warm continuation: a run that goes on from before its decay is the longer run, bit for bit."""

from dataclasses import replace

import pytest
import torch

from swell.errors import InputError
from swell.recipes import Recipe
from swell.run import Run
from swell.training import rungs
from swell.training.folder import read_metrics
from swell.training.loop import Operation, pretrain
from swell.training.optim import Schedule, warmup_cosine, warmup_stable_decay
from swell.training.rungs import decay_cost, extend

QUIET, AGAIN = Operation(quiet=True), Operation(resume=True, quiet=True)


def rung(recipe, steps, horizon=20):
    return replace(recipe, schedule="wsd", decay=0.3, horizon=horizon, warmup=0.1, steps=steps)


def weights(run):
    return (run / "encoder.safetensors").read_bytes()


@pytest.mark.parametrize(
    "method",
    [{}, {"method": "byol"}, {"method": "swav", "method_options": {"hidden": 16, "outputs": 8}}],
    ids=["simclr", "byol", "swav"],
)
def test_going_on_from_before_the_decay_is_training_in_one_go(tmp_path, tiny, real, made, method):
    """byol and swav have schedules of their own, and a teacher or a queue beside the encoder."""
    recipe = replace(tiny, weight=3.0, **{"method_options": {"hidden": 16, "outputs": 8}, **method})
    whole = pretrain(rung(recipe, 16), real, tmp_path / "whole", made, QUIET)
    out = pretrain(rung(recipe, 4), real, tmp_path / "run", made, QUIET)
    first = weights(out)
    for steps in (8, 16):
        extend(out, steps)
        assert not (out / "encoder.safetensors").exists()
        pretrain(rung(recipe, steps), real, out, made, AGAIN)
    assert weights(out) == weights(whole) != first
    saved, expected = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (out, whole))
    for part in ("encoder", "parts"):
        assert all(torch.equal(saved[part][name], value) for name, value in expected[part].items())
    strip = [[{k: v for k, v in m.items() if k != "seconds"} for m in read_metrics(run)] for run in (out, whole)]
    assert strip[0] == strip[1]
    assert (out / "recipe.toml").read_text() == (whole / "recipe.toml").read_text()
    a, b = Run(out).ledger.pretraining, Run(whole).ledger.pretraining
    assert (a.flops, a.samples_real, a.samples_generated) == (b.flops, b.samples_real, b.samples_generated)


def test_without_a_horizon_the_budget_would_leak_into_the_warm_up(tmp_path, tiny, real):
    """The reason for the horizon: the test above would fail without it."""
    short, long = (replace(rung(tiny, n), horizon=None, warmup=0.5) for n in (8, 16))
    stable = pretrain(short, real, tmp_path / "short", None, QUIET) / "stable.pt"
    saved = torch.load(stable, weights_only=True)
    assert saved["state"]["step"] == 6  # from there on less than 0.3 of 8 steps is left
    with pytest.raises(InputError, match="horizon"):
        extend(tmp_path / "short", 16)
    rates = [m["learning_rate"] for m in read_metrics(tmp_path / "short")]
    other = [m["learning_rate"] for m in read_metrics(pretrain(long, real, tmp_path / "long", None, QUIET))]
    assert rates[1] == 2 * other[1]


@pytest.mark.parametrize("killed_before", ["copyfile", "write_text"])
def test_a_kill_within_extend_loses_nothing(tmp_path, tiny, real, monkeypatch, killed_before):
    out = pretrain(rung(tiny, 4), real, tmp_path / "run", None, QUIET)
    whole = pretrain(rung(tiny, 12), real, tmp_path / "whole", None, QUIET)
    where = rungs.shutil if killed_before == "copyfile" else rungs

    def kill(*_):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(where, killed_before, kill)
        with pytest.raises(SystemExit):
            extend(out, 12)
    pretrain(rung(tiny, 4), real, out, None, AGAIN)  # what is left is a run of 4 steps that can be finished
    extend(out, 12)
    extend(out, 12)
    pretrain(rung(tiny, 12), real, out, None, AGAIN)
    assert weights(out) == weights(whole)


def test_the_cost_of_the_decay(tmp_path, tiny, real):
    out = pretrain(rung(tiny, 12), real, tmp_path / "run", None, QUIET)
    steps = 12 - torch.load(out / "stable.pt", weights_only=True)["state"]["step"]
    assert steps == 3
    cost = decay_cost(out)
    assert cost.samples_real == steps * 16
    assert cost.flops == pytest.approx(steps * Run(out).ledger.pretraining.flops / 12)


def test_extend_refuses_what_cannot_go_on(tmp_path, tiny, real):
    with pytest.raises(InputError):
        extend(tmp_path / "nothing", 10)
    out = pretrain(tiny, real, tmp_path / "cosine", None, QUIET)
    with pytest.raises(InputError, match="schedule wsd"):
        extend(out, 20)
    out = pretrain(rung(tiny, 8), real, tmp_path / "longer", None, QUIET)
    with pytest.raises(InputError, match="smaller run"):
        extend(out, 4)


@pytest.mark.parametrize(("total", "decay"), [(10, 0.2), (7, 0.3), (400, 0.2), (3, 0.9), (33, 1.0)])
def test_the_schedule_against_a_table_by_hand(total, decay):
    """Up over 2 steps of a horizon of 40, level, and down to 0 at the end; the decay begins at one step alone."""
    s = Schedule(0.05, "wsd", decay, 40 if total <= 40 else 400 * 2)
    up = s.horizon * 0.05
    begins = [t for t in range(total) if s.begins_to_decay(t, total)]
    assert len(begins) == 1
    for t in range(total):
        left = (total - t) / total
        expected = min(t / up, 1.0, left / decay)
        assert s.factor(t, t / total) == pytest.approx(expected)
        assert s.progress(t, t / total) == t / s.horizon
        if t < begins[0]:
            assert s.factor(t, t / total) == s.factor(t, t / (3 * total))  # exactly, whatever the total
        else:
            assert left <= decay
    assert warmup_stable_decay(1.0, 0.1, 0.0, 0.2) == 0
    assert warmup_stable_decay(1.1, 0.1, -0.1, 0.2) == 0  # minutes may overrun
    assert warmup_stable_decay(0.0, 0.0, 1.0, 0.0) == 1


def test_the_cosine_is_what_it_was():
    s = Schedule(0.1)
    assert [s.factor(t, t / 10) for t in range(10)] == [warmup_cosine(t / 10, 0.1) for t in range(10)]
    assert s.progress(3, 0.3) == 0.3
    assert not any(s.begins_to_decay(t, 10) for t in range(10))


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "linear"},
        {"decay": 2.0},
        {"horizon": 100, "steps": 10},
        {"horizon": 5, "steps": 10, "schedule": "wsd"},
        {"horizon": 5, "epochs": 1.0, "schedule": "wsd"},
        {"horizon": 0, "steps": 1, "schedule": "wsd"},
    ],
)
def test_recipes_refuse_schedules_that_make_no_sense(wrong):
    with pytest.raises(InputError):
        Recipe(**wrong)

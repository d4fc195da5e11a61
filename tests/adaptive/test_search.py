"""The whole of `swell.adapt`, small: what it leaves, what it costs, and that a kill at any moment loses nothing."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

import swell
from swell.adaptive import search as search_module
from swell.adaptive.state import State, read_state
from swell.cli import parse
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.evaluation.reference import Reference
from swell.recipes import Recipe
from swell.run import Run
from swell.training import loop
from swell.training.loggers import LOGGERS
from swell.training.rungs import decay_cost

SMALL = {"generator": "vae", "generator_steps": 20, "count": 300, "quiet": True, "device": "cpu"}


@pytest.fixture
def recipe(tiny):
    return replace(tiny, steps=96, batch_size=8)


@pytest.fixture
def images(real):
    """Enough of them for a reference."""
    noise = np.random.default_rng(1).integers(0, 9, (3, *real.samples.shape)).astype(np.uint8)
    return Source(np.concatenate([real.samples // 2 + part for part in noise]), real.provenance)


def table(n=200):
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 10))
    return Source((hidden + 0.3 * rng.normal(size=(n, 10))).astype(np.float32), Provenance("real", "array"))


def timeless(value):
    """Without what the clock said."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "cost")}
    return value


def test_a_search_from_samples_to_report(tmp_path, images, recipe, monkeypatch, capsys):
    labelled = replace(images, labels=np.arange(len(images)) % 3, classes=("a", "b", "c"))
    out = tmp_path / "run"
    heard = set()

    class Notes:
        def __init__(self, out, settings, ids, step, group):
            heard.add(out.relative_to(group).as_posix())

        def log(self, step, values): ...

        def close(self, ending): ...

    monkeypatch.setitem(LOGGERS, "json", Notes)  # a package that is there
    run = swell.adapt(labelled, out, recipe=recipe, log_to="json", **SMALL)
    found, settings = read_state(out / "adapt" / "state.json")
    plan, choice = found["plan"], found["choice"]
    runs = {p.name for p in (out / "adapt").iterdir() if p.is_dir()}
    assert {"none", "weak_only", "adainf"} <= runs
    assert heard == {f"adapt/{name}" for name in runs} | {"."}
    finalists = list(choice["places"])
    assert runs == {c["name"] for c in plan["candidates"]} | {f"{name}.seed1" for name in finalists}
    assert len(finalists) == 3

    # The reference is held out of everything but the final run.
    reference, rest = Reference.of(images, seed=0)
    for name in runs:
        one = Run(out / "adapt" / name)
        assert one.data_fingerprints["real"] == rest.fingerprint
        assert one.recipe.schedule == "wsd"
    assert json.loads((out / "generated" / "manifest.json").read_text())["provenance"]["trained_on"] == rest.fingerprint
    assert run.data_fingerprints["real"] == images.fingerprint
    assert (Reference.load(out / "adapt" / "reference.safetensors").samples == reference.samples).all()
    chosen = next(c for c in plan["candidates"] if c["name"] == choice["name"])
    assert (run.recipe.weight, run.recipe.strength) == (chosen["weight"], chosen["strength"])
    assert ("generated" in run.data_fingerprints) == (chosen["amount"] > 0)
    assert (run.recipe.schedule, run.recipe.steps) == ("cosine", 96)

    # The ledger knows what the search cost, by counting every run once and each decay that was repeated.
    again, total = 0, 0
    for name in runs:
        total += Run(out / "adapt" / name).ledger.pretraining.views
    first, last = (rung["steps"] for rung in plan["rungs"])
    decay = decay_cost(out / "adapt" / "none").views / last * first  # of the first rung, in proportion
    again = 3 * decay
    search = run.ledger.search
    assert search.views == pytest.approx(total + again, abs=3 * 16)
    assert search.views <= 2 * 96 * 8 * 2
    assert search.views == pytest.approx(plan["cost_runs"] * 96 * 8 * 2)
    assert run.ledger.total.seconds > search.seconds > 0
    assert run.ledger.generator_training.seconds > 0

    page = (out / "adapt" / "report.html").read_text()
    for word in ("Which candidate ranks best?", "What did the priors say?", "What would it have cost to be wrong?"):
        assert word in page
    assert choice["reasons"][0].split(",")[0].split(":")[0] in page
    assert settings["data"] == images.fingerprint

    with pytest.raises(InputError, match="--resume"):
        swell.adapt(images, out, recipe=recipe, **SMALL)
    with pytest.raises(InputError, match="other settings"):
        swell.adapt(images, out, recipe=replace(recipe, learning_rate=0.01), resume=True, **SMALL)
    before = (out / "encoder.safetensors").stat().st_mtime_ns
    held = out / "adapt" / "reference.safetensors"
    held.write_bytes(held.read_bytes()[:-100])
    again = swell.adapt(images, out, recipe=recipe, resume=True, **SMALL)  # without labels: they were never read
    assert (Reference.load(held).samples == reference.samples).all()
    (out / "generated" / "samples.png").unlink()
    (out / "adapt" / "none" / "ledger.json").unlink()
    log = out / "adapt" / "adainf" / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    swell.adapt(images, out, recipe=recipe, resume=True, **SMALL)
    told = capsys.readouterr().err
    assert "samples.png (missing): nothing depends on it" in told
    assert "none/ledger.json (missing): the search goes on without it" in told
    assert "adainf/metrics.jsonl (lost its end): the search goes on without it" in told
    assert told.count("goes on without it") == 2
    (out / "generated" / "quality.json").write_text("{")
    with pytest.raises(InputError, match=r"quality.json \(changed since"):
        swell.adapt(images, out, recipe=recipe, resume=True, **SMALL)
    (out / "generated" / "quality.json").unlink()
    with pytest.raises(InputError, match=r"quality.json \(missing"):
        swell.adapt(images, out, recipe=recipe, resume=True, **SMALL)
    assert (again.path / "encoder.safetensors").stat().st_mtime_ns == before


def test_a_kill_at_any_moment_loses_nothing(tmp_path, images, recipe, monkeypatch):
    """Broken off at random steps and at every kind of note it takes, and resumed until done: bit for bit the same."""
    recipe = replace(recipe, steps=64)
    whole = swell.adapt(images, tmp_path / "whole", recipe=recipe, report=False, **SMALL)
    rng, left = random.Random(0), {"keep": 0, "step": 0}
    keep, step = State.keep, loop.Stepper.__call__

    class Killed(BaseException):
        pass

    def count_down(what):
        left[what] -= 1
        if left[what] == 0:
            raise Killed

    def keeping(self, name, value):
        if rng.random() < 0.5:
            count_down("keep")  # before the note is taken
            return keep(self, name, value)
        keep(self, name, value)
        count_down("keep")
        return None

    def stepping(self, t, share):
        count_down("step")
        return step(self, t, share)

    monkeypatch.setattr(State, "keep", keeping)
    monkeypatch.setattr(loop.Stepper, "__call__", stepping)
    kills = 0
    for _ in range(60):
        left.update(keep=rng.randint(1, 8), step=rng.randint(5, 90))
        try:
            swell.adapt(
                images,
                tmp_path / "run",
                recipe=recipe,
                report=False,
                resume=(tmp_path / "run" / "adapt" / "state.json").exists(),
                checkpoint_seconds=rng.choice([0.0, 60.0]),
                **SMALL,
            )
            break
        except Killed:
            kills += 1
    assert kills >= 3
    files = [read_state(path / "adapt" / "state.json")[0] for path in (tmp_path / "run", whole.path)]
    assert timeless(files[0]) == timeless(files[1])
    for name in ("encoder.safetensors", "adapt/none/encoder.safetensors", "adapt/adainf.seed1/encoder.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (whole.path / name).read_bytes()
    costs = [Run(path).ledger.search for path in (tmp_path / "run", whole.path)]
    assert (costs[0].views, costs[0].flops) == (costs[1].views, costs[1].flops)


def test_a_generator_that_copies_is_noticed_before_anything_is_trained_on_it(tmp_path, images, recipe):
    out = tmp_path / "run"
    run = swell.adapt(images, out, recipe=replace(recipe, steps=64), generator="copies", count=300, quiet=True)
    found, _ = read_state(out / "adapt" / "state.json")
    assert "copies" in found["copies"]
    assert all(c["amount"] == 0 for c in found["plan"]["candidates"])
    assert "generated" not in run.data_fingerprints
    assert run.ledger.pretraining.samples_generated == 0
    assert "cannot be used" in (out / "adapt" / "report.html").read_text()


def test_vectors_and_a_method_with_a_teacher(tmp_path):
    recipe = Recipe(
        method="byol",
        steps=64,
        batch_size=16,
        backbone_options={"hidden": 16},
        method_options={"hidden": 16, "outputs": 8},
        precision="fp32",
    )
    run = swell.adapt(table(), tmp_path / "run", recipe=recipe, budget="2.2x", report=False, **SMALL)
    found, _ = read_state(run.path / "adapt" / "state.json")
    assert set(found["choice"]["ranks"]["none"]) == {"learnability", "rankme"}
    scores = found["results"]["none"]["0"]["scores"]
    assert "masked_columns" in scores
    assert "rotation" not in scores


def test_minutes_become_steps_once_and_for_all(tmp_path, images, recipe):
    recipe = recipe.with_budget(minutes=0.02)
    with pytest.raises(InputError, match="give --budget"):  # far too little: but by then it knows the pace
        swell.adapt(images, tmp_path / "run", recipe=recipe, budget="0.01x", **SMALL)
    found, _ = read_state(tmp_path / "run" / "adapt" / "state.json")
    assert found["pace"]["seconds"] > 0
    assert found["pace"]["steps"] == max(int(60 * 0.02 / found["pace"]["seconds"]), 1)


def test_nothing_that_trains_is_said_in_one_line(tmp_path, images, recipe):
    with pytest.raises(InputError, match="no candidate that trains"):
        swell.adapt(images, tmp_path / "run", recipe=replace(recipe, learning_rate=1e6, steps=64), **SMALL)


def test_folders_and_options_that_do_not_fit(tmp_path, images, recipe):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("all I have")
    with pytest.raises(InputError, match="thesis"):
        swell.adapt(images, tmp_path / "full", recipe=recipe, **SMALL)
    with pytest.raises(InputError, match="--budget"):
        swell.adapt(images, tmp_path / "a", recipe=recipe, budget="much", **SMALL)
    with pytest.raises(InputError, match="generator"):
        swell.adapt(images, tmp_path / "a", recipe=recipe, **{**SMALL, "generator": "vea"})
    with pytest.raises(InputError, match="--count"):
        swell.adapt(images, tmp_path / "a", recipe=recipe, **{**SMALL, "count": 3})
    assert not (tmp_path / "a").exists()


def test_the_command_parses():
    words = (
        "adapt builtin:digits --out run --budget 90m --steps 400 --generator vae --generator-options width=64 --resume"
    )
    command = parse(words.split())
    assert (command.budget, command.steps, command.resume) == ("90m", 400, True)
    assert search_module.run_name("none", 1) == "none.seed1"

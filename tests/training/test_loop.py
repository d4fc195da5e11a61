"""The loop: exact restart, honest ledger, and what happens when something goes wrong."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from swell.data.mixture import real_share
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.ledger import Ledger
from swell.recipes import Recipe
from swell.run import Run
from swell.training import loop
from swell.training.build import build, resolve
from swell.training.folder import read_metrics
from swell.training.loop import Operation, pretrain
from swell.training.watchdog import Diverged, Watchdog

QUIET = Operation(quiet=True)
AGAIN = Operation(resume=True, quiet=True)


def weights(run):
    return (run / "encoder.safetensors").read_bytes()


def test_a_run_leaves_what_the_contract_names(tmp_path, tiny, real, made):
    out = pretrain(replace(tiny, weight=3.0), real, tmp_path / "run", made, QUIET)
    held = {p.name for p in out.iterdir()}
    assert {
        "recipe.toml",
        "environment.json",
        "metrics.jsonl",
        "ledger.json",
        "checkpoint.pt",
        "encoder.safetensors",
        "encoder.json",
    } <= held
    assert not [name for name in held if name.endswith(".tmp")]
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert state["state"]["step"] == 8
    losses = [m["loss"] for m in read_metrics(out)]
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_what_a_kill_left_half_written_is_removed_when_the_run_goes_on(tmp_path, tiny, real):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".checkpoint.pt.abc.tmp").write_bytes(b"half")
    pretrain(tiny, real, out, None, QUIET)
    assert not list(out.glob(".*.tmp"))


def test_ledger_counts_what_was_done(tmp_path, tiny, real, made):
    recipe = replace(tiny, weight=3.0, steps=10)
    ledger = Run(pretrain(recipe, real, tmp_path / "run", made, QUIET)).ledger
    cost = ledger.pretraining
    assert cost.samples_real + cost.samples_generated == 160
    assert cost.samples_real == int(160 * real_share(96, 200, 3.0) + 1e-9)
    assert cost.views == cost.forwards == 320
    # FLOPs by hand: 3 x forward (forward, and backward for inputs and weights) of convolutions and projector, less the
    # first convolution's gradient of its input, plus the loss's small matrix products and the views' resampling.
    net = build(resolve(recipe, real, torch.device("cpu")), real, made, torch.device("cpu")).encoder.backbone
    macs, side, first = 0, 8, None
    for layer in net.layers:
        if isinstance(layer, torch.nn.Conv2d):
            side = side // layer.stride[0]
            here = layer.weight.numel() * side * side
            first = here if first is None else first
            macs += here
    projector = net.features * 16 + 16 * 8
    expected = 10 * 32 * 2 * (3 * (macs + projector) - first)
    assert expected <= cost.flops <= 1.15 * expected
    assert ledger.peak_memory_bytes > 50e6
    assert ledger.to_dict()["total"]["views"] == 320


def test_equal_recipes_give_equal_bits_and_seeds_differ(tmp_path, tiny, real):
    a, b = (weights(pretrain(tiny, real, tmp_path / name, None, QUIET)) for name in "ab")
    assert a == b
    assert weights(pretrain(replace(tiny, seed=1), real, tmp_path / "c", None, QUIET)) != a


@pytest.mark.parametrize("stop_at", [1, 5])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, tiny, real, made, monkeypatch, stop_at):
    whole = pretrain(tiny, real, tmp_path / "whole", made, QUIET)
    step = loop.Stepper.__call__
    seen = []

    def interrupting(self, t, progress):
        seen.append(t)
        if t == stop_at:
            os.kill(os.getpid(), signal.SIGINT)  # a real Ctrl-C, in the middle of a step
        return step(self, t, progress)

    monkeypatch.setattr(loop.Stepper, "__call__", interrupting)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny, real, tmp_path / "run", made, QUIET)
    monkeypatch.setattr(loop.Stepper, "__call__", step)
    assert seen[-1] == stop_at  # the step in progress ended, none was begun after it
    assert not (tmp_path / "run" / "encoder.safetensors").exists()
    out = pretrain(tiny, real, tmp_path / "run", made, AGAIN)
    assert weights(out) == weights(whole)
    strip = [{k: v for k, v in m.items() if k != "seconds"} for m in read_metrics(out)]
    assert strip == [{k: v for k, v in m.items() if k != "seconds"} for m in read_metrics(whole)]
    a, b = Run(out).ledger.pretraining, Run(whole).ledger.pretraining
    assert (a.flops, a.views, a.samples_real) == (b.flops, b.views, b.samples_real)


def test_kill_9_at_any_moment_loses_nothing(tmp_path):
    """Killed at random moments and resumed until done: weights equal to the undisturbed run's, bit for bit."""
    command = [
        sys.executable,
        "-m",
        "swell",
        "pretrain",
        "builtin:digits",
        "--recipe",
        "digits",
        "--steps",
        "60",
        "--width",
        "0.25",
        "--batch-size",
        "64",
        "--checkpoint-seconds",
        "0.05",
        "--precision",
        "fp32",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    rng = random.Random(0)
    out, kills = tmp_path / "run", 0
    for _ in range(12):
        process = subprocess.Popen(
            [*command, "--out", str(out), "--resume"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if kills < 3:
            deadline = time.monotonic() + 60
            while not (out / "recipe.toml").exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.6))
            if process.poll() is None:
                process.kill()
                kills += 1
            process.wait()
        else:
            _, error = process.communicate(timeout=120)
            assert process.returncode == 0, error.decode()
        if (out / "encoder.safetensors").exists():
            break
    assert kills >= 1
    assert weights(out) == weights(tmp_path / "whole")


def test_resume_refuses_a_changed_recipe_and_changed_data_by_name(tmp_path, tiny, real, made):
    out = pretrain(tiny, real, tmp_path / "run", made, QUIET)
    before = weights(out)
    with pytest.raises(InputError, match=r"learning_rate: 0\.05 -> 0\.1"):
        pretrain(replace(tiny, learning_rate=0.1), real, out, made, AGAIN)
    other = Source(real.samples[::-1].copy(), real.provenance)
    with pytest.raises(InputError, match="real: "):
        pretrain(tiny, other, out, made, AGAIN)
    with pytest.raises(InputError, match=r"generated: .* -> none"):
        pretrain(tiny, real, out, None, AGAIN)
    assert weights(out) == before


def test_an_earlier_result_is_never_overwritten(tmp_path, tiny, real):
    out = pretrain(tiny, real, tmp_path / "run", None, QUIET)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(InputError, match="--resume"):
        pretrain(replace(tiny, steps=9), real, out, None, QUIET)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert pretrain(tiny, real, out, None, AGAIN) == out  # finished: nothing to do
    stranger = tmp_path / "notes"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        pretrain(tiny, real, stranger, None, QUIET)
    with pytest.raises(InputError, match=r"no recipe\.toml"):
        pretrain(tiny, real, stranger, None, AGAIN)
    assert [p.name for p in stranger.iterdir()] == ["thesis.txt"]


def test_two_processes_cannot_train_in_one_folder(tmp_path, tiny, real):
    out = tmp_path / "run"
    with loop.claimed(out), pytest.raises(InputError, match="another process"):
        pretrain(tiny, real, out, None, QUIET)


def test_weights_that_were_lost_come_back_and_no_cost_is_forgotten(tmp_path, tiny, real):
    out = pretrain(tiny, real, tmp_path / "run", None, QUIET)
    weights, ledger = (out / "encoder.safetensors").read_bytes(), json.loads((out / "ledger.json").read_text())
    ledger["evaluation"]["seconds"] = 12.5  # it has been evaluated
    (out / "ledger.json").write_text(json.dumps(ledger))
    (out / "encoder.safetensors").unlink()
    pretrain(tiny, real, out, None, AGAIN)
    assert (out / "encoder.safetensors").read_bytes() == weights
    assert json.loads((out / "ledger.json").read_text())["evaluation"]["seconds"] == 12.5


@pytest.mark.parametrize("told", ["{}", "[1]", '{"evaluation": {"seconds": "some"}}', ""])
def test_a_file_that_is_no_ledger_does_not_stop_a_run_from_ending(tmp_path, tiny, real, told):
    out = pretrain(tiny, real, tmp_path / "run", None, QUIET)
    written = json.loads((out / "ledger.json").read_text())
    (out / "encoder.safetensors").unlink()
    (out / "ledger.json").write_text(told)
    pretrain(tiny, real, out, None, AGAIN)
    again = json.loads((out / "ledger.json").read_text())
    assert again["evaluation"] == written["evaluation"]
    assert again["pretraining"]["samples_real"] == written["pretraining"]["samples_real"]


def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path, tiny, real):
    out = pretrain(tiny, real, tmp_path / "run", None, QUIET)
    (out / "encoder.safetensors").unlink()
    good = (out / "checkpoint.pt").read_bytes()
    for bad in (b"", good[: len(good) // 2], b"\x80\x04N."):
        (out / "checkpoint.pt").write_bytes(bad)
        with pytest.raises(InputError, match="a checkpoint"):
            pretrain(tiny, real, out, None, AGAIN)


def test_a_loss_that_is_not_finite_names_step_and_module(tmp_path, tiny, real, monkeypatch):
    step = loop.Stepper.__call__

    def poisoned(self, t, progress):
        if t == 3:
            self.encoder.backbone.layers[3].weight.data[0, 0, 0, 0] = float("nan")
        return step(self, t, progress)

    monkeypatch.setattr(loop.Stepper, "__call__", poisoned)
    with pytest.raises(Diverged, match=r"step 3: .*encoder\.backbone\.layers\.3\.weight"):
        pretrain(tiny, real, tmp_path / "run", None, QUIET)


def test_a_broken_weight_never_replaces_a_good_checkpoint(tmp_path, tiny, real, monkeypatch):
    step = loop.Stepper.__call__

    def poisoned(self, t, progress):
        out = step(self, t, progress)
        if t == 3:  # after a finite loss, as an infinite gradient would
            self.parts["projector"][0].weight.data[0, 0] = float("inf")
        return out

    monkeypatch.setattr(loop.Stepper, "__call__", poisoned)
    with pytest.raises(Diverged, match=r"projector\.0\.weight"):
        pretrain(tiny, real, tmp_path / "run", None, Operation(quiet=True, checkpoint_seconds=0.0))
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["state"]["step"] == 3
    assert all(w.isfinite().all() for w in saved["parts"].values())


def test_overflow_in_a_module_is_named_though_weights_are_finite(tiny, real):
    stepper = build(resolve(tiny, real, torch.device("cpu")), real, None, torch.device("cpu"))
    with torch.no_grad():
        stepper.parts["projector"][2].weight.fill_(3e38)
    from swell.training.watchdog import first_broken_module

    roots = {"encoder": stepper.encoder, **dict(stepper.parts.items())}
    assert first_broken_module(roots, lambda: stepper.loss(0, 0.0).loss) == "the output of projector.2"


def test_collapse_is_warned_of_in_plain_words(tmp_path, tiny, capsys):
    constant = Source(np.zeros((64, 1, 8, 8), np.uint8), Provenance("real", "array"))
    pretrain(tiny, constant, tmp_path / "run", None, QUIET)
    warning = capsys.readouterr().err
    assert "collapse" in warning
    assert "step 4" in warning  # after five looks
    assert warning.count("collapse:") == 1


def test_a_narrow_state_in_passing_is_not_warned_of(capsys):
    watchdog = Watchdog()
    for step, spread in enumerate([0.01] * 4 + [0.2] + [0.01] * 4):
        watchdog.check_spread(step, spread)
    assert capsys.readouterr().err == ""


def test_budgets_in_epochs_and_minutes(tmp_path, tiny, real):
    epochs = replace(tiny, steps=None, epochs=3.0)
    assert resolve(epochs, real, torch.device("cpu")).steps == 18  # 3 x 96 / 16
    begun = time.monotonic()
    out = pretrain(replace(tiny, steps=None, minutes=0.03), real, tmp_path / "run", None, QUIET)
    assert 1.8 <= Run(out).ledger.pretraining.seconds < 1.8 + 2
    assert time.monotonic() - begun < 30
    rates = [m["learning_rate"] for m in read_metrics(out)]
    assert rates[-1] < 0.2 * max(rates)


@pytest.mark.parametrize(
    "change", [{"method_options": {"temprature": 1.0}}, {"method": "simclrr"}, {"backbone": "resnet19"}]
)
def test_unknown_names_are_refused_before_anything_is_written(tmp_path, tiny, real, change):
    with pytest.raises(InputError):
        pretrain(replace(tiny, **change), real, tmp_path / "run", None, QUIET)
    assert not (tmp_path / "run").exists()


def test_shapes_that_do_not_match_are_refused(tmp_path, tiny, real):
    other = Source(np.zeros((9, 3, 8, 8), np.uint8), Provenance("generated", "array"))
    with pytest.raises(InputError, match="the real samples' shape"):
        pretrain(tiny, real, tmp_path / "run", other, QUIET)
    with pytest.raises(InputError, match="conv6 for vectors"):
        pretrain(tiny, Source(np.zeros((9, 3), np.float32), Provenance("real", "array")), tmp_path / "run", None, QUIET)


def test_bf16_learns_the_same_task(tmp_path, tiny, real):
    plain = read_metrics(pretrain(replace(tiny, steps=30), real, tmp_path / "a", None, QUIET))
    half = read_metrics(pretrain(replace(tiny, steps=30, precision="bf16"), real, tmp_path / "b", None, QUIET))
    assert half[0]["loss"] == pytest.approx(plain[0]["loss"], rel=0.02)
    assert half[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.15)


def test_a_compiled_encoder_costs_and_learns_the_same(tmp_path, tiny, real):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on this machine")
    plain = pretrain(tiny, real, tmp_path / "a", None, QUIET)
    compiled = pretrain(replace(tiny, compile=True), real, tmp_path / "b", None, QUIET)
    assert Run(compiled).ledger.pretraining.flops == Run(plain).ledger.pretraining.flops
    assert read_metrics(compiled)[-1]["loss"] == pytest.approx(read_metrics(plain)[-1]["loss"], rel=1e-3)


def test_recipe_file_reproduces_the_run(tmp_path, tiny, real):
    from swell.recipes import load_recipe

    out = pretrain(tiny, real, tmp_path / "a", None, QUIET)
    text = (out / "recipe.toml").read_text().split("[data]")[0]
    (tmp_path / "r.toml").write_text(text)
    again = load_recipe(str(tmp_path / "r.toml"))
    assert isinstance(again, Recipe)
    assert weights(pretrain(again, real, tmp_path / "b", None, QUIET)) == weights(out)


def test_encoder_file_is_plain_safetensors(tmp_path, tiny, real):
    out = pretrain(tiny, real, tmp_path / "run", None, QUIET)
    tensors = load_file(out / "encoder.safetensors")
    assert "backbone.layers.0.weight" in tensors
    assert json.loads((out / "encoder.json").read_text())["shape"] == [1, 8, 8]
    ledger = json.loads((out / "ledger.json").read_text())
    assert Ledger.from_dict({k: v for k, v in ledger.items() if k != "total"}).pretraining.views == 256


def test_training_imports_no_library_that_it_has_no_use_for(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (16, 3, 16, 16), np.uint8))
    options = "steps=1, batch_size=8, width=0.0625, backbone='resnet18', quiet=True, report=False"
    code = (
        f"import sys, swell; swell.pretrain('x.npy', out='run', {options})\n"
        "print({'sklearn', 'scipy', 'pandas', 'pyarrow', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "set()\n"

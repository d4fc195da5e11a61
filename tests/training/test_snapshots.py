"""Encoders kept on the way: they change nothing, lie where the budget says, and survive an interruption."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from swell.errors import InputError
from swell.run import Run
from swell.training import loop
from swell.training.loop import Operation, pretrain
from swell.training.snapshots import check_shares, read_snapshots

SHARES = (0.25, 0.5, 0.99)


def kept(resume=False):
    return Operation(quiet=True, resume=resume, snapshots=SHARES)


def test_a_run_with_snapshots_is_the_run_without_them(tmp_path, tiny, real):
    plain = Run(pretrain(tiny, real, tmp_path / "plain", None, Operation(quiet=True)))
    run = Run(pretrain(tiny, real, tmp_path / "run", None, kept()))
    for name, w in plain.encoder.state_dict().items():
        assert torch.equal(w, run.encoder.state_dict()[name])
    assert read_snapshots(plain.path) == []
    found = read_snapshots(run.path)
    assert [(s.share, s.step) for s in found] == [(0.25, 2), (0.5, 4), (0.99, 8)]  # of 8 steps: the first not before it
    whole = run.ledger.pretraining
    for s in found:
        part = s.step / 8
        assert s.pretraining.flops == pytest.approx(part * whole.flops)
        assert (s.pretraining.views, s.pretraining.samples_real) == (part * whole.views, part * whole.samples_real)
        assert 0 < s.pretraining.seconds <= whole.seconds
        assert s.generator.seconds == 0
    last = found[-1].weights()
    assert all(torch.equal(w, last[name]) for name, w in run.encoder.state_dict().items())
    assert not all(torch.equal(w, last[name]) for name, w in found[0].weights().items())


def test_a_snapshot_is_the_encoder_of_a_run_stopped_there(tmp_path, tiny, real):
    run = pretrain(replace(tiny, schedule="wsd", horizon=8, decay=0.0), real, tmp_path / "run", None, kept())
    short = Run(
        pretrain(replace(tiny, schedule="wsd", horizon=8, decay=0.0, steps=4), real, tmp_path / "short", None, kept())
    )
    half = read_snapshots(run)[1].weights()
    assert all(torch.equal(w, half[name]) for name, w in short.encoder.state_dict().items())


def test_an_interrupted_run_keeps_the_same_snapshots(tmp_path, tiny, real, monkeypatch):
    whole = pretrain(tiny, real, tmp_path / "whole", None, kept())
    step = loop.Stepper.__call__

    def interrupting(self, t, progress):
        if t == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, t, progress)

    monkeypatch.setattr(loop.Stepper, "__call__", interrupting)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny, real, tmp_path / "run", None, kept())
    monkeypatch.setattr(loop.Stepper, "__call__", step)
    run = pretrain(tiny, real, tmp_path / "run", None, kept(resume=True))
    for a, b in zip(read_snapshots(whole), read_snapshots(run), strict=True):
        assert (a.share, a.step, a.pretraining.flops) == (b.share, b.step, b.pretraining.flops)
        assert all(torch.equal(w, b.weights()[name]) for name, w in a.weights().items())


def test_shares_are_checked_before_anything_is_written(tmp_path, tiny, real):
    assert check_shares([0.5, 0.1, 0.5]) == (0.1, 0.5)
    for wrong in ((0.0,), (1.0,), (-0.5,), [i / 200 for i in range(1, 150)]):
        with pytest.raises(InputError, match="snapshot"):
            pretrain(tiny, real, tmp_path / "run", None, Operation(quiet=True, snapshots=tuple(wrong)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_a_damaged_snapshot_is_told_in_one_line(tmp_path, tiny, real, damage):
    run = pretrain(replace(tiny, steps=2), real, tmp_path / "run", None, kept())
    path = read_snapshots(run)[0].path
    path.write_bytes(damage)
    with pytest.raises(InputError, match="the snapshot swell wrote") as error:
        read_snapshots(run)
    assert "\n" not in str(error.value)

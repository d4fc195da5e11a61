"""Scores logged while the encoder trains: at a bounded cost, without a trace in the result."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.evaluation.during import watch
from swell.ledger import Cost, read_ledger
from swell.training.folder import read_metrics
from swell.training.loop import Operation, pretrain
from swell.training.watch import MOST, Watch

NAMES = {"score_rankme", "score_feature_std", "score_uniformity", "score_alignment", "score_acr"}


@pytest.fixture
def longer(tiny):
    return replace(tiny, steps=100)


@pytest.fixture
def few(real):
    return real.subset(np.arange(8))  # a look at them is soon paid for


def scored(out):
    return [m for m in read_metrics(out) if NAMES & m.keys()]


def test_looks_cost_less_than_two_per_cent_and_change_nothing(longer, few, tmp_path):
    plain = pretrain(longer, few, tmp_path / "plain", None, Operation(quiet=True))
    out = pretrain(longer, few, tmp_path / "run", None, Operation(quiet=True, watch=watch(few, 0.4)))
    lines = scored(out)
    assert [m["step"] + 1 for m in lines] == [40, 80]
    assert all(m.keys() >= NAMES for m in lines)
    ledger = read_ledger(out / "ledger.json")
    assert ledger.evaluation.forwards == 2 * 3 * len(few)
    assert 0 < ledger.evaluation.forwards <= MOST * ledger.pretraining.forwards
    a, b = load_file(plain / "encoder.safetensors"), load_file(out / "encoder.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_a_look_says_it_costs_is_what_goes_through_the_encoder(few, tmp_path, tiny):
    from swell.run import Run
    from swell.training.step import forwards_counted

    run, cost = Run(pretrain(tiny, few, tmp_path / "run", None, Operation(quiet=True)), "cpu"), Cost()
    look = watch(few, 0.5)
    with forwards_counted(cost, run.encoder, torch.nn.ModuleDict()):
        look(run.encoder, 8)
    assert cost.forwards == look.forwards == look.cost.forwards


def test_a_resumed_run_logs_the_same(longer, few, tmp_path):
    class Stopped(Watch):
        def __call__(self, encoder, done):
            if done == 80:
                raise KeyboardInterrupt
            return super().__call__(encoder, done)

    whole = pretrain(longer, few, tmp_path / "whole", None, Operation(quiet=True, watch=watch(few, 0.4)))
    look = watch(few, 0.4)
    stopping = Stopped(look.every, look.forwards, look.measure)
    with pytest.raises(KeyboardInterrupt):
        pretrain(longer, few, tmp_path / "run", None, Operation(quiet=True, watch=stopping, checkpoint_seconds=0.2))
    again = Operation(resume=True, quiet=True, watch=watch(few, 0.4))
    out = pretrain(longer, few, tmp_path / "run", None, again)
    keep = ("step", *sorted(NAMES))
    assert [[m[key] for key in keep] for m in scored(out)] == [[m[key] for key in keep] for m in scored(whole)]


def test_when_to_look():
    look = Watch(0.1, forwards=768, measure=lambda encoder: {})
    due = [t for t in range(1, 1001) if look.due(t, (t - 1) / 1000, t / 1000, 512)]
    assert due == list(range(100, 1001, 100))
    cheap = [t for t in range(1, 1001) if look.due(t, (t - 1) / 1000, t / 1000, 64)]
    assert cheap == [600, 700, 800, 900, 1000]  # 600 steps of 64 forwards pay for the first look
    look.last = 600
    assert not look.due(700, 0.699, 0.7, 64)
    for every in (0.0, 1.5, -1.0):
        with pytest.raises(InputError, match="scores-every"):
            Watch(every, 1, lambda encoder: {})


def test_vectors_and_features_that_are_not_finite(tmp_path):
    from swell.nets.encoder import Encoder, EncoderConfig

    rng = np.random.default_rng(0)
    cells = Source(rng.normal(size=(40, 6)).astype(np.float32), Provenance("real", "array"))
    encoder = Encoder(EncoderConfig("mlp", 0.1, (6,), (), ())).eval()
    found, _ = watch(cells, 0.5)(encoder, 1)
    assert set(found) == NAMES
    with torch.no_grad():
        next(encoder.parameters()).fill_(torch.nan)
    assert watch(cells, 0.5)(encoder, 1)[0] == {}

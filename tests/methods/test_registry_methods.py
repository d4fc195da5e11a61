"""Views, finding and making methods, a user's own method, presets, budgets: what stands between a method and the loop."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import swell
from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.files import read_toml
from swell.methods import METHODS, Method, Outcome, Preset, Views, find_method, make_method
from swell.methods.simclr import SimCLR
from swell.nets.backbones import BACKBONES
from swell.nets.chunked import Chunked
from swell.recipes import Recipe
from swell.run import Run
from swell.training.build import build, resolve
from swell.training.folder import read_metrics
from swell.training.loop import Operation, pretrain
from swell.training.optim import OPTIMIZERS
from swell.views.plan import VIEWS, ViewGroup, ViewPlan

CPU = torch.device("cpu")
QUIET = Operation(quiet=True)


# Views


def numbered(*sizes, batch=3):
    """One view [batch, 1, side, side] after another, a (count, side) a group; view v of sample b is filled with 10 v + b."""
    groups, v = [], 0
    for count, side in sizes:
        values = torch.tensor([10.0 * (v + i) + b for i in range(count) for b in range(batch)])
        groups.append(values.view(-1, 1, 1, 1).expand(-1, 1, side, side))
        v += count
    return tuple(groups)


class Mean(torch.nn.Module):
    """The value a view is filled with, as its one feature; remembers what was asked."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        return x.mean(dim=(1, 2, 3)).unsqueeze(1)


def test_features_come_in_the_order_of_the_views_with_one_pass_a_resolution():
    views = Views(numbered((1, 8), (2, 4), (1, 8), (1, 6)), ("global", "local", "global", "local"), 3)
    encoder = Mean()
    assert views.count == 5
    assert views.encode(encoder)[..., 0].tolist() == [[10 * v + b for b in range(3)] for v in range(5)]
    assert encoder.calls == [(6, 1, 8, 8), (6, 1, 4, 4), (3, 1, 6, 6)]


def test_local_views_are_no_targets_unless_there_are_no_others():
    views = Views(numbered((2, 4), (1, 8), (3, 4), (2, 8)), ("local", "global", "local", "patch"), 3)
    assert views.target_index == [2, 6, 7]
    assert views.targets.count == 3
    assert views.targets.roles == ("global", "patch")
    assert views.targets.encode(Mean())[:, 0, 0].tolist() == [20, 60, 70]
    local = Views(numbered((2, 4), (1, 6)), ("local", "local"), 3)
    assert local.target_index == [0, 1, 2]
    assert local.targets.count == 3
    assert local.targets.targets.target_index == [0, 1, 2]


def test_vectors_are_views_like_any_other():
    rows = torch.arange(12.0).view(6, 2)
    views = Views((rows, rows + 100), ("global", "global"), 3)
    assert torch.equal(views.encode(torch.nn.Identity()), torch.cat([rows, rows + 100]).view(4, 3, 2))


# Finding and making


def test_every_registered_method_is_complete():
    for entry in METHODS:
        kind = METHODS[entry.name]
        assert entry.summary, entry.name
        assert entry.paper.startswith("arXiv "), entry.name
        assert {"small", "large", "short"} <= set(kind.presets), entry.name
        for preset in kind.presets.values():
            method = make_method(entry.name, preset.options)
            assert make_method(entry.name, asdict(method)) == method  # as a recipe.toml gives it back
            assert preset.optimizer in OPTIMIZERS
            assert not preset.views or preset.views in VIEWS
            assert preset.learning_rate > 0
            assert 0 <= preset.warmup < 1
        assert method.views((3, 32, 32)).count >= (1 if kind.needs_tokens else 2)
        assert kind.backbone in ("auto", *(backbone.name for backbone in BACKBONES))


def test_an_unknown_method_is_answered_with_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'simclr'"):
        find_method("simclar")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine.py:function", r"\(function\).*subclass of swell.methods.Method"),
        ("mine.py:Plain", r"\(type\).*subclass"),
        ("mine.py:Bare", "put @dataclass"),
        ("mine.py:Absent", "a name of"),
        ("none.py:Mine", "a file that exists"),
        ("broken.py:Mine", "SyntaxError"),
    ],
)
def test_what_is_no_method_is_told_in_one_line(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from swell.methods import Method\n\ndef function(): ...\n\nclass Plain: ...\n\nclass Bare(Method): ...\n"
    )
    (tmp_path / "broken.py").write_text("class Mine(:\n")
    with pytest.raises(InputError, match=says) as caught:
        find_method(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temprature": 0.1}, "unknown key 'temprature'.*temperature, hidden, outputs"),
        ({"temperature": "warm"}, "a number"),
        ({"temperature": True}, "a value like 0.2"),
        ({"hidden": 0.5}, "a whole number"),
        ({"hidden": 0}, "at least 1"),
        ({"temperature": -1.0}, "a number above 0"),
    ],
)
def test_bad_options_are_told_in_one_line(options, says):
    with pytest.raises(InputError, match=says):
        make_method("simclr", options)


def test_options_replace_defaults():
    assert make_method("simclr", {"temperature": 1, "hidden": 7}) == SimCLR(temperature=1, hidden=7)


# A user's own method

MINE = """
from dataclasses import dataclass
from torch import nn
from swell.methods import Method, Outcome
from swell.methods.simclr import nt_xent
from swell.methods.terms import spread
from swell.nets.heads import MLP

@dataclass(frozen=True)
class Mine(Method):
    temperature: float = 0.5

    def parts(self, encoder):
        return nn.ModuleDict({"projector": MLP(encoder.features, 16, 8)})

    def loss(self, encoder, parts, views, progress):
        z = parts["projector"](views.encode(encoder))
        return Outcome(nt_xent(z, self.temperature), {"z_std": spread(z)})
"""


def test_a_method_in_a_users_file_trains(tmp_path, tiny):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    digits = swell.open("builtin:digits").samples[:64]
    given = {"recipe": tiny, "quiet": True, "report": False, "method": f"{file}:Mine"}
    run = swell.pretrain(digits, tmp_path / "run", method_options={"temperature": 0.3}, **given)
    assert read_toml(run.path / "recipe.toml")["method_options"] == {"temperature": 0.3}
    records = read_metrics(run.path)
    assert len(records) == 8
    assert all(np.isfinite(record["loss"]) and 0 < record["z_std"] < 2 for record in records)
    assert swell.pretrain(digits, tmp_path / "plain", **given).encode(digits).shape == run.encode(digits).shape
    first = read_metrics(tmp_path / "plain")[0]["loss"]
    assert first != records[0]["loss"]  # the other temperature took effect
    with pytest.raises(InputError, match="unknown key 'hidden'"):
        swell.pretrain(digits, tmp_path / "bad", method_options={"hidden": 3}, **given)
    assert not (tmp_path / "bad").exists()


# Presets and budgets


def source(side=8, n=64):
    return Source(
        np.random.default_rng(0).integers(0, 255, (n, 1, side, side), dtype=np.uint8), Provenance("real", "array")
    )


def test_the_presets_rate_scales_with_the_batch_and_a_given_one_does_not():
    for batch in (64, 256, 1024):
        recipe = resolve(Recipe(method="simclr", batch_size=batch, steps=1), source(), CPU)
        assert recipe.learning_rate == pytest.approx(0.4 * batch / 256)
        assert resolve(Recipe(method="emp_ssl", batch_size=batch, steps=1), source(), CPU).learning_rate == 0.5
    recipe = resolve(Recipe(method="simclr", batch_size=64, steps=1, learning_rate=0.7), source(), CPU)
    assert recipe.learning_rate == 0.7


def test_the_preset_fits_the_size_and_fills_only_what_is_left_open():
    small = resolve(Recipe(method="simclr", steps=1), source(64), CPU)
    large = resolve(Recipe(method="simclr", steps=1), source(65, 4), CPU)
    short = resolve(Recipe(method="simclr", preset="short", steps=1), source(), CPU)
    assert (small.preset, large.preset, short.preset) == ("small", "large", "short")
    assert small.method_options == asdict(SimCLR())
    assert large.method_options == asdict(SimCLR(**METHODS["simclr"].presets["large"].options))
    own = resolve(
        Recipe(
            method="simclr",
            steps=1,
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.0,
            warmup=0.0,
            method_options={"outputs": 9},
        ),
        source(65, 4),
        CPU,
    )
    assert (own.optimizer, own.weight_decay, own.warmup) == ("adamw", 0.0, 0.0)
    assert own.method_options == {**large.method_options, "outputs": 9}
    assert resolve(small, source(64), CPU) == small  # what is resolved stays


def test_another_optimizer_needs_a_rate_of_its_own():
    with pytest.raises(InputError, match="optimizer sgd without a learning rate"):
        resolve(Recipe(method="emp_ssl", steps=1, optimizer="sgd"), source(), CPU)
    assert resolve(Recipe(method="emp_ssl", steps=1, optimizer="lars_unclipped"), source(), CPU).learning_rate > 0


def test_a_queue_is_no_longer_than_half_the_samples_unless_told():
    assert resolve(Recipe(method="mocov2", steps=1), source(8, 100), CPU).method_options["queue"] == 50
    told = Recipe(method="mocov2", steps=1, method_options={"queue": 90})
    assert resolve(told, source(8, 100), CPU).method_options["queue"] == 90


def test_a_method_without_that_preset_falls_back(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    recipe = resolve(Recipe(method=f"{tmp_path}/mine.py:Mine", preset="short", steps=1), source(), CPU)
    assert recipe.optimizer == Preset().optimizer
    assert recipe.views == VIEWS["simclr"]()


def test_a_presets_views_come_before_the_methods_own(tmp_path):
    text = MINE.replace("    temperature", "    presets = {'small': Preset(views='digits')}\n    temperature")
    (tmp_path / "mine.py").write_text(text.replace("Method, Outcome", "Method, Outcome, Preset"))
    given = Recipe(method=f"{tmp_path}/mine.py:Mine", steps=1)
    assert resolve(given, source(), CPU).views == VIEWS["digits"]()
    assert resolve(replace(given, views="adainf"), source(), CPU).views == VIEWS["adainf"]()


@pytest.mark.parametrize(("patches", "views", "steps"), [(320, 2, 10), (321, 2, 11), (320, 5, 4), (1, 2, 1)])
def test_a_budget_of_patches_gives_enough_steps(tmp_path, tiny, real, patches, views, steps):
    recipe = replace(tiny, steps=None, patches=patches, view_count=views)
    assert resolve(recipe, real, CPU).steps == steps
    if patches == 320 and views == 5:
        cost = Run(pretrain(recipe, real, tmp_path / "run", None, QUIET)).ledger.pretraining
        assert cost.views == cost.forwards == 320


def test_a_budget_of_flops_gives_the_nearest_number_of_steps(tmp_path, tiny, real):
    one = Run(pretrain(replace(tiny, steps=1), real, tmp_path / "one", None, QUIET)).ledger.pretraining.flops
    for share, steps in ((2.6, 3), (0.2, 1)):
        recipe = replace(tiny, steps=None, flops=share * one)
        out = pretrain(recipe, real, tmp_path / f"run{share}", None, QUIET)
        assert len(read_metrics(out)) == steps
        assert Run(out).ledger.pretraining.flops == pytest.approx(steps * one)
    same = pretrain(replace(tiny, steps=3), real, tmp_path / "same", None, QUIET)
    assert (same / "encoder.safetensors").read_bytes() == (tmp_path / "run2.6/encoder.safetensors").read_bytes()


def test_a_teachers_forwards_are_counted_apart(tmp_path, tiny, real):
    cost = Run(pretrain(replace(tiny, method="byol", steps=3), real, tmp_path / "run", None, QUIET)).ledger.pretraining
    assert (cost.forwards, cost.teacher_forwards) == (3 * 32, 3 * 32)


def test_view_count_changes_the_first_group_only(real):
    plan = ViewPlan((ViewGroup(count=2), ViewGroup(count=3, size=4, role="local")))
    recipe = resolve(Recipe(method="simclr", views=plan, view_count=5, steps=1), real, CPU)
    assert [group.count for group in recipe.views.groups] == [5, 3]
    assert recipe.view_count is None


def test_view_chunk_encodes_so_many_views_at_once(tmp_path, tiny, real):
    recipe = resolve(replace(tiny, view_count=4, view_chunk=2, steps=2), real, CPU)
    stepper = build(recipe, real, None, CPU)
    assert isinstance(stepper.forward, Chunked)
    sizes = []
    stepper.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    stepper(0, 0.0)
    assert sizes == [32] * 4  # two pieces, and again in the backward pass
    cost = Run(pretrain(recipe, real, tmp_path / "run", None, QUIET)).ledger.pretraining
    whole = Run(pretrain(replace(recipe, view_chunk=None), real, tmp_path / "whole", None, QUIET)).ledger.pretraining
    assert cost.forwards == whole.forwards == 2 * 64  # the second forward is work, but no other view
    assert 1.2 * whole.flops < cost.flops < 1.4 * whole.flops


def test_a_chunk_of_all_views_changes_nothing(tmp_path, tiny, real):
    weights = [
        (
            pretrain(replace(tiny, view_chunk=chunk), real, tmp_path / str(chunk), None, QUIET) / "encoder.safetensors"
        ).read_bytes()
        for chunk in (None, 2)
    ]
    assert weights[0] == weights[1]


def test_the_least_method_needs_only_a_loss():
    outcome = Outcome(torch.zeros(()), {})
    assert dict(outcome.kept) == {}
    method = Method()
    assert not list(method.parts(None).parameters())
    assert method.views((3, 32, 32)) == VIEWS["simclr"]()
    assert method.after_step(None, None, {}, 0.5) is None
    with pytest.raises(NotImplementedError):
        method.loss(None, None, None, 0.0)

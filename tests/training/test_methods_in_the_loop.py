"""Every method in the loop: with generated samples, interrupted and resumed, its teachers on the bill."""

import math
from dataclasses import replace

import pytest
import torch

from swell.data.mixture import real_share
from swell.errors import InputError
from swell.methods import METHODS, find_method
from swell.recipes import Recipe
from swell.run import Run
from swell.training import loop
from swell.training.build import build, resolve
from swell.training.loop import Operation, pretrain
from swell.training.optim import OPTIMIZERS
from swell.views.plan import VIEWS

QUIET = Operation(quiet=True)
NAMES = [entry.name for entry in METHODS]
TEACHERS = {"mocov2", "mocov3", "byol", "dino"}
CPU = torch.device("cpu")


def recipe_of(tiny, name, **changes):
    known = METHODS[name].__dataclass_fields__
    sizes = {"hidden": 16, "outputs": 8, "predictor": 16, "bottleneck": 8, "prototypes": 20, "queue": 40}
    sizes |= {"decoder_width": 16, "decoder_depth": 1}
    options = {key: value for key, value in sizes.items() if key in known}
    if METHODS[name].needs_tokens:  # its own backbone, a small one
        changes = {"backbone": "auto", "backbone_options": {"patch": 2, "depth": 2}, **changes}
    if METHODS[name].generator_positives:  # a small one
        changes = {"generator_options": {"width": 8, "depth": 1, "evaluations": 2}, **changes}
    return replace(tiny, method=name, method_options=options, **changes)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_of_any_method_goes_on_bit_for_bit(tmp_path, tiny, real, made, monkeypatch, name):
    recipe = recipe_of(tiny, name, steps=6, weight=3.0, strength=0.5)
    whole = pretrain(recipe, real, tmp_path / "whole", made, QUIET)
    step = loop.Stepper.__call__

    def stopping(self, t, progress):
        if t == 3:
            raise KeyboardInterrupt
        return step(self, t, progress)

    always = replace(QUIET, checkpoint_seconds=0.0)
    monkeypatch.setattr(loop.Stepper, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, real, tmp_path / "run", made, always)
    monkeypatch.setattr(loop.Stepper, "__call__", step)
    out = pretrain(recipe, real, tmp_path / "run", made, replace(always, resume=True))
    assert (out / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
    a, b = (torch.load(run / "checkpoint.pt", weights_only=True)["parts"] for run in (out, whole))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    cost = Run(out).ledger.pretraining
    plan = Run(out).recipe.views
    assert cost.forwards == cost.views == 6 * 16 * plan.count
    assert (cost.teacher_forwards > 0) == (name in TEACHERS)
    assert cost.samples_real == math.floor(96 * real_share(96, 200, 3.0) + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_any_method_takes_many_views_of_two_sizes(tiny, real, name):
    recipe = resolve(recipe_of(tiny, name, views=VIEWS["swav"]()), real, CPU)
    stepper = build(recipe, real, None, CPU)
    loss, _, _ = stepper(0, 0.5)
    assert loss.isfinite()
    cost = stepper.measured(1, 0.5)[1]
    assert cost.forwards == 8 * 16
    assert cost.pixels == (2 * 32**2 + 6 * 16**2) * 16 + cost.teacher_forwards * 32**2
    assert cost.teacher_forwards in (0, 2 * 16)  # small crops do not reach a teacher


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_all_presets(name):
    presets = find_method(name).presets
    assert set(presets) - {"vectors"} == {"small", "large", "short"}
    for preset in presets.values():
        find_method(name)(**preset.options)
        assert preset.optimizer in OPTIMIZERS
        assert not preset.views or preset.views in VIEWS


@pytest.mark.parametrize("name", ["mae", "mixed_ae"])
def test_a_masked_autoencoder_brings_its_backbone_and_its_betas(tiny, real, name):
    recipe = resolve(Recipe(method=name, steps=1, width=0.25), real, CPU)
    assert (recipe.backbone, recipe.optimizer, recipe.momentum, recipe.beta2) == ("vit_tiny", "adamw", 0.9, 0.95)
    assert recipe.views == VIEWS["mae"]()
    assert build(recipe, real, None, CPU).optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert (
        resolve(
            replace(recipe, method="simclr", method_options={}, backbone="auto", backbone_options={}), real, CPU
        ).backbone
        == "conv6"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone": "conv6", "backbone_options": {}}, "mae with conv6.*backbone with tokens.*vit_tiny"),
        ({"view_chunk": 1}, "view_chunk 1.*leave view_chunk out"),
        ({"method_options": {"decoder_width": 18}}, "decoder_width 18"),
        ({"method": "mixed_ae", "method_options": {}, "batch_size": 18}, "36 views in a batch|18 views"),
    ],
)  # fmt: skip
def test_what_a_masked_autoencoder_cannot_do_is_refused_and_leaves_nothing(tmp_path, tiny, real, changes, says):
    recipe = replace(recipe_of(tiny, "mae", views=VIEWS["mae"]()), **changes)
    with pytest.raises(InputError, match=says):
        pretrain(recipe, real, tmp_path / "run", None, QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mae", "mixed_ae"])
def test_a_masked_autoencoder_gets_better_at_it(tmp_path, tiny, real, name):
    recipe = replace(recipe_of(tiny, name, steps=40), optimizer="adamw", learning_rate=5e-3, views=VIEWS["mae"]())
    records = Run(pretrain(recipe, real, tmp_path / "run", None, QUIET)).metrics
    first, last = (sum(r["reconstruction"] for r in part) / 5 for part in (records[:5], records[-5:]))
    assert last < 0.9 * first


def test_a_plan_of_one_view_is_refused_and_leaves_nothing(tmp_path, tiny, real):
    one = replace(tiny.views, groups=(replace(tiny.views.groups[0], count=1),))
    with pytest.raises(InputError, match="1 view"):
        pretrain(replace(tiny, views=one), real, tmp_path / "run", None, QUIET)
    assert not (tmp_path / "run").exists()


def test_pieces_need_less_memory_and_give_the_same_run(tmp_path, tiny, real):
    """Without batch norm in the encoder there would be no difference at all; with it, pieces of whole views differ."""
    recipe = replace(tiny, view_count=6, view_chunk=6)
    whole, pieces = (
        pretrain(replace(recipe, view_chunk=chunk), real, tmp_path / str(chunk), None, QUIET) for chunk in (None, 6)
    )
    assert (whole / "encoder.safetensors").read_bytes() == (pieces / "encoder.safetensors").read_bytes()
    in_pieces = pretrain(replace(recipe, view_chunk=2), real, tmp_path / "2", None, QUIET)
    a, b = (Run(path).ledger.pretraining for path in (whole, in_pieces))
    assert a.forwards == b.forwards  # what is computed again for the gradient is in the FLOPs, not here
    assert b.flops > 1.2 * a.flops

"""From a recipe to what a step needs: the resolved recipe, and the stepper with its nets, optimiser and data."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import torch
from torch import nn

from swell.data.mixture import Mixture
from swell.data.source import Source
from swell.errors import InputError
from swell.methods import find_method, make_method
from swell.methods.registry import Preset
from swell.nets.backbones import make_backbone, scaled
from swell.nets.chunked import Chunked
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics, default_backbone
from swell.nets.vit import ViT
from swell.recipes import Recipe
from swell.seeding import seed_for
from swell.training.machine import pick_precision
from swell.training.optim import make_optimizer
from swell.training.step import Stepper, on_device
from swell.views.plan import VIEWS

SMALL_SIDE = 64  # pixels, up to which a method's preset is the small one
PRESET_BATCH = 256  # what the presets' learning rates are for


def resolve(recipe: Recipe, real: Source, device: torch.device) -> Recipe:
    """Fill in what the recipe leaves to the method, the data and the machine, so that `recipe.toml` says it all.

    A budget of FLOPs stays: only a step can tell how many it takes.
    """
    name = recipe.preset
    if name == "auto":
        name = "small" if max(real.shape[1:]) <= SMALL_SIDE else "large"
    presets = find_method(recipe.method).presets
    preset = presets.get(name) or presets.get("small") or Preset()
    method = make_method(recipe.method, {**preset.options, **recipe.method_options})
    batch = preset.batch_size if recipe.batch_size is None else recipe.batch_size
    if getattr(method, "queue", 0) > len(real) // 2 and "queue" not in recipe.method_options:
        # A longer queue would hold each sample's own embeddings of the epoch before.
        method = replace(method, queue=max(2, len(real) // 2))  # type: ignore[type-var]
    own = default_backbone(real.shape) if method.backbone == "auto" else method.backbone
    backbone = own if recipe.backbone == "auto" else recipe.backbone
    with torch.device("meta"):  # raises for a name or an option that does not fit, before anything is written
        net = make_backbone(backbone, real.shape, recipe.width, recipe.backbone_options)
    if method.needs_tokens:
        _refuse_without_tokens(recipe, backbone, net)
    plan = recipe.views
    if plan == "auto":
        plan = VIEWS[preset.views]() if preset.views else method.views(real.shape)
    elif isinstance(plan, str):
        plan = VIEWS[plan]()
    assert not isinstance(plan, str)
    if recipe.view_count is not None:
        plan = replace(plan, groups=(replace(plan.groups[0], count=recipe.view_count), *plan.groups[1:]))
    if recipe.patches is not None:
        recipe = recipe.with_budget(steps=math.ceil(recipe.patches / (plan.count * batch)))
    if recipe.steps is None and recipe.minutes is None and recipe.flops is None:
        epochs = recipe.epochs if recipe.epochs is not None else 100.0
        recipe = recipe.with_budget(steps=math.ceil(epochs * len(real) / batch))
    if recipe.learning_rate is None and recipe.optimizer not in ("auto", preset.optimizer):
        raise InputError(
            f"optimizer {recipe.optimizer} without a learning rate",
            f"a rate for it: {recipe.method}'s preset {name} has one for {preset.optimizer}",
            "give --learning-rate too",
        )
    rate = preset.learning_rate * batch / PRESET_BATCH
    return replace(
        recipe,
        preset=name,
        backbone=backbone,
        backbone_options=dict(net.options),
        views=plan,
        view_count=None,
        batch_size=batch,
        method_options=asdict(method),  # type: ignore[call-overload]
        optimizer=preset.optimizer if recipe.optimizer == "auto" else recipe.optimizer,
        learning_rate=rate if recipe.learning_rate is None else recipe.learning_rate,
        weight_decay=preset.weight_decay if recipe.weight_decay is None else recipe.weight_decay,
        beta2=preset.beta2 if recipe.beta2 is None else recipe.beta2,
        warmup=preset.warmup if recipe.warmup is None else recipe.warmup,
        precision=pick_precision(recipe.precision, device, scaled(64, recipe.width)),
    )


def _refuse_without_tokens(recipe: Recipe, backbone: str, net: nn.Module) -> None:
    if not isinstance(net, ViT):
        raise InputError(f"{recipe.method} with {backbone}", "a backbone with tokens", "give --backbone vit_tiny")
    if recipe.view_chunk is not None:
        why = "all images of a batch encoded at once: their patches are drawn together"
        raise InputError(f"{recipe.method} with view_chunk {recipe.view_chunk}", why, "leave view_chunk out")


def build(recipe: Recipe, real: Source, generated: Source | None, device: torch.device) -> Stepper:
    """The stepper of a resolved recipe at step 0."""
    method = make_method(recipe.method, recipe.method_options)
    torch.manual_seed(seed_for(recipe.seed, "init"))
    mean, std = channel_statistics(real.samples)
    encoder = Encoder(EncoderConfig(recipe.backbone, recipe.width, real.shape, mean, std, recipe.backbone_options))
    parts = method.parts(encoder)
    for module in (encoder, parts):
        module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert not isinstance(recipe.views, str)  # resolve() has filled these in
    assert recipe.batch_size is not None
    assert recipe.learning_rate is not None
    assert recipe.weight_decay is not None
    assert recipe.warmup is not None
    assert recipe.beta2 is not None
    optimizer = make_optimizer(
        recipe.optimizer,
        [encoder, parts],
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.momentum,
        recipe.beta2,
    )
    rows = None if recipe.view_chunk is None else recipe.view_chunk * recipe.batch_size
    plain: nn.Module = encoder if rows is None else Chunked(encoder, rows)
    forward = plain
    if recipe.compile:
        compiled: nn.Module = torch.compile(encoder)  # type: ignore[assignment]
        forward = compiled if rows is None else Chunked(compiled, rows)
    mixture = Mixture(
        len(real),
        len(generated) if generated else 0,
        batch=recipe.batch_size,
        weight=recipe.weight,
        seed=recipe.seed,
        mixing=recipe.mixing,
    )
    return Stepper(
        method,
        encoder,
        parts,
        optimizer,
        recipe.views.at_strength(recipe.strength),
        mixture,
        on_device(real.samples, device),
        on_device(generated.samples, device) if generated else None,
        recipe.learning_rate,
        recipe.warmup,
        recipe.seed,
        recipe.precision,
        device,
        forward,
        plain,
    )


def steps_of(recipe: Recipe, real: Source, generated: Source | None, device: torch.device) -> int | None:
    """The steps of a run; of a budget of FLOPs by doing one step with nets of its own."""
    if recipe.flops is None:
        return recipe.steps
    return max(1, round(recipe.flops / build(recipe, real, generated, device).measured(0, 0.0)[1].flops))

"""From a recipe to what a step needs: the resolved recipe, and the stepper with its nets, optimiser and data."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from swell.data.ahead import Ahead
from swell.data.mixture import Mixture
from swell.data.packed import PackedImages, block_starts
from swell.data.partners import Neighbours, Partners
from swell.data.source import Source
from swell.errors import InputError
from swell.methods import find_method, make_method
from swell.methods.registry import Method, Preset
from swell.nets.backbones import make_backbone, scaled
from swell.nets.chunked import Chunked
from swell.nets.encoder import Encoder, EncoderConfig, channel_statistics, default_backbone
from swell.nets.vit import ViT
from swell.ranks import ALONE, Ranks
from swell.recipes import Recipe
from swell.seeding import seed_for
from swell.training.distributed import share_model
from swell.training.machine import pick_precision
from swell.training.optim import Schedule, make_optimizer
from swell.training.phases import generates, with_phases
from swell.training.step import Stepper, on_device
from swell.views.plan import VIEWS, ViewPlan

if TYPE_CHECKING:
    from swell.data.partners import Held

SMALL_SIDE = 64  # pixels, up to which a method's preset is the small one
PRESET_BATCH = 256  # what the learning rates of presets are for that scale with the batch
VECTOR_RATE = 1e-3  # of AdamW, at the preset's own batch: an adaptive rate does not grow with the batch
VECTOR_HEAD = 512  # units of a head's layers at most, as the MLP's: heads for images would be most of the work
VECTOR_PATCHES = 8  # views of a method that wants patches: of a vector these are views like any other
SPARSE = 0.2  # share of zeros in non-negative vectors from which they are taken for counts


def resolve(recipe: Recipe, real: Source, device: torch.device) -> Recipe:
    """Fill in what the recipe leaves to the method, the data and the machine, so that `recipe.toml` says it all.

    A budget of FLOPs stays: only a step can tell how many it takes.
    """
    name, preset = _preset(recipe, real)
    method = make_method(recipe.method, {**preset.options, **recipe.method_options})
    batch = preset.batch_size if recipe.batch_size is None else recipe.batch_size
    if not recipe.generator_positives and not recipe.positives:
        recipe = replace(recipe, generator_positives=method.generator_positives)
    if recipe.phases:
        recipe = with_phases(recipe)
    if getattr(method, "queue", 0) > len(real) // 2 and "queue" not in recipe.method_options:
        # A longer queue would hold each sample's own embeddings of the epoch before.
        method = replace(method, queue=max(2, len(real) // 2))  # type: ignore[type-var]
    own = default_backbone(real.shape) if method.backbone == "auto" else method.backbone
    backbone = own if recipe.backbone == "auto" else recipe.backbone
    if not real.is_images:
        _refuse_for_vectors(recipe, backbone, method)
    with torch.device("meta"):  # raises for a name or an option that does not fit, before anything is written
        net = make_backbone(backbone, real.shape, recipe.width, recipe.backbone_options)
    if method.needs_tokens:
        _refuse_without_tokens(recipe, backbone, net)
    plan = _plan(recipe, preset, method, real)
    if recipe.view_count is not None:
        plan = replace(plan, groups=(replace(plan.groups[0], count=recipe.view_count), *plan.groups[1:]))
    if recipe.positives or recipe.phases or generates(recipe):
        plan = plan.with_positives()
    elif recipe.replace != 1:
        raise InputError(f"replace {recipe.replace:g} without positives", "a source of them", "give --positives too")
    if recipe.patches is not None:
        recipe = recipe.with_budget(steps=math.ceil(recipe.patches / (plan.count * batch)))
    if recipe.steps is None and recipe.minutes is None and recipe.flops is None:
        epochs = recipe.epochs if recipe.epochs is not None else 100.0
        recipe = recipe.with_budget(steps=math.ceil(epochs * len(real) / batch))
    recipe = with_phases(recipe)
    if recipe.phases and recipe.horizon is not None:
        raise InputError(f"phases with a horizon of {recipe.horizon} steps", "one of the two", "leave the horizon out")
    if recipe.learning_rate is None and recipe.optimizer not in ("auto", preset.optimizer):
        raise InputError(
            f"optimizer {recipe.optimizer} without a learning rate",
            f"a rate for it: {recipe.method}'s preset {name} has one for {preset.optimizer}",
            "give --learning-rate too",
        )
    rate = preset.learning_rate * (batch / PRESET_BATCH if preset.scaled else 1.0)
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


def _preset(recipe: Recipe, real: Source) -> tuple[str, Preset]:
    """The name of the preset and what it says.

    The published rates are for images and for LARS and SGD with backbones of convolutions. An MLP on vectors of unit
    variance is trained by AdamW at 1e-3 whatever the method; what else a short training asks of the method (a teacher
    near its student, fewer prototypes, smaller batches) its preset for few steps says, and holds for vectors too. Its
    heads are no wider than the backbone.
    """
    name = recipe.preset
    if name == "auto":
        size = "small" if max(real.shape[1:], default=0) <= SMALL_SIDE else "large"
        name = size if real.is_images else "vectors"
    if (name == "vectors") == real.is_images:
        kind, want = ("images", "small, large or short") if real.is_images else ("vectors", "vectors")
        raise InputError(f"preset {name} for {kind}", want, "leave it at auto")
    presets = find_method(recipe.method).presets
    preset = presets.get(name)
    if preset is None and name == "vectors":
        short = presets.get("short") or Preset()
        options = {**asdict(make_method(recipe.method, {})), **short.options}  # type: ignore[call-overload]
        narrow = {key: min(options[key], VECTOR_HEAD) for key in ("hidden", "outputs") if key in options}
        rate = VECTOR_RATE * PRESET_BATCH / short.batch_size
        preset = Preset("adamw", rate, 1e-4, 0.05, {**short.options, **narrow}, batch_size=short.batch_size)
    return name, preset or presets.get("small") or Preset()


def _plan(recipe: Recipe, preset: Preset, method: Method, real: Source) -> ViewPlan:
    """The views at strength 1: the recipe's, else the preset's or the method's own; for vectors what suits the data."""
    plan = recipe.views
    if plan == "auto":
        if preset.views or real.is_images:
            plan = VIEWS[preset.views]() if preset.views else method.views(real.shape)
        else:
            plan = VIEWS[suited_views(real)]()
            if method.views(real.shape).groups[0].role == "patch":
                plan = ViewPlan((replace(plan.groups[0], count=VECTOR_PATCHES, role="patch"),))
    elif isinstance(plan, str):
        plan = VIEWS[plan]()
    assert not isinstance(plan, str)
    if plan.of_images != real.is_images:
        given, want = ("images", "vectors") if plan.of_images else ("vectors", "images")
        todo = "cells, table and neighbour_mix are views of vectors" if plan.of_images else "leave --views out"
        raise InputError(f"views of {given} for {want}", f"views of {want}", todo)
    return plan


def suited_views(real: Source) -> str:
    """The view preset for vectors nobody said more of: `cells` for counts, known as such by their preparation or by
    being sparse and never negative, where zero means that nothing was seen; else `table`, where zero is a value."""
    if real.preparation is not None and real.preparation.kind != "none":
        return "table" if real.preparation.kind == "table" else "cells"
    some = real.samples[np.linspace(0, len(real) - 1, min(len(real), 1000)).astype(int)]
    return "cells" if some.min() >= 0 and (some == 0).mean() >= SPARSE else "table"


def _refuse_for_vectors(recipe: Recipe, backbone: str, method: Method) -> None:
    if method.needs_tokens:
        raise InputError(f"{recipe.method} on vectors", "images, whose patches it masks", "give --method simclr")
    if backbone != "mlp":
        raise InputError(f"backbone {backbone} for vectors", "mlp", "leave --backbone out")


def _refuse_without_tokens(recipe: Recipe, backbone: str, net: nn.Module) -> None:
    if not isinstance(net, ViT):
        raise InputError(f"{recipe.method} with {backbone}", "a backbone with tokens", "give --backbone vit_tiny")
    if recipe.view_chunk is not None:
        why = "all images of a batch encoded at once: their patches are drawn together"
        raise InputError(f"{recipe.method} with view_chunk {recipe.view_chunk}", why, "leave view_chunk out")


def build(
    recipe: Recipe, real: Source, generated: Source | None, device: torch.device, ranks: Ranks = ALONE
) -> Stepper:
    """The stepper of a resolved recipe at step 0, for one of `ranks`."""
    method = make_method(recipe.method, recipe.method_options)
    torch.manual_seed(seed_for(recipe.seed, "init"))
    mean, std = channel_statistics(real.samples) if real.is_images else ((), ())
    encoder = Encoder(EncoderConfig(recipe.backbone, recipe.width, real.shape, mean, std, recipe.backbone_options))
    parts = method.parts(encoder)
    for module in (encoder, parts):
        module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    share_model(encoder, parts, recipe, ranks)
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
        {parts[name]: rate for name, rate in method.rates().items()},
    )
    rows = None if recipe.view_chunk is None else recipe.view_chunk * recipe.batch_size // ranks.count
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
        blocks=block_starts(real.samples, recipe.shuffle),
    )
    held, plan = on_device(real.samples, device), recipe.views.at_strength(recipe.strength)
    partners, neighbours = _partners(recipe, plan, real, held, device)
    stepper = Stepper(
        method,
        encoder,
        parts,
        optimizer,
        plan,
        mixture,
        held,
        on_device(generated.samples, device) if generated else None,
        recipe.learning_rate,
        Schedule(recipe.warmup, recipe.schedule, recipe.decay, recipe.horizon),
        recipe.seed,
        recipe.precision,
        device,
        forward,
        plain,
        partners,
        neighbours,
        recipe.replace,
        ranks,
    )
    if isinstance(real.samples, PackedImages):
        part = stepper.part
        stepper.ahead = Ahead(
            real.samples, lambda t: mixture(t).real[part], part.stop - part.start, real.samples.workers
        )
    return stepper


def _partners(
    recipe: Recipe, plan: ViewPlan, real: Source, held: Held, device: torch.device
) -> tuple[Partners | None, Partners | None]:
    """Where positives come from, and what views are mixed with."""
    near = Neighbours(real, device=device, held=held) if plan.mixes or recipe.positives == "neighbours" else None
    if recipe.positives in ("", "neighbours"):
        return (near if recipe.positives else None), near
    from swell.generators.positives import PositiveCache

    return PositiveCache.open(Path(recipe.positives), real), near


def steps_of(recipe: Recipe, real: Source, generated: Source | None, device: torch.device) -> int | None:
    """The steps of a run; of a budget of FLOPs by doing one step with nets of its own."""
    if recipe.flops is None:
        return recipe.steps
    with closing(build(recipe, real, generated, device)) as stepper:
        return max(1, round(recipe.flops / stepper.measured(0, 0.0)[1].flops))

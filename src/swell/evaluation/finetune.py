"""Fine-tuning as an evaluation: train a copy of the encoder on few or all labels, beside the same from scratch.

    found = evaluate_finetune(encoder, train, test, fraction=0.1)
    found["accuracy"], found["from_scratch"]["accuracy"]

The accuracy alone says nothing about the pre-training: with enough labels a random initialisation gets there too, so
the control is part of the result. All settings are fixed beforehand and the same for every arm, the weights of the last
step count, and the test split is read once, at the end: it chooses nothing.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from swell.console import Progress
from swell.data.mixture import Stream
from swell.data.partners import take
from swell.data.source import Source
from swell.errors import InputError, suggest
from swell.evaluation.evaluate import same_classes
from swell.evaluation.features import accuracy, as_labels, balanced_accuracy
from swell.evaluation.intervals import mean_interval
from swell.ledger import counted_flops
from swell.nets.backbones import scaled
from swell.nets.depth import rate_scales
from swell.nets.encoder import Encoder
from swell.nets.vit import ViT
from swell.seeding import generator_for, seed_for
from swell.training.allocator import memory_reused
from swell.training.machine import memory_told, pick_precision
from swell.training.optim import is_decayed, warmup_cosine
from swell.training.step import on_device
from swell.training.watchdog import Diverged
from swell.views.plan import Group, VectorGroup, ViewGroup, ViewPlan
from swell.views.render import render

if TYPE_CHECKING:
    from swell.data.partners import Held
    from swell.data.sparse import SparseRows

EPOCHS, LEAST_STEPS = 20, 500  # the budget unless told otherwise: so many epochs, but at least so many steps
LEAST_AREA = 0.35  # of the image that a training crop keeps
MASKED = 0.1  # share of a vector's features that a training view lacks
BATCH = 512  # samples encoded at once when the test split is scored
PRECISIONS = ("auto", "fp32", "bf16")
LOOK_EVERY = 20  # steps between looks at the loss, which a GPU has to be waited for


class Classifier(nn.Module):
    """Images [B, C, H, W] in [0, 1] or vectors [B, D] -> logits [B, classes]: the encoder, a norm, a linear layer.

    The norm is a batch norm without scale and shift, so that one rate suits the head whatever the mean and scale of an
    encoder's features, as in MAE's linear probe (He et al. 2022): arms shall differ by what their features say, not by
    how long the head takes to find it. The linear layer starts at zero, because a random one would push the encoder
    about before it knows anything.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm1d(encoder.features, affine=False)
        self.head = nn.Linear(encoder.features, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        features = self.encoder(x).float()  # [B, F]
        with torch.autocast(x.device.type, enabled=False):
            return self.head(self.norm(features))


def labelled_rows(labels: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Rows of a share in (0, 1] of every class, at least one row of each, ascending.

    Depends on the labels and the seed only; the rows of a smaller fraction are among those of a larger one.
    """
    taken = []
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        order = torch.randperm(len(rows), generator=generator_for(seed, "finetune", "labels", label)).numpy()
        taken.append(rows[order[: max(1, math.floor(fraction * len(rows) + 0.5))]])
    return np.sort(np.concatenate(taken))


def light_views(plan: ViewPlan | None) -> ViewPlan:
    """One view: a crop of at least `LEAST_AREA` of the image; mirrored as often as `plan` mirrors, colours as they are.

    Without a plan nothing is mirrored: whether a mirrored sample is the same sample only the user's plan says. Of a
    vector `MASKED` of the features are 0.
    """
    if plan is not None and not plan.of_images:
        return ViewPlan((VectorGroup(mask=MASKED),))
    like = plan.image_groups[0] if plan is not None else ViewGroup(flip=0.0)
    view = ViewGroup(scale=(LEAST_AREA, 1.0), flip=like.flip, interpolation=like.interpolation,
                     jitter_p=0.0, grey_p=0.0, blur_p=0.0)  # fmt: skip
    return ViewPlan((view,))


def parameter_groups(net: Classifier, rate: float, layer_decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW, one for every rate and decay: layer l of L learns with rate * layer_decay^(L - l).

    What is decayed is what pre-training decays, see `swell.training.optim.is_decayed`.
    """
    scales = rate_scales(net.encoder.backbone, layer_decay)
    members = [(scales[name], name, p) for name, p in net.encoder.backbone.named_parameters()]
    members += [(1.0, name, p) for name, p in net.head.named_parameters()]
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for scale, name, p in members:
        groups.setdefault((scale, is_decayed(name, p)), []).append(p)
    return [
        {"params": params, "lr": rate * scale, "full_rate": rate * scale, "weight_decay": weight_decay * decayed}
        for (scale, decayed), params in groups.items()
    ]


@dataclass(frozen=True)
class Settings:
    """How to fine-tune; the same for every arm of a comparison.

    Attributes:
        fraction: share of the labelled train samples, see `labelled_rows`.
        epochs, steps: the budget, one of them; by default 20 epochs of the chosen samples, but at least 500 steps.
        learning_rate: of the head and for that batch size. It rises linearly over `warmup`, a share of the budget, then
            falls to zero along a cosine.
        layer_decay: factor on it from each layer to the one below, see `swell.nets.depth`. From scratch there is
            nothing below worth keeping, so that all layers then learn at the full rate.
        drop_path: share of residual branches dropped in the last block of a ViT, less in earlier ones.
        batch_size: samples a step; no more than there are.
        precision: fp32, bf16 or auto, of the training; the test split is scored in fp32.

    Raises:
        InputError: a value out of range, or two budgets.
    """

    fraction: float = 1.0
    epochs: float | None = None
    steps: int | None = None
    learning_rate: float = 1e-3
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    drop_path: float = 0.0
    batch_size: int = 128
    warmup: float = 0.1
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("fraction", 1e-9, 1.0),
            ("steps", 1, 10**9),
            ("epochs", 1e-9, 10**6),
            ("seed", 0, 2**63 - 1),
            ("learning_rate", 1e-12, 1e6),
            ("layer_decay", 1e-3, 1.0),
            ("weight_decay", 0.0, 1e6),
            ("label_smoothing", 0.0, 0.99),
            ("drop_path", 0.0, 0.9),
            ("batch_size", 2, 10**7),
            ("warmup", 0.0, 0.999),
        ):
            value = getattr(self, name)
            if value is None and name in ("steps", "epochs"):
                continue
            whole = name in ("steps", "seed", "batch_size")
            right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not right or not low <= value <= high:
                want = f"a {'whole ' * whole}number from {low:g} to {high:g}"
                raise InputError(f"{name} {value!r} of fine-tuning", want)
        if self.steps is not None and self.epochs is not None:
            raise InputError("epochs and steps of fine-tuning", "one of them")
        if self.precision not in PRECISIONS:
            given = f"precision {self.precision!r}"
            raise InputError(given, f"one of {', '.join(PRECISIONS)}", suggest(self.precision, PRECISIONS))


def finetune(
    encoder: Encoder,
    train: Source,
    test: Source,
    *,
    plan: ViewPlan | None = None,
    scratch: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """The first of what `judge_finetune` returns; arguments as there."""
    return judge_finetune(encoder, train, test, plan=plan, scratch=scratch, quiet=quiet, **settings)[0]


def judge_finetune(
    encoder: Encoder,
    train: Source,
    test: Source,
    *,
    plan: ViewPlan | None = None,
    scratch: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> tuple[dict[str, Any], np.ndarray]:
    """Train a copy of `encoder` with a linear head on labelled samples by AdamW, and score it on `test`.

    The given encoder stays as it is, and so does torch's own randomness. On one CPU with one number of threads a seed
    gives one result, whatever was drawn before.

    Args:
        plan: the views of the pre-training, of which only mirroring and interpolation are taken over; see
            `light_views`.
        scratch: start from a random initialisation of the same net instead.
        settings: fields of `Settings`: fraction=0.1, epochs=30, seed=1 ...

    Returns:
        A dict ready for JSON: "accuracy" and "balanced_accuracy" on test (rows of a class that train lacks count as
        wrong) with the "interval" of the former over test samples, "n_labels", the "epochs" and "steps" done, and what
        it cost, with the scoring: "seconds", "forwards" (samples through the encoder) and "flops". Beside it whether
        each test sample was named correctly, float32 [m].

    Raises:
        InputError: samples without labels or of another shape than the encoder's, a single class, a setting out of
            range.
        Diverged: a loss that is not finite.
    """
    given = Settings(**settings)
    classes, y, test_y = _labels(encoder, train, test)
    rows = labelled_rows(y, given.fraction, given.seed)
    device, n = encoder.mean.device, len(rows)
    batch = min(given.batch_size, n)
    steps = given.steps or _steps(given.epochs, n, batch)
    used = replace(
        given,
        layer_decay=1.0 if scratch else given.layer_decay,
        batch_size=batch,
        precision=pick_precision(given.precision, device, scaled(64, encoder.config.width)),
    )
    views = light_views(ViewPlan((VectorGroup(),)) if encoder.takes_vectors else plan)
    begun = time.perf_counter()
    with (
        memory_told(f"fine-tuning with batches of {batch}"),
        memory_reused(),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
    ):
        net = Classifier(_start(encoder, used, scratch), classes)
        net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        flops = _train(
            net, on_device(train.subset(rows).samples, device), torch.from_numpy(y[rows]), views, steps, used, quiet
        )
        predicted, scoring = _predict(net, test.samples)
    truth = torch.from_numpy(test_y)
    right = (predicted == truth).numpy()
    result = {
        "accuracy": accuracy(predicted, truth),
        "balanced_accuracy": balanced_accuracy(predicted, truth),
        "interval": mean_interval(right),
        "scratch": scratch,
        "fraction": used.fraction,
        "n_labels": n,
        "n_test": len(test),
        "epochs": steps * batch / n,
        "steps": steps,
        "seconds": time.perf_counter() - begun,
        "forwards": steps * batch + len(test),
        "flops": flops + scoring,
        "settings": {
            **{k: v for k, v in asdict(used).items() if k not in ("fraction", "epochs", "steps")},
            "optimizer": "adamw",
            **_told(views.groups[0]),
        },
    }
    return result, right.astype(np.float32)


def _told(view: Group) -> dict[str, Any]:
    return {"mask": view.mask} if isinstance(view, VectorGroup) else {"scale": list(view.scale), "flip": view.flip}


def evaluate_finetune(encoder: Encoder, train: Source, test: Source, **settings: Any) -> dict[str, Any]:
    """`finetune`, and under "from_scratch" the same from a random initialisation. Arguments as there."""
    return {
        **finetune(encoder, train, test, **settings),
        "from_scratch": finetune(encoder, train, test, scratch=True, **settings),
    }


def _steps(epochs: float | None, n: int, batch: int) -> int:
    if epochs is None:
        return max(LEAST_STEPS, math.ceil(EPOCHS * n / batch))
    return math.ceil(epochs * n / batch)


def _labels(encoder: Encoder, train: Source, test: Source) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of classes in train, and the labels of both splits numbered so that those of train come first."""
    found = []
    for name, source in (("train", train), ("test", test)):
        if source.labels is None:
            raise InputError(f"{name} samples without labels", "labelled samples", "open them with labels=True")
        if not len(source):
            raise InputError(f"0 {name} samples", "at least one")
        if source.shape != tuple(encoder.config.shape):
            want = f"samples of shape {list(encoder.config.shape)}"
            raise InputError(f"{name} samples of shape {list(source.shape)}", want, "open them with the run's size")
        found.append(as_labels(source.labels, len(source), name))
    same_classes(train, test)
    known = np.unique(found[0])
    if len(known) < 2:
        raise InputError(f"train labels that are all {known[0]}", "at least two classes", "choose another label")
    classes = np.concatenate([known, np.setdiff1d(found[1], known)])
    order = classes.argsort()
    y, z = (order[np.searchsorted(classes, labels, sorter=order)] for labels in found)
    return len(known), y, z


def _start(encoder: Encoder, settings: Settings, scratch: bool) -> Encoder:
    """What fine-tuning starts from: a net with the encoder's weights, or with random ones."""
    config = encoder.config
    if isinstance(encoder.backbone, ViT):
        config = replace(config, options={**config.options, "drop_path": settings.drop_path})
    elif settings.drop_path:
        raise InputError(f"drop_path {settings.drop_path:g} for {config.backbone}", "a ViT", "leave it out")
    torch.manual_seed(seed_for(settings.seed, "finetune", "init"))
    net = Encoder(config)
    if not scratch:
        net.load_state_dict(encoder.state_dict())
    return net


def _train(
    net: Classifier, samples: Held, labels: Tensor, views: ViewPlan, steps: int, settings: Settings, quiet: bool
) -> float:
    """Train on samples [N, ...] and labels [N]; returns the FLOPs, of which those of one step are counted."""
    batch, seed = settings.batch_size, settings.seed
    groups = parameter_groups(net, settings.learning_rate, settings.layer_decay, settings.weight_decay)
    optimizer = AdamW(groups, betas=(0.9, 0.999))
    device = net.head.weight.device
    labels = labels.to(device)
    order = Stream(len(samples), batch, seed, "finetune")
    net.train()

    def step(t: int) -> Tensor:
        torch.manual_seed(seed_for(seed, "finetune", "step", t))  # for what the net draws: dropped paths
        factor = warmup_cosine((t + 0.5) / steps, settings.warmup)  # at the middle of the step, so that none has rate 0
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * factor
        rows = order.draws(t * batch, (t + 1) * batch, t)
        picked = take(samples, rows).to(device)
        (x,) = render(views, picked, generator_for(seed, "finetune", "views", t))
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = net(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x)
        loss = F.cross_entropy(logits, labels[rows.to(device)], label_smoothing=settings.label_smoothing)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    with counted_flops() as flops:
        loss = step(0)
    with Progress("fine-tune", steps, "steps", per_unit=batch, rate_unit="samples", quiet=quiet) as bar:
        for t in range(1, steps):
            loss = step(t)
            if t % LOOK_EVERY == 0 or t == steps - 1:
                bar.update(t + 1, f"loss {_finite(loss, t):.3f}")
    _finite(loss, steps - 1)
    return flops[0] * steps


def _finite(loss: Tensor, t: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise Diverged(f"fine-tuning, step {t}: the loss is {value}. Lower the learning rate or use precision fp32.")
    return value


@torch.no_grad()
def _predict(net: Classifier, samples: np.ndarray | SparseRows) -> tuple[Tensor, float]:
    """Classes [N] of whole clean samples, and the FLOPs of that."""
    net.eval()
    found, total = [], 0.0
    for start in range(0, len(samples), BATCH):
        x = net.encoder.as_input(samples[start : start + BATCH])
        with counted_flops() as flops:
            found.append(net(x).argmax(1).cpu())
        total += flops[0]
    return torch.cat(found), total

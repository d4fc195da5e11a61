"""An arm of the race: a method of solo-learn, trained by Lightning's Trainer as solo-learn's own script does.

Runs in an environment of its own (environments.py) with solo-learn 1.0.2, the newest there is on PyPI. It pins torch
1.9.1 and Lightning 1.4.7; here it runs beside the torch of all other arms and Lightning 2, which takes what `adapted`
does and nothing else. What is solo-learn's: network, method, online classifier, LARS, views, index-giving data set,
loader. What differs from its CIFAR scripts: the stem pads by 1 instead of 2, so that the net does the same work as
ours (with 2 it sees 34 x 34 and works more); no logger, checkpoints, progress bar and validation; SwAV without queue and
frozen prototypes, which its first epochs have; after `--minutes` a cosine over these instead of over 1000 epochs.
"""

from __future__ import annotations

import math
import os
import sys
import types
import warnings
from contextlib import suppress
from typing import Any

from pace import Finished, Pace
from setting import METHODS, Setting, arguments

OWN: dict[str, dict[str, Any]] = {  # of each method, beside the heads all arms share
    "simclr": {},
    "byol": {"base_tau_momentum": 0.99, "final_tau_momentum": 1.0, "momentum_classifier": False},
    "barlow_twins": {"lamb": 0.0051, "scale_loss": 0.1},
    "swav": {
        "sk_iters": 3,
        "sk_epsilon": 0.05,
        "temperature": 0.1,
        "queue_size": 0,
        "epoch_queue_starts": 0,
        "freeze_prototypes_epochs": 0,
    },
}


def stand_in_for_bolts() -> None:
    """lightning-bolts, of which solo-learn takes one schedule that is not used here, does not import beside Lightning 2."""
    names = ("pl_bolts", "pl_bolts.optimizers", "pl_bolts.optimizers.lr_scheduler")
    modules = {name: types.ModuleType(name) for name in names}
    modules[names[-1]].LinearWarmupCosineAnnealingLR = None  # type: ignore[attr-defined]
    sys.modules.update(modules)


def adapted(method: type) -> type:
    """The method's class as Lightning 2 takes it: without the hook it no longer calls, which it refuses to see, and
    without the argument it no longer passes. And LARS that scales the gradients of this step: solo-learn's runs were in
    float16, for which Lightning computed them before the step; for all else the step computes them itself.
    """
    import torch
    from solo.methods.base import BaseMethod, BaseMomentumMethod
    from solo.utils.lars import LARSWrapper

    scaled = LARSWrapper.step

    def step(self: Any, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        scaled(self)
        return loss

    LARSWrapper.step = step

    for base in (BaseMethod, BaseMomentumMethod):
        with suppress(AttributeError):
            del base.validation_epoch_end

    def end(self: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super(adapted_method, self).on_train_batch_end(outputs, batch, batch_idx, 0)

    body = {"on_train_batch_end": end} if issubclass(method, BaseMomentumMethod) else {}
    adapted_method = type(method.__name__, (method,), body)
    return adapted_method


def views(setting: Setting) -> Any:
    from solo.utils.pretrain_dataloader import prepare_n_crop_transform, prepare_transform

    colour = vars(setting.colour)
    kinds = [
        prepare_transform("cifar10", **colour, gaussian_prob=0.0, solarization_prob=p, crop_size=32)
        for p in setting.solarise
    ]
    return prepare_n_crop_transform(kinds, [1, 1])


def make(name: str, setting: Setting, batch: int) -> Any:
    """The method with its published CIFAR-10 settings and the heads of the race."""
    from solo import methods
    from torch import nn

    heads = dict(setting.heads)
    own = {"proj_hidden_dim": heads.pop("hidden"), "proj_output_dim": heads.pop("outputs"), **OWN[name]}
    if name == "byol":
        own["pred_hidden_dim"] = own["proj_hidden_dim"]
    if name == "swav":
        own["num_prototypes"] = heads.pop("prototypes")
    kinds = {
        "simclr": methods.SimCLR,
        "byol": methods.BYOL,
        "barlow_twins": methods.BarlowTwins,
        "swav": methods.SwAV,
    }
    model = adapted(kinds[name])(
        encoder="resnet18",
        num_classes=10,
        backbone_args={"cifar": True, "zero_init_residual": False},
        max_epochs=1000,
        batch_size=batch,
        optimizer="sgd",
        lars=True,
        lr=setting.rate["solo"] * batch / 256,
        weight_decay=1e-5,
        classifier_lr=0.1,
        exclude_bias_n_norm=True,
        accumulate_grad_batches=1,
        extra_optimizer_args={"momentum": 0.9},
        scheduler="none",
        min_lr=0.0,
        warmup_start_lr=0.0,
        warmup_epochs=0,
        num_large_crops=2,
        num_small_crops=0,
        eta_lars=0.02,
        grad_clip_lars=True,
        **own,
        **heads,
    )
    for network in (model.encoder, getattr(model, "momentum_encoder", None)):
        if isinstance(network, nn.Module):
            network.conv1.padding = (1, 1)
    return model


def main() -> None:
    pace, args = Pace(), arguments(str(__doc__))
    pace.at_one_go(args.minutes)
    cores = os.sched_getaffinity(0)
    if args.bound:
        os.environ["OMP_PROC_BIND"] = "true"
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    import numpy as np
    import torch
    from PIL import Image
    from vision import close, declare_vision_operators, worker_on_all_cores

    vision = declare_vision_operators()  # noqa: F841  (kept alive)
    stand_in_for_bolts()
    import pytorch_lightning as pl
    from solo.utils.pretrain_dataloader import dataset_with_index, prepare_dataloader

    setting = METHODS[args.method]
    pl.seed_everything(args.seed)

    class Images(torch.utils.data.Dataset[Any]):
        """What torchvision.datasets.CIFAR10 does for one sample: a picture from the array, then the transform."""

        def __init__(self) -> None:
            self.data = np.ascontiguousarray(np.load(args.images).transpose(0, 2, 3, 1))
            self.transform = views(setting)

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return self.transform(Image.fromarray(self.data[index])), 0

    class Paced(pl.Callback):
        """Ends each step at the race's gate, and lowers the rate over the minutes."""

        def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if args.minutes:
                for group, rate in zip(trainer.optimizers[0].param_groups, rates, strict=True):
                    group["lr"] = rate * (1 + math.cos(math.pi * pace.progress)) / 2
            pace.step(args.batch, loss=float(outputs["loss"]))

        def on_train_start(self, trainer: Any, model: Any) -> None:
            rates.extend(group["lr"] for group in trainer.optimizers[0].param_groups)

    rates: list[float] = []
    model = make(args.method, setting, args.batch)
    if args.bf16:
        model = model.to(memory_format=torch.channels_last)

        def on_layout(batch: Any, index: int) -> Any:
            rows, crops, labels = batch
            return rows, [x.contiguous(memory_format=torch.channels_last) for x in crops], labels

        model.on_after_batch_transfer = on_layout
    if args.compile:
        model.encoder.compile()
    loader = prepare_dataloader(dataset_with_index(Images)(), batch_size=args.batch, num_workers=args.workers)
    if args.bound:
        loader.worker_init_fn = worker_on_all_cores(cores)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1000,
        precision="bf16-mixed" if args.bf16 else "32-true",
        callbacks=[Paced()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    with suppress(Finished):
        trainer.fit(model, loader)
    close(pace, model.encoder, args)


if __name__ == "__main__":
    main()

"""An arm of the race: a method put together with lightly, the way its examples do.

Runs in lightly's own environment (environments.py). What is lightly's or torchvision's: the residual network, heads,
losses, views, momentum update and the sample-by-sample DataLoader. What differs from the examples: the stem is 3x3
without max-pooling, so that the net does the same work as ours; the images come from an array, as
torchvision.datasets.CIFAR10 holds them; 0 or 2 workers instead of 8, on two cores; views and heads are those of
setting.py; the switches there.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pace import Finished, Pace
from setting import LIGHTLY_RATE, MEAN, METHODS, STD, Setting, arguments

TAU = (0.996, 1.0)  # of BYOL's teacher, as in the example


def views(method: str, setting: Setting) -> Any:
    """lightly's transform of the method with the views of the race."""
    from lightly import transforms
    from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform

    colour = setting.colour
    common: dict[str, Any] = {
        "cj_prob": 0.8,
        "cj_strength": 1.0,
        "cj_bright": colour.brightness,
        "cj_contrast": colour.contrast,
        "cj_sat": colour.saturation,
        "cj_hue": colour.hue,
        "random_gray_scale": 0.2,
        "gaussian_blur": 0.0,
        "normalize": {"mean": list(MEAN), "std": list(STD)},
    }
    if method == "simclr":
        return transforms.SimCLRTransform(input_size=32, min_scale=0.08, **common)
    if method == "swav":
        crops = {"crop_sizes": (32,), "crop_counts": (2,), "crop_min_scales": (0.08,), "crop_max_scales": (1.0,)}
        return transforms.SwaVTransform(**crops, **common)
    return transforms.BYOLTransform(
        BYOLView1Transform(input_size=32, solarization_prob=setting.solarise[0], **common),
        BYOLView2Transform(input_size=32, solarization_prob=setting.solarise[1], **common),
    )


def objective(method: str, setting: Setting, model: Any, pace: Pace) -> tuple[list[Any], Callable[[Any, Any], Any]]:
    """The heads, whose parameters are trained beside the network's, and the loss of two views [B, 3, 32, 32]."""
    import torch
    from lightly import loss
    from lightly.models import modules
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.utils.scheduler import cosine_schedule

    heads = setting.heads
    if method == "simclr":
        head = modules.SimCLRProjectionHead(512, heads["hidden"], heads["outputs"])
        nt_xent = loss.NTXentLoss(heads["temperature"])
        return [head], lambda x0, x1: nt_xent(head(model(x0)), head(model(x1)))
    if method == "barlow_twins":
        head = modules.BarlowTwinsProjectionHead(512, heads["hidden"], heads["outputs"])
        twins = loss.BarlowTwinsLoss()
        return [head], lambda x0, x1: twins(head(model(x0)), head(model(x1)))
    if method == "swav":
        head = modules.SwaVProjectionHead(512, heads["hidden"], heads["outputs"])
        prototypes = modules.SwaVPrototypes(heads["outputs"], heads["prototypes"])
        swapped = loss.SwaVLoss()

        def swav(x0: Any, x1: Any) -> Any:
            prototypes.normalize()
            scores = [prototypes(torch.nn.functional.normalize(head(model(x)), dim=1)) for x in (x0, x1)]
            return swapped(scores, [])

        return [head, prototypes], swav
    projector = modules.BYOLProjectionHead(512, heads["hidden"], heads["outputs"])
    predictor = modules.BYOLPredictionHead(heads["outputs"], heads["hidden"], heads["outputs"])
    slow_model, slow_projector = copy.deepcopy(model), copy.deepcopy(projector)
    for slow in (slow_model, slow_projector):
        deactivate_requires_grad(slow)
    cosine = loss.NegativeCosineSimilarity()

    def byol(x0: Any, x1: Any) -> Any:
        tau = cosine_schedule(int(1000 * pace.progress), 1000, *TAU)
        update_momentum(model, slow_model, m=tau)
        update_momentum(projector, slow_projector, m=tau)
        p0, p1 = (predictor(projector(model(x))) for x in (x0, x1))
        with torch.no_grad():
            z0, z1 = (slow_projector(slow_model(x)) for x in (x0, x1))
        return 0.5 * (cosine(p0, z1) + cosine(p1, z0))

    return [projector, predictor], byol


def main() -> None:
    pace, args = Pace(), arguments(str(__doc__))
    pace.at_one_go(args.minutes)
    cores = os.sched_getaffinity(0)
    if args.bound:
        os.environ["OMP_PROC_BIND"] = "true"
    import numpy as np
    import torch
    from PIL import Image
    from torch import nn
    from vision import close, declare_vision_operators, half, worker_on_all_cores

    vision = declare_vision_operators()  # noqa: F841  (kept alive)
    import torchvision
    from lightly.utils.scheduler import cosine_schedule

    setting = METHODS[args.method]
    torch.manual_seed(args.seed)

    class Images(torch.utils.data.Dataset[Any]):
        """What torchvision.datasets.CIFAR10 does for one sample: a picture from the array, then the transform."""

        def __init__(self) -> None:
            self.data = np.ascontiguousarray(np.load(args.images).transpose(0, 2, 3, 1))
            self.transform = views(args.method, setting)

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return self.transform(Image.fromarray(self.data[index])), 0

    layout = torch.channels_last if args.bf16 else torch.contiguous_format
    model = torchvision.models.resnet18()
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    model.fc = nn.Identity()
    model = model.to(memory_format=layout)
    heads, loss_of = objective(args.method, setting, model, pace)
    if args.compile:
        model.compile()
    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size=args.batch,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        worker_init_fn=worker_on_all_cores(cores) if args.bound else None,
    )
    trained = [p for module in (model, *heads) for p in module.parameters() if p.requires_grad]
    rate = LIGHTLY_RATE * args.batch / 256
    optimizer = torch.optim.SGD(trained, lr=rate, momentum=0.9, weight_decay=5e-4)
    with suppress(Finished):
        while True:
            for (x0, x1), _ in loader:
                x0, x1 = x0.contiguous(memory_format=layout), x1.contiguous(memory_format=layout)
                with half(args.bf16):
                    loss = loss_of(x0, x1)
                loss.backward()
                if args.minutes:
                    optimizer.param_groups[0]["lr"] = cosine_schedule(int(1000 * pace.progress), 1001, rate, 0.0)
                optimizer.step()
                optimizer.zero_grad()
                pace.step(args.batch, loss=loss.item())
    close(pace, model, args)


if __name__ == "__main__":
    main()

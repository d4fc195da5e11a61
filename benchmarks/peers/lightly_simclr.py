"""One arm of the race: SimCLR with lightly, put together the way its documentation does.

Runs in lightly's own environment (see race.py). What is lightly's or torchvision's: the residual network, projection
head, loss, views and the sample-by-sample DataLoader. What differs from the documented CIFAR-10 example: the stem is
3x3 without max-pooling, so that the network does the same work as ours; the images come from an array, as
torchvision.datasets.CIFAR10 holds them; 0 or 2 workers instead of 8, on two cores; and the switches below.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from pace import Finished, Pace

BATCH = 256


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="uint8 images [N, 3, 32, 32] in a .npy file")
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers (default 0)")
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast and channels_last; without it fp32, NCHW")
    parser.add_argument(
        "--bound", action="store_true", help="bind OpenMP's threads to their cores; workers use all cores"
    )
    return parser.parse_args()


def declare_vision_operators() -> Any:
    """The schemas torchvision's Python side expects; its binary, which brings them, does not load beside a CPU torch.

    Returns:
        The library; the schemas live as long as it does.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def main() -> None:
    pace, args = Pace(), arguments()
    cores = os.sched_getaffinity(0)
    if args.bound:
        os.environ["OMP_PROC_BIND"] = "true"
    import numpy as np
    import torch
    from PIL import Image
    from torch import nn

    vision = declare_vision_operators()  # noqa: F841  (kept alive)
    import torchvision
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    class Images(torch.utils.data.Dataset[Any]):
        """What torchvision.datasets.CIFAR10 does for one sample: a picture from the array, then the transform."""

        def __init__(self) -> None:
            self.data = np.ascontiguousarray(np.load(args.images).transpose(0, 2, 3, 1))
            self.transform = SimCLRTransform(input_size=32, gaussian_blur=0.0)

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return self.transform(Image.fromarray(self.data[index])), 0

    class SimCLR(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            network = torchvision.models.resnet18()
            network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
            network.fc = nn.Identity()
            self.backbone, self.head = network, SimCLRProjectionHead(512, 512, 128)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.backbone(x))

    def free_worker(_: int) -> None:
        os.sched_setaffinity(0, cores)  # a forked worker inherits the one core the bound main thread has

    layout = torch.channels_last if args.bf16 else torch.contiguous_format
    model = SimCLR().to(memory_format=layout)
    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=args.workers,
        worker_init_fn=free_worker if args.bound else None,
    )
    criterion = NTXentLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    try:
        while True:
            for (x0, x1), _ in loader:
                x0, x1 = x0.contiguous(memory_format=layout), x1.contiguous(memory_format=layout)
                with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                    loss = criterion(model(x0), model(x1))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                pace.step(BATCH, loss=loss.item())
    except Finished:
        pass


if __name__ == "__main__":
    main()

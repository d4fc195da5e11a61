"""What the arms built on torchvision share. Needs torch and numpy; torchvision only after `declare_vision_operators`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from pace import Pace
from setting import MEAN, STD
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def declare_vision_operators() -> Any:
    """The schemas torchvision's Python side expects; its binary, which brings them, does not load beside a CPU torch.

    Returns:
        The library; the schemas live as long as it does.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def worker_on_all_cores(cores: set[int]) -> Callable[[int], None]:
    """For `worker_init_fn`: a forked worker inherits the one core the bound main thread has."""

    def free(_: int) -> None:
        os.sched_setaffinity(0, cores)

    return free


def half(wanted: bool) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16, enabled=wanted)


def close(pace: Pace, encoder: nn.Module, args: argparse.Namespace) -> None:
    """The last report: size and work of the net, so that the race can check that all nets are the same one; before
    it, after minutes at one go, the features of the images and of `args.test`.

    Features are of whole images in evaluation mode, in bfloat16 with channels_last whatever the arm trained in.
    """
    encoder = getattr(encoder, "_orig_mod", encoder).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(torch.zeros(1, 3, 32, 32))
    if args.out:
        parts = {name: features(encoder, np.load(path)) for name, path in (("train", args.images), ("test", args.test))}
        np.savez(args.out, **parts)
    parameters = sum(p.numel() for p in encoder.parameters())
    pace.report(parameters=parameters, forward_flops=counter.get_total_flops())


@torch.no_grad()
def features(encoder: nn.Module, images: np.ndarray) -> np.ndarray:
    """uint8 images [N, 3, 32, 32] -> float32 [N, D]."""
    encoder = encoder.to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    found = []
    for rows in np.array_split(images, max(1, len(images) // 500)):
        x = (torch.from_numpy(np.ascontiguousarray(rows)) / 255.0 - mean) / std
        with half(True):
            found.append(encoder(x.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(found).numpy()

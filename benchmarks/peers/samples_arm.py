"""An arm of the race for generated images: ten evaluations of a U-Net for CIFAR-sized images, 128 at a time.

`--tool swell` is `Diffusion.sample` of a network that was trained for one step by `--train` and is read from its file,
beside the images; `--tool diffusers` is its DDIMPipeline over a UNet2DModel of nearly equal work, untrained, which costs
the same. Both report the FLOPs of one evaluation.
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path

from pace import Finished, Pace

BATCH, EVALUATIONS = 128, 10


def trained(args: argparse.Namespace) -> Path:
    return Path(args.images).with_suffix(f".{'bf16' if args.bf16 else 'fp32'}.safetensors")


def train(args: argparse.Namespace) -> None:
    import numpy as np

    from swell.generators.diffusion import Diffusion

    samples = np.load(args.images, mmap_mode="r")[:512]
    model = Diffusion(network="unet", width=32, depth=1, batch=8, precision="bf16" if args.bf16 else "auto")
    model.fit(np.asarray(samples), seed=0, steps=1, quiet=True).save(trained(args))


def ours(pace: Pace, args: argparse.Namespace) -> None:
    from swell.threads import bind_threads

    bind_threads()
    from swell.generators.diffusion import Diffusion

    model = Diffusion.load(trained(args))
    first = 0
    with suppress(Finished):
        while True:
            model.sample(BATCH, seed=0, first=first)
            first += BATCH
            pace.step(BATCH)
    cost = model.sampling_cost
    pace.report(forward_flops=cost.flops / cost.forwards)


def theirs(pace: Pace, args: argparse.Namespace) -> None:
    if args.bound:
        os.environ["OMP_PROC_BIND"] = "true"
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
    from torch.utils.flop_counter import FlopCounterMode

    network = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=64 if args.bf16 else 8,
    )
    network.eval()
    if args.bf16:
        network = network.to(memory_format=torch.channels_last)
    pipeline = DDIMPipeline(network, DDIMScheduler(num_train_timesteps=1000))
    pipeline.set_progress_bar_config(disable=True)
    with suppress(Finished):
        while True:
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                pipeline(batch_size=BATCH, num_inference_steps=EVALUATIONS, output_type="np")
            pace.step(BATCH)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32), 1)
    pace.report(forward_flops=counter.get_total_flops())


if __name__ == "__main__":
    gate = Pace()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="uint8 images [N, 3, 32, 32] in a .npy file")
    parser.add_argument("--tool", choices=("swell", "diffusers"), required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--bound", action="store_true")
    parser.add_argument("--train", action="store_true", help="only write the network that --tool swell samples from")
    given = parser.parse_args()
    if given.train:
        train(given)
    else:
        (ours if given.tool == "swell" else theirs)(gate, given)

"""A diffusion model trained from scratch on the user's samples.

On two cores: an MLP, on the pixels of small images or on half-whitened principal components of larger ones.
With a GPU: a small U-Net on 2x2 patches. What the network predicts is an objective (objectives.py), how its
denoiser becomes samples is a sampler (samplers.py); any goes with any. Sampling takes about ten evaluations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from swell.console import Progress
from swell.errors import InputError
from swell.generators.base import Rows
from swell.generators.codec import Codec
from swell.generators.denoising import Denoising, Fit, Samples, set_aside
from swell.generators.fitting import Budget, Decay
from swell.generators.networks import NetworkName
from swell.generators.registry import GENERATORS
from swell.ledger import Cost, counted_flops, timed
from swell.seeding import generator_for, seed_for

CHECKPOINT_SECONDS = 60.0
NOISE_BLOCK = 32  # on a CPU, starting noise is drawn for this many consecutive samples at once


@GENERATORS.register(
    "diffusion", "EDM from scratch: MLP on two cores, U-Net on a GPU", "Karras et al. 2022 (arXiv 2206.00364)"
)
class Diffusion(Denoising):
    """Options: the objective (`edm`, `ddpm`, `stf`, `flow`), the network (`width` features, `depth` blocks; None is
    what suits, here as for `batch` and `lr`), the optimiser, the sampler and its number of network `evaluations`.

    `noise_candidates` > 1 pairs every sample with the nearest of so many noises; `reference` is the size of STF's
    reference batch; `flip` mirrors half of the training images left to right, for pictures where that is harmless.
    On a GPU the network runs in bfloat16, channels last, compiled (`precision`, `compile`).
    """

    name = "diffusion"

    def __init__(
        self,
        *,
        objective: str = "edm",
        network: NetworkName = "auto",
        width: int | None = None,
        depth: int | None = None,
        components: int = 256,
        dropout: float = 0.05,
        batch: int | None = None,
        lr: float | None = None,
        weight_decay: float = 0.01,
        decay: Decay = "cosine",
        noise_candidates: int = 1,
        reference: int = 1024,
        flip: bool = False,
        sampler: str = "ipndm",
        evaluations: int = 10,
        sigma_min: float = 0.01,
        sigma_max: float = 40.0,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        compile: bool | None = None,
        device: str = "auto",
    ) -> None:
        options: dict[str, Any] = {
            "objective": objective,
            "network": network,
            "width": width,
            "depth": depth,
            "components": components,
            "dropout": dropout,
            "batch": batch,
            "lr": lr,
            "weight_decay": weight_decay,
            "decay": decay,
            "noise_candidates": noise_candidates,
            "reference": reference,
            "flip": flip,
            "sampler": sampler,
            "evaluations": evaluations,
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
            "precision": precision,
        }
        super().__init__(options, device, compile)

    # ---- training ------------------------------------------------------------------------------------

    def fit(
        self,
        samples: Samples,
        *,
        held_out: np.ndarray | None = None,
        seed: int = 0,
        steps: int | None = None,
        seconds: float | None = None,
        checkpoint: Path | None = None,
        quiet: bool = False,
    ) -> Self:
        """Train for `steps` or `seconds`, whichever ends first, or until the denoising loss on `held_out` has
        stopped falling; the weights kept are the running average where it was lowest. An existing `checkpoint` is
        gone on from. Raises InputError for data nothing can be learnt from, or without a budget.
        """
        budget = Budget(steps, seconds)
        samples, held_out = set_aside(samples, held_out, seed)
        identity = str((self.options, seed, steps, seconds, samples.shape))
        self._fit(samples, held_out, Fit(seed, budget, checkpoint, CHECKPOINT_SECONDS, quiet, identity))
        return self

    # ---- sampling ------------------------------------------------------------------------------------

    @property
    def chunk(self) -> int:
        """How many samples the network always works on at once: a sample's last bit may depend on the size
        of its batch and on its place there, so both are fixed by its index.
        """
        if self.device.type == "cuda":
            return 4096 if self._ready().codec.flat else 1024
        return 256 if self._ready().codec.flat else 4 * NOISE_BLOCK

    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        """Samples first .. first + count - 1 of the sequence that `seed` names, in the dtype and shape of
        the data.

        Sample i depends on the seed and i alone, to the last bit on one kind of machine: any count, split
        and order of calls agree.
        """
        if count < 1 or first < 0:
            raise InputError(f"{count} samples from number {first}", "at least one sample, numbered from 0", "")
        fitted, chunk, o = self._ready(), self.chunk, self.options
        dtype = np.uint8 if fitted.codec.is_images else np.float32
        made = np.empty((count, *fitted.codec.shape), dtype)
        starts = range(first - first % chunk, first + count, chunk)
        network = torch.compile(fitted.network) if self._compile else fitted.network
        denoise = self._denoiser(self._call(network))
        with (
            timed(self.sampling_cost),
            torch.inference_mode(),
            Progress("samples", count, "samples", quiet=quiet) as bar,
        ):
            with counted_flops() as box:
                plain = self._denoiser(self._call(fitted.network))
                plain(torch.zeros(1, *fitted.codec.size, device=self.device), 1.0)
            for start in starts:

                def noise(step: int, start: int = start) -> Tensor:
                    return self._noise(fitted.codec, seed, start, chunk, step)

                x = o["sigma_max"] * noise(-1)
                x = self._integrate(denoise, x, o["evaluations"], o["sigma_min"], o["sigma_max"], noise)
                low, high = max(first, start), min(first + count, start + chunk)
                made[low - first : high - first] = fitted.codec.decode(x * fitted.unit)[low - start : high - start]
                bar.update(high - first)
        passes = len(starts) * chunk * o["evaluations"]
        self.sampling_cost.add(Cost(flops=box[0] * passes, samples_generated=count, forwards=passes))
        return made

    def _noise(self, codec: Codec, seed: int, start: int, count: int, step: int) -> Tensor:
        """Standard normal noise of samples start .. start + count - 1 for a stochastic sampler's `step`, or to start
        with (-1): [count, ...].
        """
        address = () if step < 0 else (step,)
        if self.device.type == "cuda":
            rng = torch.Generator(self.device).manual_seed(seed_for(seed, "sample", start, *address))
            return torch.randn(count, *codec.size, generator=rng, device=self.device)
        blocks = range(start // NOISE_BLOCK, (start + count) // NOISE_BLOCK)
        return torch.cat(
            [
                torch.randn(NOISE_BLOCK, *codec.size, generator=generator_for(seed, "sample", b, *address))
                for b in blocks
            ]
        )

    # ---- positives -----------------------------------------------------------------------------------

    def positives(
        self, samples: np.ndarray, strength: float, seed: int, *, rows: Rows = None, number: int = 0
    ) -> np.ndarray:
        """Samples like the given ones: noised as far as `strength` says, and denoised. See `Generator.positives`."""
        denoise = self._denoiser(self._call(self._ready().network))
        return self._renoised(samples, lambda _: denoise, strength, seed, rows, number)

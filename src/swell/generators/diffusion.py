"""A diffusion model trained from scratch on the user's samples (Karras et al. 2022, arXiv 2206.00364).

On two cores: an MLP, on the pixels of small images or on half-whitened principal components of larger ones.
With a GPU: a small U-Net on 2x2 patches. Sampling takes about ten network evaluations.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn

from swell.console import Progress
from swell.errors import InputError, suggest
from swell.generators.codec import Codec
from swell.generators.edm import EDM, HeldOutLoss, Network
from swell.generators.networks import ResidualMLP, UNet
from swell.generators.registry import (
    GENERATORS,
    check_fit_samples,
    read_generator_file,
    split_held_out,
    write_generator_file,
)
from swell.generators.samplers import SAMPLERS
from swell.ledger import Cost, counted_flops, timed
from swell.seeding import generator_for, seed_for

NetworkName = Literal["auto", "mlp", "pca_mlp", "unet"]

NOISE_BLOCK = 32  # starting noise is drawn for this many consecutive samples at once
CHECKS = 20  # looks at the held-out loss over the whole budget
LARGEST_RAW_VECTOR = 256  # longer ones go through a PCA before the MLP


@dataclass(frozen=True)
class _Fitted:
    codec: Codec
    edm: EDM
    network: nn.Module


@GENERATORS.register(
    "diffusion", "EDM from scratch: MLP on two cores, U-Net on a GPU", "Karras et al. 2022 (arXiv 2206.00364)"
)
class Diffusion:
    """Options: the network (`width` features, `depth` blocks; None is what suits it), the optimiser, the
    sampler and its number of network `evaluations`, the device (`auto` takes a GPU where there is one).
    """

    def __init__(
        self,
        *,
        network: NetworkName = "auto",
        width: int | None = None,
        depth: int | None = None,
        components: int = 256,
        dropout: float = 0.05,
        batch: int = 256,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        sampler: str = "ipndm",
        evaluations: int = 10,
        sigma_min: float = 0.01,
        sigma_max: float = 40.0,
        device: str = "auto",
    ) -> None:
        if network not in get_args(NetworkName):
            raise InputError(f"network {network!r}", "a known network", suggest(network, get_args(NetworkName)))
        if evaluations < 1:
            raise InputError(f"{evaluations} network evaluations a sample", "at least 1", "10 is usual")
        self.options: dict[str, Any] = {
            "network": network,
            "width": width,
            "depth": depth,
            "components": components,
            "dropout": dropout,
            "batch": batch,
            "lr": lr,
            "weight_decay": weight_decay,
            "sampler": sampler,
            "evaluations": evaluations,
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
        }
        self.network, self.width, self.depth, self.components, self.dropout = (
            network,
            width,
            depth,
            components,
            dropout,
        )
        self.batch, self.lr, self.weight_decay = batch, lr, weight_decay
        self.evaluations, self.sigma_min, self.sigma_max = evaluations, sigma_min, sigma_max
        self.sampler, self._integrate = sampler, SAMPLERS[sampler]
        has_gpu = torch.cuda.is_available()
        self.device = torch.device(("cuda" if has_gpu else "cpu") if device == "auto" else device)
        self.cost, self.sampling_cost = Cost(), Cost()
        self.history: list[dict[str, float]] = []
        self._fitted: _Fitted | None = None

    # ---- training ------------------------------------------------------------------------------------

    def fit(
        self,
        samples: np.ndarray,
        *,
        held_out: np.ndarray | None = None,
        seed: int = 0,
        steps: int | None = None,
        seconds: float | None = None,
        quiet: bool = False,
    ) -> Self:
        """Train for `steps` or `seconds`, whichever ends first; the weights kept are the running average at
        the point where the denoising loss on `held_out` was lowest. Raises InputError for data nothing can
        be learnt from, or without a budget.
        """
        check_fit_samples(samples)
        budgets = [budget for budget in (steps, seconds) if budget is not None]
        if not budgets or not min(budgets) > 0:
            raise InputError(
                f"a budget of {steps} steps and {seconds} seconds", "a positive one", "give steps or seconds"
            )
        if held_out is None:
            kept, aside = split_held_out(len(samples), seed)
            samples, held_out = samples[kept], samples[aside]
        with timed(self.cost):
            fitted = self._fitted = self._fresh(samples, seed)
            self._train(fitted, samples, held_out, seed, steps or 10**9, seconds or math.inf, quiet)
        return self

    def network_for(self, shape: tuple[int, ...]) -> NetworkName:
        """The network that samples of `shape` get: the user's choice, or ours where that is `auto`."""
        if self.network == "unet" and len(shape) != 3:
            raise InputError("network unet for vectors", "network mlp or pca_mlp", "leave it at auto")
        if self.network != "auto":
            return self.network
        if (
            len(shape) == 3
            and min(shape[1:]) >= 16
            and self.device.type == "cuda"
            and not (shape[1] % 2 or shape[2] % 2)
        ):
            return "unet"
        return "mlp" if math.prod(shape) <= LARGEST_RAW_VECTOR else "pca_mlp"

    def _fresh(self, samples: np.ndarray, seed: int) -> _Fitted:
        name = self.network_for(samples.shape[1:])
        components = min(self.components, max(len(samples) // 4, 8)) if name == "pca_mlp" else 0
        codec = Codec.fit(samples, flat=name != "unet", components=components)
        some = codec.shown(codec.stored(samples[:: math.ceil(len(samples) / 10_000)]))
        with torch.random.fork_rng(
            devices=[]
        ):  # initialisation draws from torch's global generator: leave it as it was
            torch.manual_seed(seed_for(seed, "generator", "weights"))
            return _Fitted(codec, EDM(float(some.std())), self._network(codec))

    def _network(self, codec: Codec) -> nn.Module:
        if codec.flat:
            return ResidualMLP(codec.size[0], self.width or 256, self.depth or 4, self.dropout).to(self.device)
        return UNet(codec.shape, self.width or 128, self.depth or 2, self.dropout).to(self.device)

    def _train(
        self,
        fitted: _Fitted,
        samples: np.ndarray,
        held_out: np.ndarray,
        seed: int,
        steps: int,
        seconds: float,
        quiet: bool,
    ) -> None:
        network, averaged = fitted.network.train(), copy.deepcopy(fitted.network).eval()
        data, batch = fitted.codec.stored(samples).to(self.device), min(self.batch, len(samples))
        held_out_loss = HeldOutLoss(fitted.edm, fitted.codec.shown(fitted.codec.stored(held_out)), seed, self.device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        best, lowest, flops, loss, begun = (
            averaged.state_dict(),
            math.inf,
            0.0,
            torch.tensor(math.nan),
            time.monotonic(),
        )
        total, unit = (steps, "steps") if math.isinf(seconds) else (seconds, "s")
        with Progress("generator", total, unit, quiet=quiet) as bar, torch.random.fork_rng():
            for step in itertools.count():
                spent = time.monotonic() - begun
                share = max(step / steps, spent / seconds)  # of the budget
                if share * CHECKS >= len(self.history):
                    held = held_out_loss(averaged)
                    self.history.append(
                        {"step": step, "seconds": spent, "train_loss": float(loss), "held_out_loss": held}
                    )
                    if held < lowest:
                        lowest, best = held, copy.deepcopy(averaged.state_dict())
                    bar.update(min(share, 1) * total, f"held-out loss {held:.3f}")
                if share >= 1:
                    break
                optimiser.param_groups[0]["lr"] = (
                    self.lr * min((step + 1) / 100, 1) * (1 + math.cos(math.pi * share)) / 2
                )
                if step == 0:
                    with counted_flops() as box:
                        loss = self._step(fitted, data, batch, optimiser, seed, step)
                    flops = box[0]
                else:
                    loss = self._step(fitted, data, batch, optimiser, seed, step)
                half_life = (step + 1) * min(
                    0.1, 0.05 / max(share, 1e-9)
                )  # 5 % of the budget, shorter at the beginning
                with torch.no_grad():
                    for a, p in zip(averaged.parameters(), network.parameters(), strict=True):
                        a.lerp_(p, 1 - 0.5 ** (1 / half_life))
                self.cost.add(Cost(flops=flops, samples_real=batch, forwards=batch))
        network.load_state_dict(best)
        network.eval()

    def _step(
        self,
        fitted: _Fitted,
        data: Tensor,
        batch: int,
        optimiser: torch.optim.Optimizer,
        seed: int,
        step: int,
    ) -> Tensor:
        torch.manual_seed(seed_for(seed, "generator", step))  # rules dropout too
        y = fitted.codec.shown(data[torch.randint(len(data), (batch,), device=self.device)])
        sigma = fitted.edm.sigma_of(torch.randn(batch, device=self.device))
        loss = fitted.edm.loss(self._call(fitted.network), y, sigma, torch.randn_like(y))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(fitted.network.parameters(), 1.0)
        optimiser.step()
        return loss.detach()

    def _call(self, network: nn.Module) -> Network:
        """The network in bfloat16 on a GPU, its output in float32; noise levels, preconditioning and loss
        stay in float32.
        """

        def call(x: Tensor, c_noise: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                return network(x, c_noise).float()

        return call

    # ---- sampling ------------------------------------------------------------------------------------

    @property
    def chunk(self) -> int:
        """How many samples the network always works on at once: a sample's last bit may depend on the size
        of its batch and on its place there, so both are fixed by its index.
        """
        on_cpu = self.device.type == "cpu"
        return 256 if self._ready().codec.flat or not on_cpu else NOISE_BLOCK

    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        """Samples first .. first + count - 1 of the sequence that `seed` names, in the dtype and shape of
        the data.

        Sample i depends on the seed and i alone, to the last bit on one kind of machine: any count, split
        and order of calls agree.
        """
        if count < 1 or first < 0:
            raise InputError(f"{count} samples from number {first}", "at least one sample, numbered from 0", "")
        fitted, chunk = self._ready(), self.chunk
        dtype = np.uint8 if fitted.codec.is_images else np.float32
        made = np.empty((count, *fitted.codec.shape), dtype)
        starts = range(first - first % chunk, first + count, chunk)
        unit = 2 * fitted.edm.sigma_data  # of all noise levels, see EDM

        def denoise(x: Tensor, sigma: float) -> Tensor:
            return fitted.edm.denoise(self._call(fitted.network), x, torch.full((len(x),), sigma, device=x.device))

        with (
            timed(self.sampling_cost),
            torch.inference_mode(),
            Progress("samples", count, "samples", quiet=quiet) as bar,
        ):
            with counted_flops() as box:
                denoise(torch.zeros(1, *fitted.codec.size, device=self.device), unit)
            for start in starts:
                noise = unit * self.sigma_max * self._noise(fitted.codec, seed, start, chunk)
                x = self._integrate(denoise, noise, self.evaluations, unit * self.sigma_min, unit * self.sigma_max)
                low, high = max(first, start), min(first + count, start + chunk)
                made[low - first : high - first] = fitted.codec.decode(x)[low - start : high - start]
                bar.update(high - first)
        passes = len(starts) * chunk * self.evaluations
        self.sampling_cost.add(Cost(flops=box[0] * passes, samples_generated=count, forwards=passes))
        return made

    def _noise(self, codec: Codec, seed: int, start: int, count: int) -> Tensor:
        """Standard normal noise of samples start .. start + count - 1, multiples of NOISE_BLOCK: [count,
        ...].
        """
        blocks = range(start // NOISE_BLOCK, (start + count) // NOISE_BLOCK)
        parts = [
            torch.randn(NOISE_BLOCK, *codec.size, generator=generator_for(seed, "sample", block)) for block in blocks
        ]
        return torch.cat(parts).to(self.device)

    def sampler_settings(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler,
            "evaluations": self.evaluations,
            "sigma_min": self.sigma_min,
            "sigma_max": self.sigma_max,
            "unit": 2 * self._ready().edm.sigma_data,
            "rho": 7,
        }

    # ---- files ---------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        fitted = self._ready()
        tensors = {f"network.{name}": tensor for name, tensor in fitted.network.state_dict().items()}
        tensors |= {f"codec.{name}": tensor for name, tensor in fitted.codec.to_tensors().items()}
        meta = {
            "generator": "diffusion",
            "version": 1,
            "options": self.options,
            "shape": fitted.codec.shape,
            "flat": fitted.codec.flat,
            "sigma_data": fitted.edm.sigma_data,
        }
        write_generator_file(path, tensors, meta)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        tensors, meta = read_generator_file(path)
        try:
            self = cls(**meta["options"])
            codec = {name.removeprefix("codec."): t for name, t in tensors.items() if name.startswith("codec.")}
            fitted_codec = Codec.from_tensors(codec, tuple(meta["shape"]), meta["flat"])
            network = self._network(fitted_codec).eval()
            network.load_state_dict(
                {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
            )
            self._fitted = _Fitted(fitted_codec, EDM(meta["sigma_data"]), network)
        except (KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{path} ({error})", "a diffusion generator of this version of swell", "make it again"
            ) from None
        return self

    def _ready(self) -> _Fitted:
        if self._fitted is None:
            raise InputError("a generator that has not been trained", "a call of fit or load first", "")
        return self._fitted

"""A diffusion model trained from scratch on the user's samples.

On two cores: an MLP, on the pixels of small images or on half-whitened principal components of larger ones.
With a GPU: a small U-Net on 2x2 patches. What the network predicts is an objective (objectives.py), how its
denoiser becomes samples is a sampler (samplers.py); any goes with any. Sampling takes about ten evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn

from swell.console import Progress
from swell.devices import pick_device
from swell.errors import InputError, suggest
from swell.generators.codec import Codec
from swell.generators.fitting import Budget, Decay, Training, run_training
from swell.generators.networks import U_NETS, NetworkName, ResidualMLP, UNet, suited_network
from swell.generators.objectives import (
    OBJECTIVES,
    SIGMA_DATA,
    HeldOutLoss,
    Network,
    nearest_noise,
)
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

CHECKPOINT_SECONDS = 60.0
NOISE_BLOCK = 32  # on a CPU, starting noise is drawn for this many consecutive samples at once


@dataclass(frozen=True)
class _Fitted:
    codec: Codec
    unit: float  # the network sees what the codec shows, divided by this
    network: nn.Module


@GENERATORS.register(
    "diffusion", "EDM from scratch: MLP on two cores, U-Net on a GPU", "Karras et al. 2022 (arXiv 2206.00364)"
)
class Diffusion:
    """Options: the objective (`edm`, `ddpm`, `stf`, `flow`), the network (`width` features, `depth` blocks; None is
    what suits, here as for `batch` and `lr`), the optimiser, the sampler and its number of network `evaluations`.

    `noise_candidates` > 1 pairs every sample with the nearest of so many noises; `reference` is the size of STF's
    reference batch; `flip` mirrors half of the training images left to right, for pictures where that is harmless.
    On a GPU the network runs in bfloat16, channels last, compiled (`precision`, `compile`).
    """

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
        for name, value, known in (
            ("network", network, get_args(NetworkName)),
            ("decay", decay, get_args(Decay)),
            ("precision", precision, ("auto", "fp32", "bf16")),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r}", f"a known {name}", suggest(value, known))
        for name, number in (
            ("evaluations", evaluations),
            ("noise_candidates", noise_candidates),
            ("batch", batch or 1),
        ):
            if number < 1:
                raise InputError(f"{name} {number}", "at least 1", f"leave --{name.replace('_', '-')} out")
        self.options: dict[str, Any] = {
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
        self.objective = OBJECTIVES[objective]()
        self._integrate = SAMPLERS[sampler]
        self.device = pick_device(device)
        on_gpu = self.device.type == "cuda"
        self._dtype = torch.bfloat16 if precision == "bf16" or (precision == "auto" and on_gpu) else torch.float32
        self._compile = on_gpu if compile is None else compile
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
        checkpoint: Path | None = None,
        quiet: bool = False,
    ) -> Self:
        """Train for `steps` or `seconds`, whichever ends first, or until the denoising loss on `held_out` has
        stopped falling; the weights kept are the running average where it was lowest. An existing `checkpoint` is
        gone on from. Raises InputError for data nothing can be learnt from, or without a budget.
        """
        check_fit_samples(samples)
        budget = Budget(steps, seconds)
        if held_out is None:
            kept, aside = split_held_out(len(samples), seed)
            samples, held_out = samples[kept], samples[aside]
        with timed(self.cost):
            fitted = self._fitted = self._fresh(samples, seed)
            data = fitted.codec.stored(samples).to(self.device)
            aside_shown = fitted.codec.shown(fitted.codec.stored(held_out)).to(self.device) / fitted.unit
            held_out_loss = HeldOutLoss(self.objective, aside_shown, seed)
            suited_batch, suited_lr = self._suited_optimiser(samples.shape[1:])
            batch = min(self.options["batch"] or suited_batch, len(samples))
            training = self._training(fitted.network, self.options["lr"] or suited_lr)
            run_training(
                training,
                self._stepper(fitted, data, training, batch, seed),
                lambda averaged: self.look(averaged, held_out_loss),
                budget,
                cost=self.cost,
                history=self.history,
                samples_a_step=batch,
                checkpoint=checkpoint,
                checkpoint_seconds=CHECKPOINT_SECONDS,
                identity=str((self.options, seed, steps, seconds, samples.shape)),
                quiet=quiet,
            )
        return self

    def look(self, averaged: nn.Module, held_out_loss: HeldOutLoss) -> dict[str, float]:
        """What a row of the history says of the averaged network; its "held_out_loss" decides."""
        return held_out_loss(self._call(averaged))

    def _training(self, network: nn.Module, lr: float) -> Training:
        o, fused = self.options, self.device.type == "cuda"
        optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=o["weight_decay"], fused=fused)
        return Training(network, [optimiser], decay=o["decay"])

    def _suited_optimiser(self, shape: tuple[int, ...]) -> tuple[int, float]:
        """Batch and learning rate where the user names none."""
        if self.network_for(shape).endswith("mlp"):
            return 256, 2e-3
        return (512, 1e-3) if self.device.type == "cuda" else (128, 3e-3)

    def _stepper(
        self, fitted: _Fitted, data: Tensor, training: Training, batch: int, seed: int
    ) -> Callable[[int], Tensor]:
        """The function of one step; its first call runs uncompiled, so that its FLOPs can be counted."""
        o, device = self.options, self.device
        plain = self._call(fitted.network)
        networks = iter([plain])
        quick = self._call(torch.compile(fitted.network)) if self._compile else plain
        wanted = max(o["reference"], batch) if o["objective"] == "stf" else batch

        def step(t: int) -> Tensor:
            torch.manual_seed(seed_for(seed, "generator", t))  # rules dropout too
            shown = fitted.codec.shown(data[torch.randint(len(data), (wanted,), device=device)])
            reference = shown / fitted.unit  # [R, ...], the batch first
            if o["flip"]:
                mirrored = torch.rand(wanted, device=device) < 0.5
                reference = torch.where(mirrored.view(-1, 1, 1, 1), reference.flip(-1), reference)
            y = reference[:batch]
            sigma = self.objective.sigma_of(torch.randn(batch, device=device))
            if o["noise_candidates"] > 1:
                n = nearest_noise(y, torch.randn(o["noise_candidates"], *y.shape, device=device))
            else:
                n = torch.randn_like(y)
            loss = self.objective.loss(next(networks, quick), y, sigma, n, reference)
            (optimiser,) = training.optimisers
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(fitted.network.parameters(), 1.0)
            optimiser.step()
            return loss.detach()

        return step

    def network_for(self, shape: tuple[int, ...]) -> NetworkName:
        """The network that samples of `shape` get: the user's choice, or ours where that is `auto`."""
        name: NetworkName = self.options["network"]
        if name in U_NETS and len(shape) != 3:
            raise InputError(f"network {name} for vectors", "network mlp or pca_mlp", "leave it at auto")
        if name == "auto":
            name = suited_network(shape, self.device.type == "cuda")
        if self.options["flip"] and name not in U_NETS:
            raise InputError(f"flip with network {name}", f"one of {', '.join(U_NETS)}", "leave flip out")
        return name

    def _fresh(self, samples: np.ndarray, seed: int) -> _Fitted:
        name = self.network_for(samples.shape[1:])
        components = min(self.options["components"], max(len(samples) // 4, 8)) if name == "pca_mlp" else 0
        codec = Codec.fit(samples, flat=name not in U_NETS, components=components)
        some = codec.shown(codec.stored(samples[:: math.ceil(len(samples) / 10_000)]))
        with torch.random.fork_rng(
            devices=[]
        ):  # initialisation draws from torch's global generator: leave it as it was
            torch.manual_seed(seed_for(seed, "generator", "weights"))
            return _Fitted(codec, float(some.std()) / SIGMA_DATA, self._network(name, codec))

    def _network(self, name: NetworkName, codec: Codec) -> nn.Module:
        o = self.options
        if name not in U_NETS:
            return ResidualMLP(codec.size[0], o["width"] or 256, o["depth"] or 4, o["dropout"]).to(self.device)
        patch, features, depth = U_NETS[name]
        net = UNet(codec.shape, o["width"] or features, o["depth"] or depth, o["dropout"], patch).to(self.device)
        return net.to(memory_format=torch.channels_last) if self.device.type == "cuda" else net  # type: ignore[call-overload]

    def _call(self, network: Callable[[Tensor, Tensor], Tensor]) -> Network:
        """The network in its precision, its output in float32; noise levels, preconditioning and loss stay in
        float32.
        """

        def call(x: Tensor, c_noise: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._dtype != torch.float32):
                return network(x, c_noise).float()

        return call

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
        plain = self._call(fitted.network)
        quick = self._call(torch.compile(fitted.network)) if self._compile else plain

        def denoise(x: Tensor, sigma: float, network: Network = quick) -> Tensor:
            return self.objective.denoise(network, x, torch.full((len(x),), sigma, device=x.device))

        with (
            timed(self.sampling_cost),
            torch.inference_mode(),
            Progress("samples", count, "samples", quiet=quiet) as bar,
        ):
            with counted_flops() as box:
                denoise(torch.zeros(1, *fitted.codec.size, device=self.device), 1.0, plain)
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

    @property
    def parameters(self) -> int:
        """Trained numbers of the network."""
        return sum(p.numel() for p in self._ready().network.parameters())

    def sampler_settings(self) -> dict[str, Any]:
        names = ("objective", "sampler", "evaluations", "sigma_min", "sigma_max")
        return {name: self.options[name] for name in names} | {"unit": self._ready().unit, "device": self.device.type}

    # ---- files ---------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        fitted = self._ready()
        tensors = {f"network.{name}": tensor for name, tensor in fitted.network.state_dict().items()}
        tensors |= {f"codec.{name}": tensor for name, tensor in fitted.codec.to_tensors().items()}
        meta = {
            "generator": "diffusion",
            "version": 2,
            "options": self.options,
            "network": self.network_for(fitted.codec.shape),
            "shape": fitted.codec.shape,
            "flat": fitted.codec.flat,
            "unit": fitted.unit,
        }
        write_generator_file(path, tensors, meta)

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        tensors, meta = read_generator_file(path)
        try:
            self = cls(**meta["options"], device=device)
            codec = {name.removeprefix("codec."): t for name, t in tensors.items() if name.startswith("codec.")}
            fitted_codec = Codec.from_tensors(codec, tuple(meta["shape"]), meta["flat"])
            with torch.random.fork_rng(devices=[]):  # a fresh network draws its weights, to be replaced
                network = self._network(meta["network"], fitted_codec).eval()
            network.load_state_dict(
                {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
            )
            self._fitted = _Fitted(fitted_codec, meta["unit"], network)
        except (KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{path} ({error})", "a diffusion generator of this version of swell", "make it again"
            ) from None
        return self

    def _ready(self) -> _Fitted:
        if self._fitted is None:
            raise InputError("a generator that has not been trained", "a call of fit or load first", "")
        return self._fitted

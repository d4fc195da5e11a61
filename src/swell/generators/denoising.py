"""What diffusion models share, whether they are told a code or not: network, training, renoising, files.

What the network predicts is an objective (objectives.py), how its denoiser becomes samples is a sampler (samplers.py);
any goes with any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn

from swell.data.sparse import ROWS_AT_ONCE, SparseRows
from swell.devices import pick_device
from swell.errors import InputError, suggest
from swell.generators.base import BLOCK, Rows, checked_rows, rotation
from swell.generators.codec import MOST_ROWS_FOR_PCA, Codec
from swell.generators.fitting import Budget, Decay, Training, run_training
from swell.generators.networks import U_NETS, NetworkName, ResidualMLP, UNet, suited_network
from swell.generators.noise import Draws
from swell.generators.objectives import OBJECTIVES, SIGMA_DATA, HeldOutLoss, Network, nearest_noise
from swell.generators.registry import (
    UNFIT,
    check_fit_samples,
    read_generator_file,
    split_held_out,
    write_generator_file,
)
from swell.generators.samplers import SAMPLERS, Denoiser
from swell.ledger import Cost, counted_flops, timed
from swell.seeding import seed_for

Samples = np.ndarray | SparseRows


@dataclass(frozen=True)
class Fitted:
    codec: Codec
    unit: float  # the network sees what the codec shows, divided by this
    network: nn.Module


@dataclass(frozen=True)
class Fit:
    """One call of `fit`. Codes [N, F] are as the network is told them, on the device; None where it is told none."""

    seed: int
    budget: Budget
    checkpoint: Path | None
    checkpoint_seconds: float
    quiet: bool
    identity: str
    codes: Tensor | None = None
    held_out_codes: Tensor | None = None
    start: Fitted | None = None  # a fitted network to go on from, with its codec


class Denoising:
    """Options, network, training and renoising of a diffusion model; `Diffusion` says what the options mean."""

    name: ClassVar[str]

    def __init__(self, options: dict[str, Any], device: str, compile: bool | None) -> None:
        for name, known in (
            ("network", get_args(NetworkName)),
            ("decay", get_args(Decay)),
            ("precision", ("auto", "fp32", "bf16")),
        ):
            if options[name] not in known:
                raise InputError(f"{name} {options[name]!r}", f"a known {name}", suggest(options[name], known))
        for name in ("evaluations", "noise_candidates", "batch"):
            if options.get(name) is not None and options[name] < 1:
                raise InputError(f"{name} {options[name]}", "at least 1", f"leave --{name.replace('_', '-')} out")
        self.options = options
        self.objective = OBJECTIVES[options["objective"]]()
        self._integrate = SAMPLERS[options["sampler"]]
        self.device = pick_device(device)
        on_gpu, precision = self.device.type == "cuda", options["precision"]
        self._dtype = torch.bfloat16 if precision == "bf16" or (precision == "auto" and on_gpu) else torch.float32
        self._compile = on_gpu if compile is None else compile
        self.cost, self.sampling_cost = Cost(), Cost()
        self.history: list[dict[str, float]] = []
        self._fitted: Fitted | None = None
        self._code_size = 0  # of the codes the network is told; 0 where it is told none

    # ---- training ------------------------------------------------------------------------------------

    def _fit(self, samples: Samples, held_out: np.ndarray, how: Fit) -> None:
        with timed(self.cost):
            fitted = self._fitted = how.start or self._fresh(samples, how.seed)
            data = _stored(fitted.codec, samples).to(self.device)
            aside_shown = fitted.codec.shown(fitted.codec.stored(held_out)).to(self.device) / fitted.unit
            held_out_loss = HeldOutLoss(self.objective, aside_shown, how.seed, codes=how.held_out_codes)
            suited_batch, suited_lr = self._suited_optimiser(samples.shape[1:])
            batch = min(self.options["batch"] or suited_batch, len(samples))
            training = self._training(fitted.network, self.options["lr"] or suited_lr)
            run_training(
                training,
                self._stepper(fitted, data, training, batch, how),
                lambda averaged: self.look(averaged, held_out_loss),
                how.budget,
                cost=self.cost,
                history=self.history,
                samples_a_step=batch,
                checkpoint=how.checkpoint,
                checkpoint_seconds=how.checkpoint_seconds,
                identity=how.identity,
                quiet=how.quiet,
            )

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
        self, fitted: Fitted, data: Tensor, training: Training, batch: int, how: Fit
    ) -> Callable[[int], Tensor]:
        """The function of one step; its first call runs uncompiled, so that its FLOPs can be counted."""
        o, device = self.options, self.device
        networks = iter([fitted.network])
        quick = torch.compile(fitted.network) if self._compile else fitted.network
        wanted = max(o["reference"], batch) if o["objective"] == "stf" else batch

        def step(t: int) -> Tensor:
            torch.manual_seed(seed_for(how.seed, "generator", t))  # rules dropout too
            rows = torch.randint(len(data), (wanted,), device=device)
            reference = fitted.codec.shown(data[rows]) / fitted.unit  # [R, ...], the batch first
            if o.get("flip"):
                mirrored = torch.rand(wanted, device=device) < 0.5
                reference = torch.where(mirrored.view(-1, 1, 1, 1), reference.flip(-1), reference)
            y = reference[:batch]
            sigma = self.objective.sigma_of(torch.randn(batch, device=device))
            if o.get("noise_candidates", 1) > 1:
                n = nearest_noise(y, torch.randn(o["noise_candidates"], *y.shape, device=device))
            else:
                n = torch.randn_like(y)
            told = () if how.codes is None else (how.codes[rows[:batch]], self._kept(batch, how.seed, t))
            loss = self.objective.loss(self._call(next(networks, quick), *told), y, sigma, n, reference)
            (optimiser,) = training.optimisers
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(fitted.network.parameters(), 1.0)
            optimiser.step()
            return loss.detach()

        return step

    def _kept(self, batch: int, seed: int, t: int) -> Tensor:
        """float32 [batch]: 1 where step t tells the code, 0 where it withholds it."""
        return torch.ones(batch, device=self.device)

    def network_for(self, shape: tuple[int, ...]) -> NetworkName:
        """The network that samples of `shape` get: the user's choice, or ours where that is `auto`."""
        name: NetworkName = self.options["network"]
        if name in U_NETS and len(shape) != 3:
            raise InputError(f"network {name} for vectors", "network mlp or pca_mlp", "leave it at auto")
        if name == "auto":
            name = suited_network(shape, self.device.type == "cuda")
        if self.options.get("flip") and name not in U_NETS:
            raise InputError(f"flip with network {name}", f"one of {', '.join(U_NETS)}", "leave flip out")
        return name

    def _fresh(self, samples: Samples, seed: int) -> Fitted:
        name, samples = self.network_for(samples.shape[1:]), dense(samples)
        components = min(self.options["components"], max(len(samples) // 4, 8)) if name == "pca_mlp" else 0
        codec = Codec.fit(samples, flat=name not in U_NETS, components=components)
        some = codec.shown(codec.stored(samples[:: math.ceil(len(samples) / 10_000)]))
        with torch.random.fork_rng(
            devices=[]
        ):  # initialisation draws from torch's global generator: leave it as it was
            torch.manual_seed(seed_for(seed, "generator", "weights"))
            return Fitted(codec, float(some.std()) / SIGMA_DATA, self._network(name, codec))

    def _network(self, name: NetworkName, codec: Codec) -> nn.Module:
        o, told = self.options, (self.options.get("condition"), self._code_size)
        if name not in U_NETS:
            return ResidualMLP(codec.size[0], o["width"] or 256, o["depth"] or 4, o["dropout"], *told).to(self.device)
        patch, features, depth = U_NETS[name]
        net = UNet(codec.shape, o["width"] or features, o["depth"] or depth, o["dropout"], patch, *told).to(self.device)
        return net.to(memory_format=torch.channels_last) if self.device.type == "cuda" else net  # type: ignore[call-overload]

    def _call(self, network: Callable[..., Tensor], *told: Tensor) -> Network:
        """The network in its precision, its output in float32; noise levels, preconditioning and loss stay in
        float32. `told`: code and keep, where it is told any.
        """

        def call(x: Tensor, c_noise: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._dtype != torch.float32):
                return network(x, c_noise, *told).float()

        return call

    def _denoiser(self, network: Network) -> Denoiser:
        return lambda x, sigma: self.objective.denoise(network, x, torch.full((len(x),), sigma, device=x.device))

    # ---- positives -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def _renoised(
        self,
        samples: np.ndarray,
        denoiser: Callable[[slice], Denoiser],
        strength: float,
        seed: int,
        rows: Rows,
        number: int,
    ) -> np.ndarray:
        """Noise the samples as far as `strength` says and denoise them again; strength 1 begins with noise alone.

        With (c, s) = rotation(strength) the variance-preserving mix c y + s sigma_data n holds as much of the anchor y
        and as much noise n, which is our y + sigma n with sigma = sigma_data s / c. What principal components leave
        out of an anchor stays to the part c. `denoiser(part)` is the denoiser of samples[part].
        """
        fitted, o = self._ready(), self.options
        address = checked_rows(samples, fitted.codec.shape, fitted.codec.is_images, strength, rows, number)
        samples = np.ascontiguousarray(samples)
        made = samples.copy()
        if strength == 0:
            return made
        keeps, turns = rotation(strength)
        sigma = min(SIGMA_DATA * turns / keeps, o["sigma_max"]) if strength < 1 else o["sigma_max"]
        evaluations, passes = self._evaluations(sigma), 0
        chunk = (BLOCK if fitted.codec.flat else BLOCK // 4) * (16 if self.device.type == "cuda" else 1)
        with timed(self.sampling_cost):
            with counted_flops() as box:
                denoiser(slice(0, 1))(torch.zeros(1, *fitted.codec.size, device=self.device), 1.0)
            for start in range(0, len(samples), chunk):
                part = slice(start, start + chunk)
                draws = Draws(seed, address[part].to(self.device), number)

                def noise(step: int, draws: Draws = draws) -> Tensor:
                    return draws.normal(fitted.codec.size, f"step {step}")

                y = fitted.codec.shown(fitted.codec.stored(samples[part])).to(self.device) / fitted.unit
                x = sigma * noise(-1) + (y if strength < 1 else 0)
                x = self._integrate(denoiser(part), x, evaluations, min(o["sigma_min"], sigma), sigma, noise)
                made[part] = fitted.codec.decode(x * fitted.unit, keeps * fitted.codec.left_out(samples[part]))
                passes += len(x) * evaluations
        self.sampling_cost.add(Cost(flops=box[0] * passes, samples_generated=len(samples), forwards=passes))
        return made

    def _evaluations(self, sigma: float) -> int:
        """Evaluations from `sigma` down: as dense in the sampler's noise levels as those of whole samples."""
        o = self.options
        low, high, at = (level ** (1 / 7) for level in (o["sigma_min"], o["sigma_max"], sigma))
        share = (at - low) / (high - low)
        return 1 if share <= 0 else min(max(math.ceil(share * o["evaluations"]), 2), max(o["evaluations"], 1))

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
            "generator": self.name,
            "version": 2,
            "options": self.options,
            "network": self.network_for(fitted.codec.shape),
            "shape": fitted.codec.shape,
            "flat": fitted.codec.flat,
            "unit": fitted.unit,
        }
        write_generator_file(path, tensors | self._more_tensors(), meta)

    def _more_tensors(self) -> dict[str, Tensor]:
        """What a kind of diffusion keeps beside network and codec."""
        return {}

    def _take_more(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `_more_tensors` gave, before the network is built."""

    @classmethod
    def load(cls, path: Path | str, device: str = "auto") -> Self:
        """Read what `save` wrote; raises InputError when the file holds something else."""
        tensors, meta = read_generator_file(path)
        try:
            if meta["generator"] != cls.name:
                raise KeyError(meta["generator"])
            self = cls(**meta["options"], device=device)
            self._take_more(tensors)
            codec = {name.removeprefix("codec."): t for name, t in tensors.items() if name.startswith("codec.")}
            fitted_codec = Codec.from_tensors(codec, tuple(meta["shape"]), meta["flat"])
            weights = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
            own, self.device = self.device, torch.device("meta")  # costs nothing, whatever sizes a file claims
            with self.device:
                shapes = {
                    name: w.shape for name, w in self._network(meta["network"], fitted_codec).state_dict().items()
                }
            if shapes != {name: w.shape for name, w in weights.items()}:
                raise ValueError("weights of another network than its settings say")
            self.device = own
            with torch.random.fork_rng(devices=[]):  # a fresh network draws its weights, to be replaced
                network = self._network(meta["network"], fitted_codec).eval()
            network.load_state_dict(weights)
            self._fitted = Fitted(fitted_codec, meta["unit"], network)
        except UNFIT as error:
            if isinstance(error, InputError):
                raise
            expected = f"a {cls.name} generator of this version of swell"
            raise InputError(f"{path} ({error})", expected, "make it again") from None
        return self

    def _ready(self) -> Fitted:
        if self._fitted is None:
            raise InputError("a generator that has not been trained", "a call of fit or load first", "")
        return self._fitted


def set_aside(samples: Samples, held_out: np.ndarray | None, seed: int) -> tuple[Samples, np.ndarray]:
    """Samples to train on and held-out ones, a tenth of them where none are given."""
    check_fit_samples(dense(samples))
    if held_out is not None:
        return samples, held_out
    kept, aside = split_held_out(len(samples), seed)
    return samples[kept] if isinstance(samples, np.ndarray) else samples.subset(kept), samples[aside]


def dense(samples: Samples) -> np.ndarray:
    """An array as it is; of sparse rows as many, evenly over them, as say enough of their features' scales."""
    if isinstance(samples, np.ndarray):
        return samples
    return samples[np.unique(np.linspace(0, len(samples) - 1, MOST_ROWS_FOR_PCA).astype(np.int64))]


def _stored(codec: Codec, samples: Samples) -> Tensor:
    """Samples as they wait in memory for training; sparse rows are dense a block at a time."""
    if isinstance(samples, np.ndarray):
        return codec.stored(samples)
    blocks = range(0, len(samples), ROWS_AT_ONCE)
    return torch.cat([codec.stored(samples[start : start + ROWS_AT_ONCE]) for start in blocks])

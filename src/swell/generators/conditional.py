"""Diffusion conditioned on an encoding: it draws samples that a code describes, and so makes positives of a sample
from the sample's own code (DiffAug, Zang et al. 2024, PMLR 235).

The code comes from anywhere: an encoder that is being trained, principal components, a table of covariates.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn

from swell.errors import InputError, suggest
from swell.generators.base import Rows
from swell.generators.denoising import Denoising, Fit, Fitted, Samples, set_aside
from swell.generators.fitting import Budget, Decay
from swell.generators.networks import ConditionName, NetworkName
from swell.generators.objectives import HeldOutLoss, Network
from swell.generators.registry import split_held_out
from swell.generators.samplers import Denoiser
from swell.seeding import generator_for

CHECKPOINT_SECONDS = 60.0


class ConditionalDiffusion(Denoising):
    """A denoiser D(x; sigma, c) of samples x [B, ...] with codes c [B, F], an MLP or a U-Net as in `Diffusion`.

    `condition` says how the code reaches the network (networks.Conditioning): `film`, `add` or `concat`. In training
    each sample's code is withheld with probability `drop`, so that the network knows D(x; sigma) without a code too.
    Sampling follows D(x; sigma) + guidance (D(x; sigma, c) - D(x; sigma)) (Ho and Salimans 2022, arXiv 2207.12598):
    1 is the conditional denoiser itself, more insists on the code at twice the price, 0 ignores it.

    The other options are `Diffusion`'s. The objective `stf` and pairing of noises are not among them: both would mix
    samples with other codes.
    """

    name = "conditional"

    def __init__(
        self,
        *,
        condition: ConditionName = "film",
        drop: float = 0.1,
        guidance: float = 1.0,
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
        sampler: str = "ipndm",
        evaluations: int = 10,
        sigma_min: float = 0.01,
        sigma_max: float = 40.0,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        compile: bool | None = None,
        device: str = "auto",
    ) -> None:
        if condition not in get_args(ConditionName):
            raise InputError(f"condition {condition!r}", "a known one", suggest(condition, get_args(ConditionName)))
        if not 0 <= drop <= 1:
            raise InputError(f"drop {drop}", "a share from 0 to 1", "0.1 is usual")
        if not 0 <= guidance < float("inf") or (guidance != 1 and drop == 0):
            given = f"guidance {guidance} with drop {drop}"
            raise InputError(
                given, "a number from 0 up, and codes dropped in training where it is not 1", "try drop 0.1"
            )
        if objective == "stf":
            raise InputError("objective stf with codes", "edm, ddpm or flow", "its targets would mix other codes")
        options: dict[str, Any] = {
            "condition": condition,
            "drop": drop,
            "guidance": guidance,
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
            "sampler": sampler,
            "evaluations": evaluations,
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
            "precision": precision,
        }
        super().__init__(options, device, compile)
        self._scaling = {"codes.mean": torch.zeros(0), "codes.std": torch.zeros(0)}  # of every number of a code

    # ---- training ------------------------------------------------------------------------------------

    def fit(
        self,
        samples: Samples,
        codes: np.ndarray | Tensor,
        *,
        held_out: np.ndarray | None = None,
        held_out_codes: np.ndarray | Tensor | None = None,
        start: ConditionalDiffusion | None = None,
        seed: int = 0,
        steps: int | None = None,
        seconds: float | None = None,
        checkpoint: Path | None = None,
        quiet: bool = False,
    ) -> Self:
        """Learn samples [N, ...] with codes [N, F], each number of which is standardised. Budget, held-out samples and
        checkpoint are as in `Generator.fit`. `start` is a fitted generator to go on from instead of fresh weights: its
        network and its scale of the samples, with the scale of the new codes.

        Raises InputError for data nothing can be learnt from, codes that do not fit them, and without a budget.
        """
        budget, table = Budget(steps, seconds), _codes(codes, len(samples))
        if held_out is None:
            kept, aside = (torch.from_numpy(index) for index in split_held_out(len(samples), seed))
            table, aside_table = table[kept], table[aside]
        elif held_out_codes is None:
            raise InputError("held-out samples without codes", "held_out_codes beside them", "give both or neither")
        else:
            aside_table = _codes(held_out_codes, len(held_out), table.shape[1])
        samples, held_out = set_aside(samples, held_out, seed)
        self._code_size = table.shape[1]
        std = table.std(0, correction=0)
        self._scaling = {"codes.mean": table.mean(0), "codes.std": torch.where(std > 0, std, 1.0)}
        how = Fit(
            seed,
            budget,
            checkpoint,
            CHECKPOINT_SECONDS,
            quiet,
            str((self.name, self.options, seed, steps, seconds, samples.shape, table.shape, start is not None)),
            codes=self._told(table),
            held_out_codes=self._told(aside_table),
            start=None if start is None else self._continued(start, samples.shape[1:]),
        )
        self._fit(samples, held_out, how)
        return self

    def _continued(self, start: ConditionalDiffusion, shape: tuple[int, ...]) -> Fitted:
        """A copy of what `start` has learnt, in a network of these options for samples of `shape`."""
        fitted = start._ready()
        if (start._code_size, fitted.codec.shape) != (self._code_size, shape):
            given = f"codes of {self._code_size} numbers for samples {list(shape)}"
            known = f"{start._code_size} numbers for samples {list(fitted.codec.shape)}"
            raise InputError(given, f"{known}, as the generator to go on from has learnt", "leave start out")
        with torch.random.fork_rng(devices=[]):
            network = self._network(self.network_for(fitted.codec.shape), fitted.codec)
        try:
            network.load_state_dict(fitted.network.state_dict())
        except RuntimeError:
            given = "a generator to go on from whose network is another"
            raise InputError(given, "the same network, width, depth and condition", "leave start out") from None
        return replace(fitted, network=network)

    def look(self, averaged: nn.Module, held_out_loss: HeldOutLoss) -> dict[str, float]:
        return held_out_loss(lambda x, c_noise, code: self._call(averaged, code, code.new_ones(len(code)))(x, c_noise))

    def _kept(self, batch: int, seed: int, t: int) -> Tensor:
        # a generator of its own: withheld codes leave all other randomness of a step as it is without codes
        drawn = torch.rand(batch, generator=generator_for(seed, "generator", "drop", t))
        return (drawn >= self.options["drop"]).float().to(self.device)

    def _told(self, table: Tensor) -> Tensor:
        """Codes [B, F] as the network is told them, on its device."""
        return ((table - self._scaling["codes.mean"]) / self._scaling["codes.std"]).to(self.device)

    # ---- sampling ------------------------------------------------------------------------------------

    def positives(
        self,
        samples: np.ndarray,
        codes: np.ndarray | Tensor,
        strength: float,
        seed: int,
        *,
        rows: Rows = None,
        number: int = 0,
    ) -> np.ndarray:
        """One positive of each of samples [B, ...], drawn to its code [B, F]: strength 1 begins with noise alone and
        keeps what the code keeps, less begins with the noised sample. Otherwise see `Generator.positives`.
        """
        self._ready()
        told = self._told(_codes(codes, len(samples), self._code_size))
        return self._renoised(samples, lambda part: self._guided(told[part]), strength, seed, rows, number)

    def _guided(self, code: Tensor) -> Denoiser:
        w, network = self.options["guidance"], self._ready().network

        def by(keep: Tensor) -> Network:
            return self._call(network, code, keep)

        with_code, without = (
            self._denoiser(by(keep)) for keep in (code.new_ones(len(code)), code.new_zeros(len(code)))
        )
        if w == 1:
            return with_code

        def denoise(x: Tensor, sigma: float) -> Tensor:
            free = without(x, sigma)
            return free + w * (with_code(x, sigma) - free)

        return denoise if w > 0 else without

    # ---- files ---------------------------------------------------------------------------------------

    def _more_tensors(self) -> dict[str, Tensor]:
        return self._scaling

    def _take_more(self, tensors: dict[str, Tensor]) -> None:
        self._scaling = {name: tensors[name] for name in self._scaling}
        self._code_size = len(self._scaling["codes.mean"])


def _codes(codes: np.ndarray | Tensor, count: int, size: int | None = None) -> Tensor:
    """float32 [count, F] on the CPU. Raises InputError for another shape, or numbers that are not finite."""
    table = torch.as_tensor(codes).detach().float().cpu()
    if table.ndim != 2 or len(table) != count or table.shape[1] != (size or table.shape[1]) or table.shape[1] == 0:
        raise InputError(f"codes {list(table.shape)}", f"one row of {size or 'F'} numbers for each of {count} samples")
    if not bool(table.isfinite().all()):
        raise InputError("codes with NaN or infinite values", "finite numbers", "look at the encoder they come from")
    return table

"""A variational autoencoder on the codec's numbers (Kingma and Welling 2014, arXiv 1312.6114).

z ~ N(0, I), x | z ~ N(f(z), diag(s^2)): f is an MLP, s is learnt, one deviation for every number of a sample.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swell.errors import InputError
from swell.generators.base import BLOCK, BlockGenerator, Learnt, Task, flat_codec, part_of, prefixed, rotation
from swell.generators.codec import Codec
from swell.generators.fitting import Budget, Training, run_training
from swell.generators.noise import Draws
from swell.generators.registry import GENERATORS
from swell.seeding import generator_for, seed_for

SMALLEST_DEVIATION = 0.03  # of the data's: what never varies (a black border) would be modelled ever more sharply
HELD_OUT_ROWS = 2048  # rows, each with a draw of z of its own, that a look goes over


def negative_elbo(
    x: Tensor, mean: Tensor, log_variance: Tensor, mu: Tensor, log_sigma2: Tensor, beta: float = 1.0
) -> Tensor:
    """The bound on -ln p(x) in nats, averaged over the batch; equation 3 of the paper for Gaussians:

        1/2 sum_d [(x_d - mean_d)^2 / s_d^2 + ln(2 pi s_d^2)]  +  beta/2 sum_k [mu_k^2 + sigma_k^2 - 1 - ln sigma_k^2]

    Args:
        x, mean: [B, D], a sample and the mean that one draw of z decodes to.
        log_variance: ln s^2, [D].
        mu, log_sigma2: [B, K], mean and ln sigma^2 of q(z | x).
        beta: weight of the divergence of q from the prior (Higgins et al. 2017); 1 gives the bound.
    """
    unlikely = ((x - mean) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(1) / 2
    divergence = (mu**2 + log_sigma2.exp() - 1 - log_sigma2).sum(1) / 2
    return (unlikely + beta * divergence).mean()


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, SiLU between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class AutoEncoder(nn.Module):
    """Encoder x [B, D] -> mu, ln sigma^2 [B, K]; decoder z [B, K] -> mean [B, D]; ln s^2 [D]."""

    def __init__(self, size: int, latent: int, width: int, depth: int) -> None:
        super().__init__()
        self.encoder = mlp(size, *[width] * depth, 2 * latent)
        self.decoder = mlp(latent, *[width] * depth, size)
        self.free_log_variance = nn.Parameter(torch.zeros(size))

    @property
    def log_variance(self) -> Tensor:
        return self.free_log_variance.clamp(min=2 * math.log(SMALLEST_DEVIATION))

    def loss(self, x: Tensor, noise: Tensor, beta: float) -> Tensor:
        """x [B, D], noise [B, K] standard normal; nats a number, so that sizes compare."""
        mu, log_sigma2 = self.encoder(x).chunk(2, dim=1)
        z = mu + (log_sigma2 / 2).exp() * noise
        return negative_elbo(x, self.decoder(z), self.log_variance, mu, log_sigma2, beta) / x.shape[1]


@GENERATORS.register("vae", "variational autoencoder with a learnt output variance", "Kingma and Welling 2014")
class VAE(BlockGenerator):
    """Options: `latent` size of z, `width` and `depth` of both MLPs, `beta`, and whether samples get the
    `output_noise` that belongs to the model: without it they are means f(z), smoother than any real sample.
    """

    name = "vae"
    forwards = True

    def __init__(
        self,
        *,
        latent: int = 32,
        width: int = 128,
        depth: int = 2,
        components: int = 256,
        beta: float = 1.0,
        output_noise: bool = True,
        batch: int = 256,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        device: str = "auto",
    ) -> None:
        options = {"latent": latent, "width": width, "depth": depth, "components": components, "batch": batch}
        for name, value in options.items():
            if value < 1:
                raise InputError(f"{name} {value}", "at least 1", f"leave {name} out for the default")
        if not 0 <= beta < math.inf:
            raise InputError(f"beta {beta}", "a number of at least 0", "1 is the bound on the likelihood")
        floats = {"beta": beta, "lr": lr, "weight_decay": weight_decay}
        super().__init__(options | floats | {"output_noise": output_noise}, device)

    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        o, budget = self.options, Budget(task.steps, task.seconds)
        codec = flat_codec(task.train, o["components"])
        data, unseen = codec.stored(task.train), codec.shown(codec.stored(task.held_out))
        unit = float(codec.shown(data[:: math.ceil(len(data) / 10_000)]).std())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(task.seed, "generator", "weights"))
            network = self._network(codec).to(self.device)
        rows = unseen[torch.arange(HELD_OUT_ROWS) % len(unseen)].to(self.device) / unit
        noise = torch.randn(HELD_OUT_ROWS, o["latent"], generator=generator_for(task.seed, "generator", "held out"))
        data, noise, batch = data.to(self.device), noise.to(self.device), min(o["batch"], len(data))
        optimiser = torch.optim.AdamW(network.parameters(), o["lr"], weight_decay=o["weight_decay"], fused=True)

        def step(t: int) -> Tensor:
            torch.manual_seed(seed_for(task.seed, "generator", t))
            x = codec.shown(data[torch.randint(len(data), (batch,), device=self.device)]) / unit
            loss = network.loss(x, torch.randn(batch, o["latent"], device=self.device), o["beta"])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            return loss.detach()

        @torch.inference_mode()
        def look(averaged: nn.Module) -> dict[str, float]:
            return {"held_out_loss": float(averaged.loss(rows, noise, o["beta"]))}  # type: ignore[operator]

        run_training(
            Training(network, [optimiser]),
            step,
            look,
            budget,
            cost=self.cost,
            history=self.history,
            samples_a_step=batch,
            checkpoint=task.checkpoint,
            identity=str((self.name, o, task.seed, task.steps, task.seconds, task.train.shape)),
            quiet=task.quiet,
        )
        tensors = prefixed("network", network.state_dict()) | prefixed("codec", codec.to_tensors())
        return tensors, {"unit": unit, "output_noise": o["output_noise"]}

    def _network(self, codec: Codec) -> AutoEncoder:
        o = self.options
        return AutoEncoder(codec.size[0], o["latent"], o["width"], o["depth"])

    def _prepare(self, learnt: Learnt) -> None:
        self._codec = Codec.from_tensors(part_of(learnt.tensors, "codec"), learnt.shape, flat=True)
        with torch.device("meta"):  # initial weights would cost time and global randomness
            model = self._network(self._codec)
        model.load_state_dict(part_of(learnt.tensors, "network"), assign=True)
        self._model = model.to(self.device).eval()

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        z, noise = (torch.randn(BLOCK, size, generator=rng) for size in (self.options["latent"], *self._codec.size))
        x = self._model.decoder(z.to(self.device))  # [BLOCK, D]
        if self.options["output_noise"]:
            x = x + (self._model.log_variance / 2).exp() * noise.to(self.device)
        return self._codec.decode(x * learnt.settings["unit"])

    def _vary(self, learnt: Learnt, samples: np.ndarray, strength: float, draws: Draws) -> np.ndarray:
        """Encode, turn the mean of z towards a draw from the prior, decode; what the decoder misses of the sample is
        turned as far, towards the model's own output noise. So strength 1 draws from the model.
        """
        keeps, turns = rotation(strength)
        unit, codec, model = learnt.settings["unit"], self._codec, self._model
        x = codec.shown(codec.stored(samples)).to(self.device) / unit  # [B, D]
        mu = model.encoder(x).chunk(2, dim=1)[0]  # [B, K]
        z = keeps * mu + turns * draws.normal(mu.shape[1:], "z").to(self.device)
        missed = keeps * (x - model.decoder(mu))
        if self.options["output_noise"]:
            deviation = (model.log_variance / 2).exp()
            missed = missed + turns * deviation * draws.normal(x.shape[1:], "output").to(self.device)
        return codec.decode((model.decoder(z) + missed) * unit, keeps * codec.left_out(samples))

"""A small modern GAN: relativistic pairing loss with two gradient penalties (Huang et al. 2024, arXiv 2501.05441),
differentiable augmentation of images (Zhao et al. 2020, arXiv 2006.10738), a running average of the generator.

An MLP pair for vectors and tiny images, a small convolutional pair for images of sides 16 to 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.errors import InputError
from swell.generators.base import BLOCK, BlockGenerator, Learnt, Task, flat_codec, part_of, prefixed
from swell.generators.codec import HALF_WHITENED, Codec, WhitenedPCA
from swell.generators.fitting import Budget, Training, run_training
from swell.generators.registry import GENERATORS
from swell.seeding import generator_for, seed_for

LOOKED_AT = 1024  # samples drawn for a look
LOOKED_AXES = 32  # principal components they are compared in
WIDTHS = (0.1, 0.25, 0.5, 1.0)  # of the kernels, in root mean squared distances of two samples
CONVOLVED_SIDES = range(16, 65)

Critic = Callable[[Tensor], Tensor]  # D: [B, ...] -> [B], every row on its own


# ---- losses ------------------------------------------------------------------------------------------


def relativistic_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """E[ln(1 + exp(-(ours - theirs)))] of critic values [B]: small where ours lie above theirs (section 2.1).

    The critic calls the real samples its own, the generator the generated ones. Only differences count, so that
    critic values cannot drift, and every real sample holds up some generated one, which keeps modes from dropping.
    """
    return F.softplus(theirs - ours).mean()


def squared_gradient(values: Tensor, x: Tensor) -> Tensor:
    """|dD(x)/dx|^2 per sample: [B], differentiable itself. values [B] = D(x), x [B, ...] requires grad."""
    (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def critic_loss(critic: Critic, real: Tensor, fake: Tensor, gamma: float) -> Tensor:
    """The relativistic loss of real and fake [B, ...] plus gamma / 2 (R1 + R2), the mean squared gradients of the
    critic at the real (R1) and at the generated samples (R2): section 2.2. Without them training need not converge.
    """
    x = torch.cat([real, fake]).detach().requires_grad_()
    values = critic(x.view_as(x))  # torch's FLOP counter cannot follow second derivatives to a leaf
    d_real, d_fake = values.chunk(2)
    r1, r2 = squared_gradient(values, x).chunk(2)
    return relativistic_loss(d_real, d_fake) + gamma / 2 * (r1.mean() + r2.mean())


def generator_loss(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """The same with roles exchanged: generated samples shall be worth more than real ones, both [B, ...]."""
    return relativistic_loss(critic(fake), critic(real.detach()))


# ---- augmentation ------------------------------------------------------------------------------------


def augment(x: Tensor) -> Tensor:
    """Images [B, C, H, W] around 0, differentiably distorted, each in its own way: colours shifted where C is 3,
    moved by up to an eighth of the side, a square of half the side blanked. The critic sees only such images, real
    and generated alike: it cannot learn few real ones by heart, and the generator learns undistorted ones.
    """
    b, c, height, width = x.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(b, 1, 1, 1, device=x.device) * (high - low) + low

    if c == 3:
        x = x + uniform(-0.5, 0.5)  # brightness
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * uniform(0, 2)  # saturation
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * uniform(0.5, 1.5)  # contrast
    x = _shift(height, x) @ x @ _shift(width, x).mT
    return x * ~(_window(height, x).unsqueeze(-1) & _window(width, x).unsqueeze(-2))


def _shift(side: int, x: Tensor) -> Tensor:
    """Matrices [B, 1, side, side] that move by up to an eighth and fill with 0."""
    most, places = side // 8, torch.arange(side, device=x.device)
    by = torch.randint(-most, most + 1, (len(x), 1, 1, 1), device=x.device)
    return (places[:, None] + by == places).to(x.dtype)


def _window(side: int, x: Tensor) -> Tensor:
    """bool [B, 1, side]: true within half a side around a random place."""
    places, half = torch.arange(side, device=x.device), side // 2
    start = torch.randint(1 - half, side, (len(x), 1, 1), device=x.device)
    return (places >= start) & (places < start + half)


# ---- networks ----------------------------------------------------------------------------------------


def mlp_pair(latent: int, size: int, width: int) -> tuple[nn.Module, nn.Module]:
    """Generator [B, latent] -> [B, size], normalised per layer; critic [B, size] -> [B, 1], without any norm."""
    generator: list[nn.Module] = []
    critic: list[nn.Module] = []
    for layer in range(3):
        first = layer == 0
        generator += [nn.Linear(latent if first else width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2)]
        critic += [nn.Linear(size if first else width, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*generator, nn.Linear(width, size)), nn.Sequential(*critic, nn.Linear(width, 1))


def halvings(shape: tuple[int, ...]) -> int:
    """How often images of this shape are halved until the shorter side is 4 to 7; 0 where the convolutional pair
    does not fit them.
    """
    if len(shape) != 3 or not all(side in CONVOLVED_SIDES for side in shape[1:]):
        return 0
    times = int(math.log2(min(shape[1:]) / 4))
    return 0 if any(side % 2**times for side in shape[1:]) else times


def conv_pair(latent: int, shape: tuple[int, ...], width: int) -> tuple[nn.Module, nn.Module]:
    """Generator [B, latent] -> [B, C, H, W]; critic [B, C, H, W] -> [B, 1]: one layer a halving, `width` channels at
    half the resolution and twice as many after each further halving.
    """
    (channels, height, side), times = shape, halvings(shape)
    wide, h, w = width * 2 ** (times - 1), height // 2**times, side // 2**times
    generator: list[nn.Module] = [nn.Linear(latent, wide * h * w), nn.Unflatten(1, (wide, h, w))]
    critic: list[nn.Module] = []
    c = channels
    for level in range(times):
        critic += [nn.Conv2d(c, width * 2**level, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        c = width * 2**level
    for _ in range(times - 1):
        generator += [nn.GroupNorm(1, c), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2)]
        generator += [nn.Conv2d(c, c // 2, 3, padding=1)]
        c //= 2
    generator += [nn.GroupNorm(1, c), nn.LeakyReLU(0.2), nn.Conv2d(c, 4 * channels, 3, padding=1), nn.PixelShuffle(2)]
    return nn.Sequential(*generator), nn.Sequential(*critic, nn.Flatten(), nn.Linear(wide * h * w, 1))


class Pair(nn.Module):
    """Generator z [B, K] -> x [B, ...] and critic x -> [B], as one thing that is trained and averaged."""

    def __init__(self, latent: int, size: tuple[int, ...], width: int) -> None:
        super().__init__()
        flat = len(size) == 1
        self.generator, self.critic = mlp_pair(latent, size[0], width) if flat else conv_pair(latent, size, width)

    def judge(self, x: Tensor) -> Tensor:
        return self.critic(x)[:, 0]


# ---- the generator -----------------------------------------------------------------------------------


@GENERATORS.register(
    "gan", "relativistic GAN with gradient penalties: quick to sample from", "Huang et al. 2024 (arXiv 2501.05441)"
)
class GAN(BlockGenerator):
    """Options: `latent` size of z; `width` of both networks and `batch` (None: what suits them and the device); `gamma`
    of the gradient penalties; whether to `augment` images, which long trainings on few of them need and short ones
    suffer from (None: convolutional networks on a GPU).

    What is kept is the running average whose samples lie nearest to held-out ones: "held_out_loss" is their squared
    maximum mean discrepancy.
    """

    name = "gan"
    forwards = True

    def __init__(
        self,
        *,
        latent: int = 64,
        width: int | None = None,
        components: int = 256,
        gamma: float = 2.0,
        augment: bool | None = None,
        batch: int | None = None,
        lr: float = 1e-3,
        device: str = "auto",
    ) -> None:
        integers = {"latent": latent, "width": width, "components": components, "batch": batch}
        for name, value in integers.items():
            if value is not None and value < 1:
                raise InputError(f"{name} {value}", "at least 1", f"leave {name} out for the default")
        if not 0 <= gamma < math.inf:
            raise InputError(f"gamma {gamma}", "a number of at least 0", "leave gamma out for the default")
        super().__init__(integers | {"gamma": gamma, "augment": augment, "lr": lr}, device)

    def _learn(self, task: Task) -> tuple[dict[str, Tensor], dict[str, Any]]:
        o, budget = self.options, Budget(task.steps, task.seconds)
        convolves = halvings(task.train.shape[1:]) > 0
        codec = Codec.fit(task.train, flat=False) if convolves else flat_codec(task.train, o["components"])
        data, (width, batch) = codec.stored(task.train), self._sizes(convolves)
        some = codec.shown(data[:: math.ceil(len(data) / 10_000)])
        unit = float(some.std())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(task.seed, "generator", "weights"))
            pair = Pair(o["latent"], codec.size, width).to(self.device)
        nets = (pair.generator, pair.critic)
        for_generator, for_critic = (
            torch.optim.Adam(net.parameters(), o["lr"], betas=(0.0, 0.99), fused=True) for net in nets
        )
        data, batch = data.to(self.device), min(batch, len(data))
        views = self._views(codec)

        def draw() -> tuple[Tensor, Tensor]:
            """A batch of real and one of generated samples, as the critic sees them."""
            real = codec.shown(data[torch.randint(len(data), (batch,), device=self.device)]) / unit
            return views(real), views(pair.generator(torch.randn(batch, o["latent"], device=self.device)))

        def step(t: int) -> Tensor:
            torch.manual_seed(seed_for(task.seed, "generator", t))
            with torch.no_grad():
                real, fake = draw()
            loss = critic_loss(pair.judge, real, fake, o["gamma"])
            for_critic.zero_grad()
            loss.backward()
            for_critic.step()
            pair.critic.requires_grad_(False)
            for_generator.zero_grad()
            generator_loss(pair.judge, *draw()).backward()
            for_generator.step()
            pair.critic.requires_grad_(True)
            return loss.detach()

        run_training(
            Unhurried(pair, [for_generator, for_critic], decay="constant"),
            step,
            HeldOutDistance(codec, some, codec.shown(codec.stored(task.held_out)), unit, o["latent"], task.seed),
            budget,
            cost=self.cost,
            history=self.history,
            samples_a_step=batch,
            checkpoint=task.checkpoint,
            identity=str((self.name, o, task.seed, task.steps, task.seconds, task.train.shape)),
            quiet=task.quiet,
        )
        tensors = prefixed("generator", pair.generator.state_dict()) | prefixed("codec", codec.to_tensors())
        return tensors, {"unit": unit, "width": width, "convolves": convolves}

    def _sizes(self, convolves: bool) -> tuple[int, int]:
        """Width and batch: the user's, or what suits the networks and the device."""
        on_gpu = self.device.type == "cuda"
        usual = ((96, 128) if convolves else (256, 128)) if on_gpu else ((16, 64) if convolves else (128, 128))
        return self.options["width"] or usual[0], self.options["batch"] or usual[1]

    def _views(self, codec: Codec) -> Callable[[Tensor], Tensor]:
        """The augmentation of this training, for what the networks work on."""
        wanted = self.options["augment"]
        if wanted is None:
            wanted = not codec.flat and self.device.type == "cuda"
        if wanted and (not codec.is_images or codec.pca is not None):
            raise InputError("augment for vectors or principal components", "images", "leave augment out")
        if not wanted:
            return lambda x: x
        return lambda x: augment(x.reshape(len(x), *codec.shape)).reshape(x.shape)

    def _prepare(self, learnt: Learnt) -> None:
        settings = learnt.settings
        self._codec = Codec.from_tensors(part_of(learnt.tensors, "codec"), learnt.shape, not settings["convolves"])
        with torch.device("meta"):  # initial weights would cost time and global randomness
            pair = Pair(self.options["latent"], self._codec.size, settings["width"])
        pair.generator.load_state_dict(part_of(learnt.tensors, "generator"), assign=True)
        self._network = pair.generator.to(self.device).eval()

    def _draw(self, learnt: Learnt, rng: torch.Generator) -> np.ndarray:
        z = torch.randn(BLOCK, self.options["latent"], generator=rng)
        return self._codec.decode(self._network(z.to(self.device)) * learnt.settings["unit"])


class Unhurried(Training):
    """Without an early stop: the distance of a GAN's samples falls, stays and swings before it falls again."""

    def note(self, held_out_loss: float) -> None:
        super().note(held_out_loss)
        self.without_gain = 0


class HeldOutDistance:
    """How far decoded samples are from samples never learnt from; every look draws the same z.

    On the codec's numbers, along the leading principal components of the training samples.
    """

    def __init__(self, codec: Codec, some: Tensor, unseen: Tensor, unit: float, latent: int, seed: int) -> None:
        """some, unseen [N, ...]: training and held-out samples as the codec shows them."""
        self.pca = WhitenedPCA.fit(some.flatten(1).numpy(), LOOKED_AXES, whiten=HALF_WHITENED)
        self.unseen = self.pca.encode(unseen[:LOOKED_AT].flatten(1))
        self.spread = float(2 * self.pca.encode(some.flatten(1)).var(0).sum())
        self.z = torch.randn(LOOKED_AT, latent, generator=generator_for(seed, "generator", "held out"))
        self.codec, self.unit = codec, unit

    @torch.inference_mode()
    def __call__(self, averaged: nn.Module) -> dict[str, float]:
        device = next(averaged.parameters()).device
        made = [self.codec.decode(averaged.generator(z.to(device)) * self.unit) for z in self.z.split(BLOCK)]  # type: ignore[operator]
        shown = self.codec.shown(self.codec.stored(np.concatenate(made))).flatten(1)
        return {"held_out_loss": squared_mmd(self.pca.encode(shown), self.unseen, self.spread)}


def squared_mmd(a: Tensor, b: Tensor, spread: float) -> float:
    """Squared maximum mean discrepancy of a [N, K] and b [M, K], without bias (Gretton et al. 2012, equation 3).

    The kernel is a sum of Gaussians of several widths, so that coarse and fine differences both count: two equal
    means and covariances are not enough. `spread` is the mean squared distance of two samples of the data.
    """

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        exponents = torch.cdist(x.double(), y.double()).square() / (-2 * spread)
        return sum((torch.exp(exponents / width**2) for width in WIDTHS), torch.zeros_like(exponents))

    def within(x: Tensor) -> Tensor:
        return (kernel(x, x).sum() - len(WIDTHS) * len(x)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())

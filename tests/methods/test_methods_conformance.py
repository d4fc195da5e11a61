"""Every method of the registry keeps the promises of swell.testing.check_method, and the check finds broken ones."""

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from swell.methods import METHODS, Method, Outcome
from swell.methods.dcl import DCL
from swell.methods.mae import MAE
from swell.methods.mixed_ae import MixedAE
from swell.methods.simclr import SimCLR, nt_xent
from swell.methods.terms import spread
from swell.methods.token_plans import Kept
from swell.nets.queue import Queue
from swell.testing import check_method

SMALL = {"hidden": 64, "outputs": 32, "decoder_width": 32, "decoder_depth": 1}


def small(kind):
    """The method with whatever heads it has made small."""
    return kind(**{key: value for key, value in SMALL.items() if key in kind.__dataclass_fields__})


@pytest.mark.parametrize("name", [entry.name for entry in METHODS])
def test_every_method_keeps_its_promises(name):
    check_method(lambda: small(METHODS[name]))


def test_naive_mixing_keeps_them_too():
    check_method(lambda: replace(small(MixedAE), homologous=False, contrast=0.0, segments=False))


@pytest.mark.parametrize("kind", [SimCLR, DCL])
def test_norms_in_the_projector_keep_them_too(kind):
    check_method(lambda: replace(small(kind), norm=True))


@dataclass(frozen=True)
class Reversed(SimCLR):
    """Rewards what should cost."""

    def loss(self, encoder, parts, views, progress):
        outcome = super().loss(encoder, parts, views, progress)
        return outcome._replace(loss=-outcome.loss)


@dataclass(frozen=True)
class Ordered(DCL):
    """Cares for the order of samples."""

    def loss(self, encoder, parts, views, progress):
        outcome = super().loss(encoder, parts, views, progress)
        return outcome._replace(loss=outcome.loss * (1 + views.groups[0][0].mean().abs()))


@dataclass(frozen=True)
class Forgetful(SimCLR):
    """Keeps what it saw where no checkpoint finds it."""

    def parts(self, encoder):
        parts = super().parts(encoder)
        parts["queue"] = Queue(8, 1)
        parts["queue"].seen = 0.0
        return parts

    def loss(self, encoder, parts, views, progress):
        outcome = super().loss(encoder, parts, views, progress)
        return outcome._replace(loss=outcome.loss + parts["queue"].seen)

    def after_step(self, encoder, parts, kept, progress):
        parts["queue"].seen += 1.0


@dataclass(frozen=True)
class Restless(SimCLR):
    """Changes its state in the loss."""

    def parts(self, encoder):
        parts = super().parts(encoder)
        parts["queue"] = Queue(8, 1)
        return parts

    def loss(self, encoder, parts, views, progress):
        outcome = super().loss(encoder, parts, views, progress)
        parts["queue"].push(torch.ones(1, 1))
        return outcome._replace(loss=outcome.loss + parts["queue"].held.sum())


@dataclass(frozen=True)
class Half(SimCLR):
    """Lets autocast have its exponentials."""

    def loss(self, encoder, parts, views, progress):
        z = parts["projector"](views.encode(encoder))
        unit = torch.nn.functional.normalize(z, dim=-1).half()
        return Outcome((unit[0] @ unit[1].T * 1e5).exp().mean().float(), {"z_std": spread(z)})


@dataclass(frozen=True)
class Detached(SimCLR):
    """Trains its head only."""

    def loss(self, encoder, parts, views, progress):
        z = parts["projector"](views.encode(encoder).detach())
        return Outcome(nt_xent(z, self.temperature), {"z_std": spread(z)})


@dataclass(frozen=True)
class Uphill(MAE):
    """Has its gradient the wrong way round."""

    def loss(self, encoder, parts, views, progress):
        outcome = super().loss(encoder, parts, views, progress)
        return outcome._replace(loss=2 * outcome.loss.detach() - outcome.loss)


@dataclass(frozen=True)
class Own(MAE):
    """Draws its masks where no seed reaches."""

    def loss(self, encoder, parts, views, progress):
        torch.manual_seed(time.perf_counter_ns() % 2**32)
        return super().loss(encoder, parts, views, progress)


@dataclass(frozen=True)
class Counting(MAE):
    """Keeps what it saw where no checkpoint finds it."""

    def loss(self, encoder, parts, views, progress):
        outcome = super().loss(encoder, parts, views, progress)
        return outcome._replace(loss=outcome.loss + getattr(parts["decoder"], "seen", 0.0))

    def after_step(self, encoder, parts, kept, progress):
        parts["decoder"].seen = getattr(parts["decoder"], "seen", 0.0) + 1.0


@dataclass(frozen=True)
class HeadOnly(MAE):
    """Trains its decoder only."""

    def loss(self, encoder, parts, views, progress):
        with torch.no_grad():
            images = [encoder(x, Kept.draw(len(x), 16, 0.5, x.device)) for x in views.groups]
        error = torch.stack([parts["decoder"].embed(z).square().mean() for z in images]).mean()
        return Outcome(error, {"z_std": error.detach()})


@dataclass(frozen=True)
class Spread(MAE):
    """Says that collapse costs, which it does not in a masked autoencoder."""

    collapse_costs: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Reversed, "all samples alike cost"),
        (Ordered, "order of samples"),
        (Forgetful, "state is not in buffers"),
        (Restless, "changes state"),
        (Half, "not finite"),
        (Detached, "no gradient reaches the encoder"),
        (Uphill, "it does not learn"),
        (Own, "changes state"),
        (Counting, "state is not in buffers"),
        (HeadOnly, "no gradient reaches the encoder"),
        (Spread, "all samples alike cost"),
    ],
)
def test_a_broken_method_is_found(broken: type[Method], sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_method(lambda: small(broken))

"""Every method of the registry keeps the promises of swell.testing.check_method, and the check finds broken ones."""

from dataclasses import dataclass

import pytest
import torch

from swell.methods import METHODS, Method, Outcome
from swell.methods.dcl import DCL
from swell.methods.simclr import SimCLR, nt_xent
from swell.methods.terms import spread
from swell.nets.queue import Queue
from swell.testing import check_method

SMALL = {"hidden": 64, "outputs": 32}


@pytest.mark.parametrize("name", [entry.name for entry in METHODS])
def test_every_method_keeps_its_promises(name):
    known = METHODS[name].__dataclass_fields__
    check_method(lambda: METHODS[name](**{key: value for key, value in SMALL.items() if key in known}))


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


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Reversed, "all samples alike cost"),
        (Ordered, "order of samples"),
        (Forgetful, "state is not in buffers"),
        (Restless, "changes state"),
        (Half, "not finite"),
        (Detached, "no gradient reaches the encoder"),
    ],
)
def test_a_broken_method_is_found(broken: type[Method], sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_method(lambda: broken(**SMALL))

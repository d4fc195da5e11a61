"""Encoders that nobody trained, with weights and batch statistics of all kinds of values."""

import numpy as np
import pytest
import torch

from swell.model import Model
from swell.nets.encoder import Encoder, EncoderConfig
from swell.views.plan import ViewGroup


class Untrained(Model):
    path = "untrained"
    patch = ViewGroup(scale=(0.25, 0.25), ratio=(1.0, 1.0), interpolation="bilinear")

    def __init__(self, encoder, preparation=None):
        self.encoder, self.preparation = encoder, preparation

    @property
    def about(self):
        return {"run": "/secret/place", "method": "simclr", "seed": 0}


def untrained(backbone, shape, width=1.0, preparation=None, seed=0, **options):
    torch.manual_seed(seed)
    channels = shape[0] if len(shape) == 3 else 0
    statistics = tuple(np.linspace(0.3, 0.5, channels).tolist()), tuple(np.linspace(0.2, 0.3, channels).tolist())
    net = Encoder(EncoderConfig(backbone, width, shape, *statistics, options)).eval()
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 2)
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.2)
    return Untrained(net, preparation)


@pytest.fixture
def resnet():
    return untrained("resnet18", (3, 32, 32), 0.125)


@pytest.fixture
def vit():
    return untrained("vit_tiny", (3, 32, 32), 0.2, patch=8, depth=2, positions="learned", pool="class")


@pytest.fixture
def make():
    return untrained

"""What several tests of methods share: a linear encoder of vectors, and views of vectors."""

import torch
import torch.nn.functional as F
from torch import nn

from swell.methods.registry import Views


class Features(nn.Linear):
    """Vectors of 6 -> features of 10."""

    features = 10

    def __init__(self):
        super().__init__(6, 10)


def views_of(counts, batch=12, roles=None, seed=1):
    g = torch.Generator().manual_seed(seed)
    groups = tuple(torch.randn(count * batch, 6, generator=g) for count in counts)
    return Views(groups, roles or ("global",) * len(counts), batch)


def unit_rows(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)

"""Random numbers with an address: those of positive j of sample i depend on the seed, on i and on j alone.

A generator object for every sample would take longer than the numbers it draws. Here each number is a hash of its
address, so that a whole batch is drawn at once, on its device: counter-based random numbers (Salmon et al. 2011), with
SplitMix64 (Steele et al. 2014) as the hash. The bits are the same on every device; logarithms and cosines agree to
the last rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from swell.seeding import seed_for


def _signed(bits: int) -> int:
    """64 bits as the int64 that holds them."""
    return bits - (1 << 64) if bits >> 63 else bits


GAMMA, MIX_1, MIX_2 = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
LOW_32 = (1 << 32) - 1


def splitmix64(state: Tensor, number: Tensor) -> Tensor:
    """Output `number` = 0, 1, ... of SplitMix64 seeded with `state`: int64, 64 random bits each, broadcast."""
    z = state + (number + 1) * GAMMA  # integers wrap
    z = (z ^ _shifted(z, 30)) * MIX_1
    z = (z ^ _shifted(z, 27)) * MIX_2
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, places: int) -> Tensor:
    """z >> places with zeros coming in; torch brings in the sign."""
    return (z >> places) & ((1 << (64 - places)) - 1)


@dataclass(frozen=True)
class Draws:
    """The random numbers of positive `number` of the samples `rows` [B] int64, on the device of `rows`."""

    seed: int
    rows: Tensor
    number: int = 0

    def _bits(self, count: int, stream: str) -> Tensor:
        """int64 [B, count]. A row's key is an output of the address's own sequence and begins a sequence itself."""
        address = torch.tensor(seed_for(self.seed, "positive", self.number, stream), device=self.rows.device)
        keys = splitmix64(address, self.rows)  # [B]
        return splitmix64(keys[:, None], torch.arange(count, device=self.rows.device))

    def uniform(self, count: int, stream: str) -> Tensor:
        """float32 [B, count] in [0, 1); `stream` names what they are for, and another name gives other numbers."""
        return _shifted(self._bits(count, stream), 40) * 2.0**-24

    def below(self, n: int, count: int, stream: str) -> Tensor:
        """int64 [B, count], each of 0 .. n - 1 as likely as any other (n is far below 2^31)."""
        return (_shifted(self._bits(count, stream), 32) * n) >> 32

    def normal(self, shape: tuple[int, ...], stream: str) -> Tensor:
        """Standard normal float32 [B, *shape] (Box and Muller 1958): the halves of 64 bits make two."""
        count = math.prod(shape)
        bits = self._bits((count + 1) // 2, stream)
        u = (_shifted(bits, 32).float() + 0.5) * 2.0**-32
        angle = (bits & LOW_32).float() * (2 * math.pi * 2.0**-32)
        radius = (-2 * u.log()).sqrt()
        pair = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2)  # [B, count / 2, 2]
        return pair.flatten(1)[:, :count].reshape(len(bits), *shape)

"""Addressable randomness.

Batch t of a run and generated sample i depend only on the seed and on t or i. So a restart needs no generator state,
shards are idempotent, and the result does not depend on how many processes share the work.
"""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, *address: str | int) -> int:
    """A 63-bit seed for the place `address` of the run with `seed`; stable across machines and versions."""
    text = "/".join([str(seed), *map(str, address)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator_for(seed: int, *address: str | int) -> torch.Generator:
    """A fresh CPU generator for that place. Parameters are drawn on the CPU so that every device sees the same ones."""
    return torch.Generator().manual_seed(seed_for(seed, *address))

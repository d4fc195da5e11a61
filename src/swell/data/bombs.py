"""How much a few bytes may become: files that unpack to many times their size are refused before they are unpacked.

Real data hardly shrink to a hundredth; what shrinks to less is refused unless it is small altogether.
"""

from __future__ import annotations

from swell.errors import InputError

__all__ = ["RATIO", "SMALL", "refuse_bomb"]

SMALL = 1 << 26  # bytes that anything may unpack to
RATIO = 128  # times its size that a larger one may


def refuse_bomb(what: str, unpacked: float, stored: float) -> None:
    """Raises InputError where `what`, of `stored` bytes, claims to be `unpacked` ones and cannot be data."""
    if unpacked > max(SMALL, RATIO * stored):
        given = f"{what} ({min(unpacked, 1e18) / 1e6:,.0f} MB in {stored / 1e6:,.3f} MB: decompression bomb?)"
        raise InputError(given, f"at most {SMALL >> 20} MiB, or {RATIO} times what is stored", "do not use this file")

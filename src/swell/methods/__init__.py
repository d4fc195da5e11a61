"""Methods: one file each, found through the registry."""

from swell.methods import simclr  # noqa: F401  (registers itself)
from swell.methods.registry import METHODS, Method

__all__ = ["METHODS", "Method"]

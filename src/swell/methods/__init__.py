"""Methods: one file each, found through the registry."""

from swell.methods import dcl, simclr  # noqa: F401  (they register themselves)
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, find_method, make_method

__all__ = ["METHODS", "Method", "Outcome", "Preset", "Views", "find_method", "make_method"]

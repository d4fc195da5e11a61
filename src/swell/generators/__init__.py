"""Generators: learn a distribution from samples, draw new ones, judge them."""

from swell.generators.diffusion import Diffusion
from swell.generators.registry import GENERATORS, Generator, load_generator

__all__ = ["GENERATORS", "Diffusion", "Generator", "load_generator"]

"""Generators: learn a distribution from samples, draw new ones, judge them."""

# In the order in which `swell generators` lists them.
# isort: off
from swell.generators.diffusion import Diffusion
from swell.generators.gan import GAN
from swell.generators.vae import VAE
from swell.generators.simple import KDE, Mixup, Neighbours
from swell.generators.controls import Copies, Shuffled, Zeros
from swell.generators.registry import GENERATORS, Generator, load_generator
# isort: on

__all__ = [
    "GAN",
    "GENERATORS",
    "KDE",
    "VAE",
    "Copies",
    "Diffusion",
    "Generator",
    "Mixup",
    "Neighbours",
    "Shuffled",
    "Zeros",
    "load_generator",
]

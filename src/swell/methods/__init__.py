"""Methods: one file each, found through the registry."""

from swell.methods import (  # noqa: F401  (they register themselves)
    barlow_twins,
    byol,
    dcl,
    diffaug,
    dino,
    emp_ssl,
    mae,
    mixed_ae,
    mocov2,
    mocov3,
    nnclr,
    simclr,
    simsiam,
    swav,
    vicreg,
)
from swell.methods.registry import METHODS, Method, Outcome, Preset, Views, find_method, make_method

__all__ = ["METHODS", "Method", "Outcome", "Preset", "Views", "find_method", "make_method"]

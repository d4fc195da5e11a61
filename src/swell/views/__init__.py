"""Views: what an encoder sees of a sample.

This module names the plans only, so that reading a recipe needs no torch; the tensors are in
`swell.views.render` (`render`, `draw`, `apply`).
"""

from swell.views import presets  # noqa: F401  (they register themselves)
from swell.views.plan import VIEWS, VectorGroup, ViewGroup, ViewPlan, strength_number

__all__ = ["VIEWS", "VectorGroup", "ViewGroup", "ViewPlan", "strength_number"]

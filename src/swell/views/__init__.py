"""Views: what an encoder sees of a sample.

This module names the plans only, so that reading a recipe needs no torch; the tensors are in
`swell.views.render` (`render`, `draw`, `apply`).
"""

from swell.views.plan import VIEWS, ViewGroup, ViewPlan, strength_number

__all__ = ["VIEWS", "ViewGroup", "ViewPlan", "strength_number"]

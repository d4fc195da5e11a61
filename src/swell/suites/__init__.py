"""Suites: named recipes to train, resume, probe and compare with one command.

    # mine.py
    from swell import Recipe
    from swell.suites import Arm, Generated

    def suite(data):                                                # the opened DATA, without labels
        base = Recipe(method="simclr", steps=400)
        return {
            "real": base,
            "inflated": Arm(base, inflate=Generated(count=10_000, steps=1500)),
        }

`swell compare mine.py --data photos/ --out compared --seeds 3`. The first arm is the baseline that the others are read
against. `swell suites` lists those that are shipped.
"""

from swell.suites import shipped
from swell.suites.registry import SUITES, Arm, Generated, SuiteFunction

__all__ = ["SUITES", "Arm", "Generated", "SuiteFunction", "shipped"]

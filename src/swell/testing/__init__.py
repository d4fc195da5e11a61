"""What everything of one kind promises, as a function to call in your own tests.

>>> from swell.testing import check_generator, check_method, check_positives, check_ranks
>>> check_generator(MyGenerator)  # doctest: +SKIP
>>> check_positives(MyGenerator)  # doctest: +SKIP
>>> check_method(MyMethod)  # doctest: +SKIP
>>> check_ranks(MyMethod)  # doctest: +SKIP
"""

from swell.testing.examples import example_samples
from swell.testing.generators import check_generator
from swell.testing.methods import check_method, example_views
from swell.testing.positives import check_positives
from swell.testing.ranks import check_ranks

__all__ = ["check_generator", "check_method", "check_positives", "check_ranks", "example_samples", "example_views"]

"""Adaptive inflation: priors, search and choice. The room has the verb's name, so it can be called: `swell.adapt(data,
out)` is `swell.adapting.adapt`, which see.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swell.run import Run


class _Verb(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Run:
        """See `swell.adapting.adapt`."""
        from swell.adapting import adapt

        return adapt(*args, **options)


sys.modules[__name__].__class__ = _Verb

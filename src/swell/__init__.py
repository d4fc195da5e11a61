"""Swell: pre-train encoders on unlabelled images with generated data, and measure whether those data help.

The public names are below; they are imported when first used, so that `import swell` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from swell import sc
    from swell.adapting import adapt
    from swell.data.open import open_data as open
    from swell.data.source import Provenance, Source
    from swell.errors import InputError
    from swell.estimator import Encoder
    from swell.recipes import Recipe
    from swell.run import Run
    from swell.verbs import compare, embed, export, generate, load, pretrain

_HOME = {
    "adapt": ("swell.adapting", "adapt"),
    "open": ("swell.data.open", "open_data"),
    "Source": ("swell.data.source", "Source"),
    "Provenance": ("swell.data.source", "Provenance"),
    "InputError": ("swell.errors", "InputError"),
    "Encoder": ("swell.estimator", "Encoder"),
    "Recipe": ("swell.recipes", "Recipe"),
    "Run": ("swell.run", "Run"),
    "compare": ("swell.verbs", "compare"),
    "embed": ("swell.verbs", "embed"),
    "export": ("swell.verbs", "export"),
    "generate": ("swell.verbs", "generate"),
    "load": ("swell.verbs", "load"),
    "pretrain": ("swell.verbs", "pretrain"),
}
__all__ = [
    "Encoder",
    "InputError",
    "Provenance",
    "Recipe",
    "Run",
    "Source",
    "adapt",
    "compare",
    "embed",
    "export",
    "generate",
    "load",
    "open",
    "pretrain",
    "sc",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "sc":
        return import_module("swell.sc")
    if name not in _HOME:
        raise AttributeError(f"module 'swell' has no attribute {name!r}")
    module, attribute = _HOME[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, "sc"])

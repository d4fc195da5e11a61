"""Open anything as a source of samples."""

from swell.data.open import open_data
from swell.data.source import Provenance, Source

__all__ = ["Provenance", "Source", "open_data"]

"""The commands, a dataclass each: fields are arguments and options. Only a call of it imports torch."""

from __future__ import annotations

from typing import Any, TypeAlias

Result: TypeAlias = tuple[dict[str, Any] | list[dict[str, Any]], str]  # what --json prints, and what a person reads

"""Registries: decorated functions and classes that a text search finds.

``@METHODS.register("simclr", "summary", "paper")`` above a class is all there is to it; nothing is imported by string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from swell.errors import InputError, suggest

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing and the line that describes it."""

    name: str
    summary: str
    paper: str
    make: T

    def describe(self) -> dict[str, str]:
        return {"name": self.name, "summary": self.summary, "paper": self.paper}


class Registry(Generic[T]):
    """Named things of one kind, in the order they were registered."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, summary: str, paper: str = "") -> Callable[[T], T]:
        def keep(thing: T) -> T:
            if name in self._entries:
                raise RuntimeError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, summary, paper, thing)
            return thing

        return keep

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise InputError(f"{self.kind} {name!r}", f"a known {self.kind}", suggest(name, self._entries))
        return self._entries[name].make

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries.values())

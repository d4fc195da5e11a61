"""The one exception that means: the user's input is at fault.

The command line turns it into a single line on stderr and exit status 2. Everything else that escapes is our
fault (exit status 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, told in one line: what was given, what was expected, what to do.

    >>> str(InputError("batch size 0", "at least 2", "give --batch-size 256"))
    'batch size 0: expected at least 2; give --batch-size 256'
    """

    def __init__(self, given: str, expected: str, todo: str = "") -> None:
        self.given, self.expected, self.todo = given, expected, todo
        line = f"{given}: expected {expected}" + (f"; {todo}" if todo else "")
        super().__init__(" ".join(line.split()))  # one line, whatever was interpolated


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the closest of `known`, else the list itself."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "there are " + ", ".join(names)

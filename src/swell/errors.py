"""The one exception that means: the user's input is at fault.

The command line turns it into a single line on stderr and exit status 2. Everything else that escapes is our
fault (exit status 1).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_MOST, _LONGEST = 200, 3000  # names that are listed, and characters of a line: both may come from a file
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    """`text` without what moves a terminal's cursor, colours it or turns letters round: names in files may hold it."""
    return _UNSHOWN.sub("?", text)


class InputError(ValueError):
    """Bad input, told in one line: what was given, what was expected, what to do.

    >>> str(InputError("batch size 0", "at least 2", "give --batch-size 256"))
    'batch size 0: expected at least 2; give --batch-size 256'
    """

    def __init__(self, given: str, expected: str, todo: str = "") -> None:
        self.given, self.expected, self.todo = given, expected, todo
        line = f"{given}: expected {expected}" + (f"; {todo}" if todo else "")
        line = shown(" ".join(line.split()))  # one line, whatever was interpolated
        short = len(line) <= _LONGEST
        super().__init__(line if short else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 3 :]}")


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the closest of `known`, else the list itself."""
    names = sorted(known)
    if len(names) > _MOST:  # of a file, which may have any number of them
        return f"there are {len(names):,}, {', '.join(names[:10])} among them"
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "there are " + ", ".join(names)

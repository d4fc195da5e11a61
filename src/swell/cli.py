"""The command line: the verbs, thin. Parsing must not import torch, so that `swell --help` is immediate."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from swell.commands.adapting import Adapt
from swell.commands.comparing import Compare, Suites
from swell.commands.generating import Generate, Positives
from swell.commands.judging import Evaluate
from swell.commands.leaving import Embed, Export
from swell.commands.listings import Doctor, Generators, Methods, Recipes
from swell.commands.training import Demo, Pretrain
from swell.commands.watching import Watch
from swell.console import processes, speaks
from swell.errors import InputError, shown, suggest
from swell.options import parser_of
from swell.threads import bind_threads

COMMANDS: dict[str, Any] = {
    "demo": Demo,
    "generate": Generate,
    "positives": Positives,
    "pretrain": Pretrain,
    "watch": Watch,
    "adapt": Adapt,
    "evaluate": Evaluate,
    "embed": Embed,
    "export": Export,
    "compare": Compare,
    "methods": Methods,
    "generators": Generators,
    "recipes": Recipes,
    "suites": Suites,
    "doctor": Doctor,
}
SHARED = ("pretrain", "generate", "embed")  # by the processes that torchrun starts
LINGERING = 5.0  # seconds that a process which has nothing to say stays, where another has


def parse(argv: list[str]) -> Any:
    """The command of `argv`, ready to call.

    Raises:
        InputError: for anything the person mistyped, in one line.
        SystemExit: with status 0 after --help and --version.
    """
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h"):
        lines = [f"  {verb:12s}{command.__doc__}" for verb, command in COMMANDS.items()]
        print(
            "usage: swell COMMAND ...\n\nPre-train encoders on unlabelled images with generated data, and measure "
            "whether those data help.\n\n" + "\n".join(lines) + "\n\nswell COMMAND --help shows its options."
        )
        raise SystemExit(0)
    if name == "--version":
        from swell import __version__

        print(f"swell {__version__}")
        raise SystemExit(0)
    if name not in COMMANDS:
        raise InputError(f"command {name!r}", "a command of swell", suggest(name, COMMANDS))
    parser = parser_of(name, COMMANDS[name])
    known = [flag for action in parser._actions for flag in action.option_strings]
    for word in argv[1:]:  # before argparse complains of what is missing because a name was misspelt
        flag = word.split("=")[0]
        if flag.startswith("--") and flag != "--" and flag not in known:
            raise InputError(f"unknown option {flag}", f"an option of swell {name}", suggest(flag, known))
    return COMMANDS[name](**vars(parser.parse_args(argv[1:])))


def _refuse_to_repeat(name: str) -> None:
    """Raises InputError for a command that several processes would all do."""
    count = processes()[1]
    if count > 1 and name not in SHARED:
        given = f"swell {name} by {count} processes at once"
        shared = f"{', '.join(SHARED[:-1])} and {SHARED[-1]}"
        raise InputError(given, f"one process; {shared} can be shared", "start it without torchrun")


def _tells() -> bool:
    """Whether this process, of several that share the work, is the one to say how it ended."""
    joining = sys.modules.get("swell.training.distributed")  # not imported for this: it takes torch
    return joining.tells() if joining else speaks()


def _told(line: str, status: int) -> int:
    if _tells():
        print(f"swell: {line}", file=sys.stderr, flush=True)
    else:  # torchrun ends all when the first has ended, which is to be the one that says why
        time.sleep(LINGERING)
    return status


def _show(text: str) -> None:
    """Print the result. A reader who has left, as `head` does, is no error; a full disk is the user's."""
    try:
        print(shown(text).encode("utf-8", "backslashreplace").decode(), flush=True)  # file names may hold any byte
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        reason = os.strerror(error.errno or 0).lower()
        raise InputError(f"standard output ({reason})", "room for the result", "what --out names is complete") from None


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 our fault, 2 the user's input is at fault, 130 interrupted."""
    bind_threads()
    words = sys.argv[1:] if argv is None else argv
    try:
        command = parse(words)
        _refuse_to_repeat(words[0])
        result, text = command()
        if speaks():
            _show(json.dumps(result, ensure_ascii=False) if command.json_ else text)
    except InputError as error:
        return _told(str(error), 2)
    except KeyboardInterrupt:
        return _told("interrupted; what was saved is whole", 130)
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        from swell.ranks import Parted
        from swell.training.watchdog import Diverged

        if isinstance(error, Parted):
            kept = "RUN holds the last checkpoint: go on with --resume" if words[0] == "pretrain" else "start again"
            return _told(f"{error}; {kept}", 1)
        if isinstance(error, Diverged):
            return _told(str(error), 1)
        if _tells():
            raise
        time.sleep(LINGERING)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

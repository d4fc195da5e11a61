"""Options of a command from the fields of a dataclass, and complaints in one line."""

from __future__ import annotations

import argparse
import re
from dataclasses import MISSING, field, fields
from typing import Any, NoReturn, get_args, get_type_hints

from swell.errors import InputError


def argument(text: str, nargs: str | None = None) -> Any:
    """A positional argument; with nargs="+" a list of at least one, for a field of type Sequence[...]."""
    return field(metadata={"help": text, "positional": True, "nargs": nargs})


def option(text: str, default: Any = MISSING, shown: str = "none", many: bool = False) -> Any:
    """An option; without a default it must be given. `shown` says in words what a default of None comes to.

    One of `many`, a field of type Sequence[...], may be given several times.
    """
    metadata = {"help": text, "positional": False, "shown": shown, "many": many}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one InputError."""

    def error(self, message: str) -> NoReturn:
        todo = f"see {self.prog} --help"
        if match := re.fullmatch(r"argument (\S+): invalid (\w+) value: (.*)", message):
            flag, kind, value = match.groups()
            raise InputError(f"{flag} {value}", {"int": "a whole number", "float": "a number"}.get(kind, kind), todo)
        if match := re.fullmatch(r"the following arguments are required: (.*)", message):
            raise InputError(f"{self.prog} without {match[1]}", f"{match[1]} too", todo)
        raise InputError(message, "the arguments of this command", todo)


def parser_of(name: str, command: Any) -> Parser:
    """A parser from the fields of the dataclass `command`: one line of help per option, with its default."""
    parser = Parser(
        f"swell {name}",
        description=command.__doc__,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=200),
    )
    hints = get_type_hints(command)
    for f in fields(command):
        kinds = [kind for kind in get_args(hints[f.name]) or (hints[f.name],) if kind is not type(None)]
        text = f.metadata["help"].replace("%", "%%")
        if f.metadata["positional"]:
            nargs = f.metadata["nargs"]
            parser.add_argument(f.name, metavar=f.name.upper(), type=kinds[0], nargs=nargs, help=text)
            continue
        flag = "--" + f.name.strip("_").replace("_", "-")
        if kinds[0] is bool:
            parser.add_argument(flag, dest=f.name, action="store_true", help=f"{text} (default: off)")
            continue
        if f.metadata["many"]:
            text = f"{text}; may be given several times (default: {f.metadata['shown']})"
            metavar = _metavar(f.name, kinds[0])
            parser.add_argument(
                flag, dest=f.name, metavar=metavar, type=kinds[0], action="append", default=[], help=text
            )
            continue
        required = f.default is MISSING
        shown = "required" if required else f"default: {f.metadata['shown'] if f.default is None else f.default}"
        parser.add_argument(
            flag,
            dest=f.name,
            metavar=_metavar(f.name, kinds[0]),
            type=kinds[0],
            required=required,
            default=None if required else f.default,
            help=f"{text} ({shown})",
        )
    return parser


def _metavar(name: str, kind: type) -> str:
    return {int: "N", float: "X"}.get(kind) or {
        "out": "PATH",
        "from_": "PATH",
        "inflate": "GEN",
        "masks": "PATH",
        "test_masks": "PATH",
        "ood": "DATA",
        "recipe": "NAME|FILE",
    }.get(name, "NAME")


def yes_or_no(flag: str, text: str | None) -> bool | None:
    if text is not None and text not in ("yes", "no"):
        raise InputError(f"{flag} {text}", "yes or no", "leave it out if nobody asks")
    return None if text is None else text == "yes"


def assignments(flag: str, text: str | None) -> dict[str, Any]:
    """`width=256,lr=0.001,network=mlp` as a dict: numbers, true and false where they look so, else text."""
    found: dict[str, Any] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise InputError(f"{flag} {part!r}", "name=value", "separate several by commas")
        found[name.replace("-", "_")] = _plain(value)
    return found


def _plain(value: str) -> Any:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value

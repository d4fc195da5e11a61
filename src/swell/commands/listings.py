"""`swell methods`, `generators`, `recipes` and `doctor`: what there is."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from swell.commands import Result
from swell.options import option


@dataclass(frozen=True)
class Methods:
    """The methods there are."""

    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.methods import METHODS

        return _listing([entry.describe() for entry in METHODS])


@dataclass(frozen=True)
class Generators:
    """The generators there are."""

    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.generators import GENERATORS

        return _listing([entry.describe() for entry in GENERATORS])


@dataclass(frozen=True)
class Recipes:
    """The named recipes and view presets there are."""

    views: bool = option("list the view presets instead", False)
    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.recipes import RECIPES
        from swell.views.plan import VIEWS

        return _listing([entry.describe() for entry in (VIEWS if self.views else RECIPES)])


@dataclass(frozen=True)
class Doctor:
    """What this machine has, and what Swell makes of it."""

    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.training.doctor import aids, extras
        from swell.training.machine import describe_machine

        facts, missing = describe_machine(), extras()
        found = aids(facts["threads_bound"])
        rows = {**{k: v for k, v in facts.items() if k != "packages"}, **facts["packages"]}
        lines = [f"{key:14s} {value}" for key, value in rows.items()]
        lines += ["", "what makes training faster", *(f"{_on(a.on)}  {a.name:26s} {a.why}" for a in found)]
        if missing:
            lines += ["", "extras (python -m pip install 'swell[NAME]')"]
            lines += [
                f"{_on(not lacking)}  {name:26s} {_lacking(lacking)}".rstrip() for name, lacking in missing.items()
            ]
        return {**facts, "faster": [asdict(a) for a in found], "extras_missing": missing}, "\n".join(lines)


def _on(state: bool) -> str:
    return "on " if state else "off"


def _lacking(packages: list[str]) -> str:
    return f"lacks {', '.join(packages)}" if packages else ""


def _listing(rows: list[dict[str, str]]) -> Result:
    return rows, "\n".join(
        f"{r['name']:18s} {r['summary']}" + (f"  ({r['paper']})" if r["paper"] else "") for r in rows
    )

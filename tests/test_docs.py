"""The README is true: its numbers are the results', its Python names exist. What it says to run is run by test_tutorial."""

import re
import subprocess
import sys
from pathlib import Path

import swell
from swell.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_number_is_the_newest_result():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "quote.py", "--check"], check=False)
    assert done.returncode == 0, "run python benchmarks/quote.py"


def test_every_command_is_mentioned():
    assert [name for name in COMMANDS if name not in README] == []


def test_the_python_names_exist():
    names = set(re.findall(r"swell\.(\w+)\(", README))
    assert names >= {"open", "generate", "pretrain", "load", "Encoder"}
    assert [name for name in names if not hasattr(swell, name)] == []
    assert [name for name in swell.__all__ if not hasattr(swell, name)] == []


def test_rooms_import_only_lower_rooms():
    """data, views, nets < methods, generators < training < evaluation < adaptive < report; nothing imports the command line."""
    rank = {
        "data": 0,
        "views": 0,
        "nets": 0,
        "methods": 1,
        "generators": 1,
        "training": 2,
        "evaluation": 3,
        "exporting": 3,
        "adaptive": 4,
        "report": 5,
        "suites": 6,
    }
    wrong = []
    for path in (ROOT / "src" / "swell").rglob("*.py"):
        room = path.parent.name
        for line in path.read_text(encoding="utf-8").splitlines():
            match = re.match(r"\s*(?:from|import) swell\.(\w+)", line)
            if not match:
                continue
            higher = room in rank and rank.get(match[1], -1) > rank[room]
            by_itself = path.name in ("cli.py", "__main__.py") or room == "commands"
            if higher or (match[1] in ("cli", "commands") and not by_itself):
                wrong.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    assert wrong == []


def test_no_file_is_longer_than_400_lines():
    long = {
        str(p): n for p in (ROOT / "src").rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}

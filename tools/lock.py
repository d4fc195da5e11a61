"""Write requirements/lock.txt: every package of the development environment with its version and hashes.

    python tools/lock.py [--check] [--upgrade]

Needs uv (`pip install uv`). One file serves Python 3.11 to 3.13 and every platform, by markers. torch is not in it, nor
what only its CUDA build brings: which build suits is the machine's matter, its version is in constraints.txt, and it is
installed first. `--check` says whether the lock still fits pyproject.toml, without asking for anything newer.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "lock.txt"
HEADER = "# Made by tools/lock.py from pyproject.toml, constraints.txt and tools.in. torch comes first, by itself.\n"
LEFT_OUT = re.compile(r"(torch|triton|nvidia-.*|cuda-.*|pip)==")


def resolved(upgrade: bool) -> str:
    """The lock as uv resolves it, going out from the one there is unless `upgrade`."""
    if shutil.which("uv") is None:
        sys.exit("tools/lock.py needs uv: pip install uv")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lock.txt"
        if LOCK.exists() and not upgrade:
            shutil.copy(LOCK, out)
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--extra", "dev", "--constraints", "constraints.txt"]
        command += ["pyproject.toml", "requirements/tools.in", "--output-file", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return HEADER + kept(out.read_text())


def kept(text: str) -> str:
    """The entries of a lock but those that come with torch. An entry is a line and the indented ones below it."""
    entries = re.split(r"^(?=\S)", text, flags=re.M)
    return "".join(entry for entry in entries if entry.strip() and not LEFT_OUT.match(entry) and entry[0] != "#")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the lock does not fit")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    args = parser.parse_args()
    text = resolved(args.upgrade)
    if args.check:
        if text != LOCK.read_text():
            sys.exit("requirements/lock.txt does not fit pyproject.toml any more: run tools/lock.py")
        return
    LOCK.write_text(text)
    print(f"{LOCK.relative_to(ROOT)}: {len(re.findall('^[^# ].*==', text, flags=re.M))} packages")


if __name__ == "__main__":
    main()

"""Test the oldest or the newest versions that pyproject.toml allows, in an environment of their own.

    python tools/versions.py oldest|newest [--folder .venv-oldest] [--torch 2.11.0] [--all] [-- PYTEST ARGUMENTS]

`oldest` installs every direct requirement of the product and of the extras `omics` and `parquet` at its lower bound,
`newest` at whatever is newest today; both run the tests below (`--all`: all of them, with every development tool). The
oldest torch is, from PyPI, a CUDA build of several GB: `--torch` names another version where only that one is at hand.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("omics", "parquet")
TESTING = ("pytest", "hypothesis", "pandas")
# What leans on numpy, scipy, Pillow, scikit-learn, pandas, h5py, pyarrow, rich and jinja2, from data to report.
TESTS = [
    "tests/data",
    "tests/nets",
    "tests/views",
    "tests/evaluation/test_probe.py",
    "tests/evaluation/test_logistic.py",
    "tests/methods/test_methods_conformance.py",
    "tests/training/test_loop.py",
    "tests/training/test_optim.py",
    "tests/report/test_run_page.py",
    "tests/report/test_tables.py",
    "tests/generators/test_simple.py",
    "tests/test_recipes.py",
    "tests/test_run.py",
    "tests/test_estimator.py",
    "tests/test_cli.py",
    "tests/test_ground.py",
]


def lower_bounds(project: dict[str, object]) -> dict[str, str]:
    """Name -> oldest version, of the product's own requirements and of every extra."""
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]  # type: ignore
    found = (re.match(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("--folder", type=Path, help="of the environment (default .venv-oldest or .venv-newest)")
    parser.add_argument("--torch", help="this version of torch instead of the oldest or newest")
    parser.add_argument("--all", action="store_true", help="run all tests, with every development tool")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    args = parser.parse_args()
    folder = args.folder or ROOT / f".venv-{args.which}"
    bounds = lower_bounds(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
    pins = {name: version for name, version in bounds.items() if args.which == "oldest"}
    if args.torch:
        pins["torch"] = args.torch
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    extras = "dev" if args.all else ",".join(EXTRAS)
    with tempfile.TemporaryDirectory() as temporary:
        constraints = Path(temporary) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
        command = [python, "-m", "pip", "install", "--quiet", "--upgrade", "--constraint", constraints]
        subprocess.run([*command, "--editable", f"{ROOT}[{extras}]", *TESTING], check=True)
    shown = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True, check=True
    )
    wanted = {name.lower() for name in bounds}
    print(*(line for line in shown.stdout.split() if line.partition("==")[0].lower() in wanted), flush=True)
    tests = [] if args.all else TESTS
    return subprocess.run([python, "-m", "pytest", *(args.pytest or tests)], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

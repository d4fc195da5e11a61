"""Build the source distribution and the wheel twice, in two folders and a day apart, and compare their bytes.

    python tools/reproducible.py [--out dist]

Both builds get SOURCE_DATE_EPOCH, the time of the last commit (or the one in the environment), and the setuptools of
this environment: nothing is fetched. The second sees another folder, another time zone and files with other times;
modes and umask, which a wheel would keep, are set. With `--out` the files are kept, their SHA-256
beside them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src")
BUILD = "import sys; from setuptools import build_meta as b; out = sys.argv[1]; b.build_sdist(out); b.build_wheel(out)"
A_DAY = 86_400


def epoch() -> int:
    """Seconds of SOURCE_DATE_EPOCH: the environment's, else the last commit's, else 1980, as old as zip knows."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    git = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return int(done.stdout.strip() or 315_532_800)


def build(folder: Path, when: int, shift: int) -> dict[str, bytes]:
    """File name -> bytes of a build in `folder`, whose files are `shift` seconds older than they are."""
    source, out = folder / "source", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, source / name)
    for path in source.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # as git has them, whatever the umask of the checkout was
        os.utime(path, (path.stat().st_mtime - shift,) * 2)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(when), "TZ": "UTC-7" if shift else "UTC+3"}
    command = [sys.executable, "-c", BUILD, str(out)]
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True, umask=0o022)
    files = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
    return {name: tidied(data, when) if name.endswith(".tar.gz") else data for name, data in files.items()}


def tidied(data: bytes, when: int) -> bytes:
    """A .tar.gz without what setuptools leaves in of the machine: times, owners, modes, order."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=plain, mode="w") as new:
        for member in sorted(old.getmembers(), key=lambda m: m.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = when, 0, 0, "", ""
            member.mode, member.pax_headers = 0o755 if member.isdir() else 0o644, {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=packed, mtime=when) as file:
        file.write(plain.getvalue())
    return packed.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="keep the files here")
    args = parser.parse_args()
    when = epoch()
    with tempfile.TemporaryDirectory() as folder:
        first, second = build(Path(folder) / "a", when, 0), build(Path(folder) / "elsewhere" / "b", when, A_DAY)
    differing = [name for name in {*first, *second} if first.get(name) != second.get(name)]
    if differing:
        sys.exit(f"not reproducible: {', '.join(sorted(differing))}")
    for name, data in first.items():
        print(f"{hashlib.sha256(data).hexdigest()}  {name}")
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / name).write_bytes(data)
    if args.out:
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in first.items())
        (args.out / "SHA256SUMS").write_text(sums)


if __name__ == "__main__":
    main()

"""Environments of the peers: one each, because torchvision beside a CPU build of torch breaks what it is installed with.

They lie in one folder, by default in the user's cache, and are made the first time, with the torch that constraints.txt
pins. solo-learn is installed without its requirements: it pins torch 1.9.1 and Lightning 1.4.7 of 2021.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
VISION = ("torchvision==0.28.0",)
PACKAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # with what they require, and without
    "lightly": (("lightly==1.6.0", *VISION), ()),
    "solo-learn": (
        ("pytorch-lightning==2.6.6", "torchmetrics==1.9.0", "timm==1.0.31", "einops==0.8.2", "scipy", *VISION),
        ("solo-learn==1.0.2",),
    ),
    "diffusers": (("diffusers==0.42.1", "torch"), ()),  # which it does not ask for
    "faiss": (("faiss-cpu==1.15.1", "numpy"), ()),
}


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "swell-peers"


def python_of(peer: str, folder: Path) -> Path:
    """The Python of a peer's environment under `folder`, made if it is not there; of "swell" this one."""
    if peer == "swell":
        return Path(sys.executable)
    wanted, bare = PACKAGES[peer]
    said = hashlib.sha256(f"{wanted} {bare} {CONSTRAINTS.read_text()}".encode()).hexdigest()[:12]
    home, marker = folder / peer, folder / peer / f".{said}"
    python = home / "bin" / "python"
    if marker.exists():
        return python
    print(f"installing {', '.join((*wanted, *bare))} in {home}", file=sys.stderr, flush=True)
    venv.create(home, with_pip=True, clear=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS]
    subprocess.run([*pip, *wanted], check=True)
    if bare:
        subprocess.run([*pip, "--no-deps", *bare], check=True)
    marker.touch()
    return python

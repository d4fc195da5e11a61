"""The allocator is the whole process's, so every case is a process of its own that prints what it saw."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CODE = """
import json, resource
import torch
from swell.training.allocator import memory_reused

def faults():
    def step():
        kept = [torch.ones(8 << 20) for _ in range(4)]  # 32 MiB each: above every threshold glibc sets by itself
        return kept[0] + kept[1]
    for _ in range(8):  # an aligned tensor needs a hole a little larger than itself: the heap grows a few times more
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))

torch.set_num_threads(1)
outside, before = faults(), resident()
with memory_reused():
    inside, kept = faults(), resident()
print(json.dumps({"outside": outside, "inside": inside, "before": before, "kept": kept, "after": resident()}))
"""
MIB_OF_PAGES = 2**20 // os.sysconf("SC_PAGE_SIZE")


def seen(**environment: str) -> dict[str, Any]:
    clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES" and not k.startswith(("MALLOC_", "THP_"))}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=clean | environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    if not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")):
        pytest.skip("the C library is not glibc")
    return seen()


def test_large_tensors_get_their_old_pages_again(numbers: dict[str, Any]) -> None:
    assert numbers["outside"] > 3 * 150 * MIB_OF_PAGES  # 160 MiB a step, all of it touched for the first time
    assert numbers["inside"] < 3 * MIB_OF_PAGES


def test_memory_goes_back_at_the_end(numbers: dict[str, Any]) -> None:
    assert numbers["kept"] > numbers["before"] + 100
    assert numbers["after"] < numbers["before"] + 20


def test_the_users_own_setting_stays(numbers: dict[str, Any]) -> None:
    assert seen(MALLOC_ARENA_MAX="8")["inside"] > 3 * 100 * MIB_OF_PAGES


def test_a_preloaded_allocator_is_left_alone() -> None:
    libraries = [Path(folder) / "libtcmalloc_minimal.so.4" for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64")]
    library = next((path for path in libraries if path.exists()), None)
    if library is None:
        pytest.skip("tcmalloc is not installed")
    code = "from swell.training.allocator import not_reused_because; print(not_reused_because())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True
    )
    assert "tcmalloc is preloaded" in done.stdout

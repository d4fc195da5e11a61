"""Batches decoded ahead: the right ones in any order, whoever decodes them; nothing is lost when a process is."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from packing import shards
from swell.data import ahead as module
from swell.data.ahead import Ahead
from swell.data.open import open_data
from swell.errors import InputError


def rows_of(t):
    """Fifteen or sixteen of forty, by t alone."""
    return torch.randperm(40, generator=torch.Generator().manual_seed(t))[: 16 - t % 2]


@pytest.fixture
def pictures():
    return list(np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("workers", [0, 1, 3, 40])
def test_batches_are_what_they_should_be(tmp_path, pictures, workers):
    images = open_data(shards(tmp_path / "s", pictures)).samples
    expected = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2))
    with Ahead(images, rows_of, 16, workers) as ahead:
        for t in (0, 1, 2, 3, 3, 40, 41, 5, *range(6, 20)):  # again, far ahead, and back
            assert torch.equal(ahead(t), expected[rows_of(t)])
        assert len(ahead._processes) == min(workers, 16)
        processes = list(ahead._processes)
    assert all(process.returncode is not None for process in processes)


def test_a_fixed_number_of_batches_is_under_way(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 3 * 16 * (3 * 64 + 33))
    asked = []
    images = open_data(shards(tmp_path / "s", pictures)).samples
    with Ahead(images, lambda t: asked.append(t) or rows_of(t), 16, 2) as ahead:
        assert ahead.depth == 3
        for t in range(5):
            ahead(t)
            assert asked == list(range(t + 4))


def test_the_unreadable_are_replaced_as_anywhere(tmp_path, pictures):
    broken = [p if i not in (7, 8, 20) else None for i, p in enumerate(pictures)]
    images = open_data(shards(tmp_path / "s", broken), max_bad=0.1).samples
    whole = torch.from_numpy(open_data(tmp_path / "s", max_bad=0.1).samples[:])
    with Ahead(images, rows_of, 16, 2) as ahead:
        for t in range(8):
            assert torch.equal(ahead(t), whole[rows_of(t)])
    assert len(images.unreadable()) == 3


def test_a_changed_file_and_a_killed_process_end_the_run_in_one_line(tmp_path, pictures):
    folder = shards(tmp_path / "s", pictures)
    images = open_data(folder).samples
    with Ahead(images, rows_of, 16, 2) as ahead:
        ahead(0)
        for number in (signal.SIGTERM, signal.SIGINT):  # as a scheduler sends them to all
            ahead._processes[1].send_signal(number)
        for t in range(1, 12):
            ahead(t)
        ahead._processes[1].kill()
        with pytest.raises(InputError, match=r"ended from outside .status -9") as told:
            [ahead(t) for t in range(12, 40)]
        assert "\n" not in str(told.value)
        assert not ahead._processes  # the other is ended too
    with Ahead(images, rows_of, 16, 2) as ahead:
        os.truncate(folder / "00010.tar", 512)
        with pytest.raises(InputError, match="changed since"):
            ahead(0)


PARENT = """
import sys, time, torch
from swell.data.ahead import Ahead
from swell.data.open import open_data
ahead = Ahead(open_data(sys.argv[1]).samples, lambda t: torch.arange(16), 16, 2)
ahead(0)
print(*[p.pid for p in ahead._processes], flush=True)
time.sleep(60)
"""


def test_processes_end_with_their_parent_however_it_ends(tmp_path, pictures):
    folder = shards(tmp_path / "s", pictures)
    with subprocess.Popen([sys.executable, "-c", PARENT, folder], stdout=subprocess.PIPE, text=True) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while any(alive(pid) for pid in children):
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

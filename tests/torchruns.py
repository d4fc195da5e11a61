"""What tests of several processes share: how they are started, and how one of them is killed."""

import os
import signal
import subprocess
import sys

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "swell"]


def kill_the_second(process):
    """SIGKILL for the second worker of a torchrun that is at work; what that says of it, after it has ended."""
    workers = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    os.kill(sorted(map(int, workers.stdout.split()))[1], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    return told

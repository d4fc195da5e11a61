"""A process that answers a `Helpers`' questions until its parent closes the pipe or dies."""

from __future__ import annotations

import signal
import sys
import warnings

from swell.data.folder_helpers import answer
from swell.threads import free_cores


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends this process when it wants to
        signal.signal(number, signal.SIG_IGN)
    free_cores()
    warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(answer(line))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

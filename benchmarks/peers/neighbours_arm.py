"""An arm of the race for nearest neighbours: 20 nearest by cosine among 50,000 rows of 512 numbers, 2,048 at a time.

The rows are the images themselves, cut to 512 numbers and brought to unit length. Each arm tells the neighbours of the
first queries, so that the race can check that both find the same ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pace import Finished, Pace

K, WIDTH, QUERIES, TOLD = 20, 512, 2048, 32


def search(tool: str, rows: Any) -> Callable[[Any], Any]:
    """Queries [m, D] -> rows of their K nearest [m, K]."""
    if tool == "faiss":
        import faiss

        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows)
        return lambda queries: index.search(queries, K)[1]
    import torch

    from swell.evaluation.knn import neighbours

    table = torch.from_numpy(rows)
    return lambda queries: neighbours(table, torch.from_numpy(queries), K)[1].numpy()


def main() -> None:
    pace = Pace()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="uint8 images [N, 3, 32, 32] in a .npy file")
    parser.add_argument("--tool", choices=("swell", "faiss"), required=True)
    args = parser.parse_args()
    if args.tool == "swell":
        from swell.threads import bind_threads

        bind_threads()
    import numpy as np

    images = np.load(args.images, mmap_mode="r")
    rows = np.asarray(images).reshape(len(images), -1)[:, ::6][:, :WIDTH].astype(np.float32)
    rows -= rows.mean(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    find = search(args.tool, rows)
    told = np.sort(find(rows[:TOLD]), axis=1).tolist()
    at = 0
    with suppress(Finished):
        while True:
            find(rows[at : at + QUERIES])
            at = (at + QUERIES) % max(1, len(rows) - QUERIES)
            pace.step(min(QUERIES, len(rows)))
    pace.report(found=told)


if __name__ == "__main__":
    main()

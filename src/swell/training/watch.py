"""A look at the encoder while it trains: scores now and then, for a small share of what the training costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swell.errors import InputError
from swell.ledger import Cost
from swell.nets.encoder import Encoder
from swell.training.folder import read_metrics

MOST = 0.02  # forwards of the looks, of those of the training between them
PREFIX = "score_"  # of their names in metrics.jsonl


@dataclass
class Watch:
    """Looks each time `every`, a share of the budget, is used up, or as often as 2 % of the forwards allow.

    A look changes nothing of the run: not its weights, its random numbers, nor its budget of minutes.
    """

    every: float
    forwards: int  # of one look
    measure: Callable[[Encoder], Mapping[str, float]]
    last: int = 0  # steps done at the last look
    cost: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        if not 0 < self.every <= 1:
            raise InputError(f"--scores-every {self.every:g}", "a share of the budget, above 0 to 1", "0.05 is usual")

    def begin(self, out: Path, cost: Cost) -> None:
        """Go on in the RUN folder `out`, and charge `cost`."""
        self.cost = cost
        lines = read_metrics(out)
        self.last = max((m["step"] + 1 for m in lines if any(key.startswith(PREFIX) for key in m)), default=0)

    def due(self, done: int, before: float, share: float, forwards: int) -> bool:
        """Whether to look after `done` steps of so many `forwards`, the last from `before` to `share` of the budget."""
        crossed = int(share / self.every + 1e-9) > int(before / self.every + 1e-9)
        return crossed and (done - self.last) * forwards * MOST >= self.forwards

    def __call__(self, encoder: Encoder, done: int) -> tuple[dict[str, float], float]:
        """The scores by their names in the log, and the seconds it took."""
        start = time.perf_counter()
        found = {PREFIX + name: value for name, value in self.measure(encoder).items()}
        seconds = time.perf_counter() - start
        self.last = done
        self.cost.seconds += seconds
        self.cost.forwards += self.forwards
        return found, seconds

"""One arm of the race: `swell.pretrain` whole, as the command line starts it, at lightly's settings.

The run is real: batches, views, metrics, ledger, a checkpoint every minute. The method below is SimCLR with a stop
between its steps; that is the only thing put in.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pace import Finished, Pace

from swell.threads import bind_threads

BATCH = 256


def main() -> None:
    pace = Pace()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="uint8 images [N, 3, 32, 32] in a .npy file")
    args = parser.parse_args()
    bind_threads()  # as the command line does, before torch is imported
    from torch import nn

    import swell
    from swell.methods import METHODS
    from swell.methods.registry import Outcome, Views
    from swell.methods.simclr import SimCLR
    from swell.views import ViewGroup, ViewPlan

    @METHODS.register("paced", "simclr with a stop between its steps", "")
    @dataclass(frozen=True)
    class Paced(SimCLR):
        begun: ClassVar[list[bool]] = []

        def loss(self, encoder: nn.Module, parts: nn.ModuleDict, views: Views, progress: float) -> Outcome:
            # A whole step lies between two calls: loss, backward, update, records, next batch, its views.
            if self.begun:
                pace.step(views.batch)
            self.begun.append(True)
            return super().loss(encoder, parts, views, progress)

    views = ViewPlan((ViewGroup(count=2, interpolation="bilinear", blur_p=0.0),))  # SimCLRTransform(gaussian_blur=0)
    recipe = swell.Recipe(
        method="paced",
        method_options={"hidden": 512, "outputs": 128, "temperature": 0.5},
        backbone="resnet18",
        batch_size=BATCH,
        steps=10**6,
        optimizer="sgd",
        learning_rate=0.06,
        momentum=0.0,
        weight_decay=0.0,
        warmup=0.0,
        views=views,
    )
    with tempfile.TemporaryDirectory() as folder, suppress(Finished):
        swell.pretrain(args.images, out=Path(folder) / "run", recipe=recipe, quiet=True)


if __name__ == "__main__":
    main()

"""`swell adapt`: from unlabelled data to the encoder, with weight, strength and amount chosen without labels."""

from __future__ import annotations

from dataclasses import dataclass, fields

from swell.commands import Result
from swell.options import argument, assignments, option


@dataclass(frozen=True)
class Adapt:
    """Choose without labels whether, how much and with how weak views to inflate DATA; train the encoder so."""

    data: str = argument("folder of images, .npz, .npy, .h5ad, .csv, .parquet or builtin:NAME")
    out: str = option("RUN folder to write; OUT/adapt holds the search, OUT/generated the samples")
    budget: str = option("what the search may cost: final runs (2x) or minutes (90m)", "2x")
    method: str | None = option("which method, see `swell methods`; or your own, file.py:Name", None, "the recipe's")
    preset: str | None = option("how to train it: small, large, short, vectors", None, "by data")
    options: str | None = option("settings of the method: temperature=0.5,hidden=512", None)
    generator: str = option("which generator; see `swell generators`", "diffusion")
    generator_options: str | None = option("its settings: width=256,lr=0.001", None)
    generator_steps: int | None = option("its training steps", None, "from the budget in minutes")
    generator_minutes: float | None = option("its training minutes, instead of steps", None, "from the data")
    count: int | None = option("samples to draw", None, "until more of them change nothing")
    steps: int | None = option("budget of the final run in steps", None, "the recipe's")
    epochs: float | None = option("... in passes over as many samples as DATA holds", None, "the recipe's")
    minutes: float | None = option("... in minutes", None, "the recipe's")
    recipe: str = option("name or TOML file; options given here go first", "default")
    batch_size: int | None = option("samples of a batch", None, "the recipe's")
    backbone: str | None = option("conv6, resnet18 (34, 50), vit_tiny (small, base); mlp", None, "by data")
    width: float | None = option("multiplier of the backbone's channels", None, "the recipe's")
    views: str | None = option("view preset at full strength; see `swell recipes --views`", None, "the recipe's")
    size: int | None = option("side in pixels the images are resized to", None, "from the data")
    max_bad: float = option("largest share of unreadable files to accept", 0.01)
    layer: str | None = option("of an .h5ad: the layer that holds the counts, or raw", None, "X")
    batch_key: str | None = option("of an .h5ad: the column of obs that tells the batch", None)
    prepare: str | None = option("of vectors: counts, logged, table or none", None, "by their values")
    seed: int | None = option("seed of everything", None, "the recipe's")
    device: str = option("auto, cpu or cuda", "auto")
    resume: bool = option("go on with the search or run in --out, exactly where it stopped", False)
    checkpoint_seconds: float = option("seconds between checkpoints", 60.0)
    log_to: str | None = option("log to tensorboard, wandb, mlflow too, every run of the search", None)
    allow_label_leak: bool = option("accept DATA that were made with labels", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.adapting import adapt
        from swell.adaptive.state import read_state

        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("json_", "options")}
        run = adapt(**given, method_options=assignments("--options", self.options) or None)
        found, _ = read_state(run.path / "adapt" / "state.json")
        choice, recipe, ledger = found["choice"], run.recipe, run.ledger
        generated = ledger.pretraining.samples_generated > 0
        chosen = f"weight {recipe.weight:g} and views of" if generated else "no generated samples, and views of"
        text = (
            f"encoder in {run.path}: chosen was {choice['name']} ({chosen} strength {recipe.strength:g}); look at "
            f"{run.path / 'adapt' / 'report.html'} for why"
        )
        keys = ("name", "agreement", "margin", "noise", "vetoed", "reasons")
        result = {"out": str(run.path), "chosen": {key: choice[key] for key in keys}, "generated": generated}
        about = {"weight": recipe.weight, "strength": recipe.strength, "ledger": ledger.to_dict()}
        return {**result, **about}, text

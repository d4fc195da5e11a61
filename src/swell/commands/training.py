"""`swell demo` and `swell pretrain`: encoders trained."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from swell.commands import Result
from swell.errors import InputError
from swell.options import argument, assignments, option


@dataclass(frozen=True)
class Demo:
    """The main job on bundled real images: does generated data help? Minutes on two cores."""

    out: str = option("folder for the result", "swell-demo")
    seeds: int = option("repetitions of every arm", 3)
    steps: int = option("steps of every arm; 0 takes the demo's own", 0)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.demo import demo

        for name, value, most in (("seeds", self.seeds, 1000), ("steps", self.steps, 10**9)):
            if value > most:
                raise InputError(f"--{name} {value}", f"{most:,} at most")
        return demo(Path(self.out), seeds=self.seeds, steps=self.steps or None)


@dataclass(frozen=True)
class Pretrain:
    """Pre-train an encoder on unlabelled DATA, with or without generated samples."""

    data: str = argument(
        "folder of images, shards (x-{000..099}.tar), .npz, .npy, .h5ad, .csv, .parquet, builtin:NAME or a GEN folder"
    )
    out: str = option("RUN folder to write")
    method: str | None = option("which method, see `swell methods`; or your own, file.py:Name", None, "the recipe's")
    preset: str | None = option(
        "how to train it: small (to 64 pixels), large, short (few epochs), vectors", None, "by data"
    )
    options: str | None = option("settings of the method: temperature=0.5,hidden=512", None)
    inflate: str | None = option("GEN folder to mix in", None)
    weight: str | None = option("one real sample counts as this many generated ones", None, "the recipe's")
    strength: str | None = option("how hard the views distort: weak, strong or 0 to 1", None, "the recipe's")
    positives: str | None = option("make positive views of: neighbours, or a folder of generated positives", None)
    replace: float | None = option("share of positives taken from --positives or the generator's", None, "all")
    generator_positives: str | None = option(
        "train this generator in turn with the encoder: conditional, vae, ...; or none", None, "the method's"
    )
    generator_options: str | None = option("its settings: condition=film,guidance=1.5", None)
    rounds: int | None = option("times that generator and encoder take turns", None, "1")
    positive_count: int | None = option("positives of a sample that it keeps; 0: new ones for each batch", None, "4")
    positive_strength: float | None = option("how little they keep of their sample, 0 to 1", None, "by generator")
    steps: int | None = option("budget in steps", None, "the recipe's")
    epochs: float | None = option("budget in passes over as many samples as DATA holds", None, "the recipe's")
    minutes: float | None = option("budget in minutes; 0.5 is 30 seconds", None, "the recipe's")
    patches: int | None = option("budget in views (patches) processed", None, "the recipe's")
    flops: float | None = option("budget in FLOPs", None, "the recipe's")
    recipe: str = option("name or TOML file; options given here go first", "default")
    batch_size: int | None = option("samples of a batch", None, "the recipe's")
    backbone: str | None = option("conv6, resnet18 (34, 50), vit_tiny (small, base); mlp", None, "by data")
    backbone_options: str | None = option("its settings: patch=4,pool=mean (ViT), hidden=512,depth=2 (mlp)", None)
    width: float | None = option("multiplier of the backbone's channels", None, "the recipe's")
    views: str | None = option("view preset; see `swell recipes --views`", None, "the recipe's")
    view_count: int | None = option("views of each sample, in the plan's first group", None, "the plan's")
    view_chunk: int | None = option("views encoded at once, for less memory", None, "all")
    optimizer: str | None = option("lars, lars_unclipped, sgd or adamw", None, "the recipe's")
    learning_rate: float | None = option("of the global batch", None, "the recipe's")
    weight_decay: float | None = option("of matrices; biases and norms have none", None, "the recipe's")
    precision: str | None = option("fp32, bf16 or auto", None, "the recipe's")
    size: int | None = option("side in pixels the images are resized to", None, "from the data")
    max_bad: float = option("largest share of unreadable files to accept", 0.01)
    layer: str | None = option("of an .h5ad: the layer that holds the counts, or raw", None, "X")
    batch_key: str | None = option("of an .h5ad: the column of obs that tells the batch", None)
    prepare: str | None = option("of vectors: counts, logged, table or none", None, "by their values")
    seed: int | None = option("seed of the whole run", None, "the recipe's")
    shuffle: str | None = option("of shards: all, or blocks, which slow disks need", None, "by their size")
    workers: int | None = option("processes that decode images in shards", None, "one a core")
    batch_norm: str | None = option("statistics on several devices: shared or device", None, "shared")
    device: str = option("auto, cpu or cuda", "auto")
    compile: bool = option("compile the encoder first", False)
    resume: bool = option("go on with the run in --out, exactly where it stopped", False)
    checkpoint_seconds: float = option("seconds between checkpoints", 60.0)
    scores_every: float | None = option("log label-free scores after each such share of the budget", None, "never")
    log_to: str | None = option("log to tensorboard, wandb, mlflow too; separate several by commas", None)
    allow_label_leak: bool = option("accept generated samples that were made with labels", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.verbs import pretrain

        own = ("json_", "compile", "options")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        settings = assignments("--options", self.options) or None
        run = pretrain(**given, method_options=settings, compile=self.compile or None)
        ledger = run.ledger
        cost = ledger.pretraining
        last = run.metrics[-1] if run.metrics else {}
        recipe, replaced = run.recipe, last.get("replaced", 0.0)
        origin = recipe.positives or recipe.generator_positives
        positives = f", {100 * replaced:.0f} % of positives from {origin}" if replaced else ""
        text = (
            f"encoder in {run.path}: {cost.seconds:.0f} s, {cost.samples_real:,} real and "
            f"{cost.samples_generated:,} generated samples{positives}; look at {run.path / 'report.html'}"
        )
        return {"out": str(run.path), "loss": last.get("loss"), "ledger": ledger.to_dict()}, text

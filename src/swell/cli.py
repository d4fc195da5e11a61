"""The command line: the verbs, thin. Parsing must not import torch, so that `swell --help` is immediate."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from swell.errors import InputError, suggest
from swell.options import argument, assignments, option, parser_of, yes_or_no
from swell.threads import bind_threads

Result = tuple[dict[str, Any] | list[dict[str, Any]], str]  # what --json prints, and what a person reads


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
class Generate:
    """Train a generator on DATA, sample from it, judge the samples; or take samples from outside and judge them."""

    data: str = argument("folder of images, .npz, .npy or builtin:NAME")
    out: str = option("GEN folder to write; unfinished work in OUT.unfinished is gone on with")
    generator: str = option("which generator; see `swell generators`", "diffusion")
    count: int | None = option("samples to draw", None, "10000, or all that --from holds")
    steps: int | None = option("training steps", None, "from the budget in minutes")
    minutes: float | None = option("training minutes, instead of steps", None, "from the data")
    objective: str | None = option("diffusion: edm, ddpm, stf or flow", None, "edm")
    network: str | None = option(
        "diffusion: mlp, pca_mlp or a U-Net: p2_tiny, p4_tiny, p2_small, p2_128, p2_192, unet", None, "what suits"
    )
    sampler: str | None = option("diffusion: ipndm, dpmpp, heun or ancestral", None, "ipndm")
    nfe: int | None = option("diffusion: network evaluations a sample", None, "10")
    options: str | None = option("more of the generator's options: width=256,lr=0.001", None)
    filter: float = option("share of the samples to drop, those least like real ones; copies go with them", 0.0)
    from_: str | None = option("outside samples (folder, .npz) or a diffusers pipeline, instead of training", None)
    trained_on: str | None = option("--from: what its generator learnt from, in words", None)
    labels_used: str | None = option("--from: whether labels or a supervised model helped, yes or no", None)
    filtered: str | None = option("--from: whether its samples were filtered, yes or no", None)
    channel_order: str | None = option("--from: order of the stored colours, rgb or bgr", None, "rgb, checked")
    allow_label_leak: bool = option("accept samples that were made with labels", False)
    features: str | None = option("your own features for the verdict: file.py:function, samples to rows", None)
    size: int | None = option("side in pixels the images are resized to", None, "from the data")
    max_bad: float = option("largest share of unreadable files to accept", 0.01)
    seed: int = option("seed of training and sampling", 0)
    device: str = option("auto, cpu or cuda", "auto")
    force: bool = option("replace an earlier GEN in --out", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.files import read_json
        from swell.userfile import from_file
        from swell.verbs import generate

        given = {"objective": self.objective, "network": self.network, "sampler": self.sampler, "evaluations": self.nfe}
        named = {name: value for name, value in given.items() if value is not None}
        path = generate(
            self.data,
            self.out,
            generator=self.generator,
            count=self.count,
            seed=self.seed,
            steps=self.steps,
            minutes=self.minutes,
            size=self.size,
            max_bad=self.max_bad,
            filter=self.filter,
            options=assignments("--options", self.options) | named,
            from_=self.from_,
            trained_on=self.trained_on,
            labels_used=yes_or_no("--labels-used", self.labels_used),
            filtered=yes_or_no("--filtered", self.filtered),
            channel_order=self.channel_order,
            allow_label_leak=self.allow_label_leak,
            features=from_file("--features", self.features) if self.features else None,
            device=self.device,
            force=self.force,
        )
        quality, count = read_json(path / "quality.json"), read_json(path / "manifest.json")["count"]
        return (
            {"out": str(path), "count": count, "quality": quality, "ledger": read_json(path / "ledger.json")},
            f"{count:,} samples in {path}, {quality['verdict']}; look at {path / 'report.html'}",
        )


@dataclass(frozen=True)
class Pretrain:
    """Pre-train an encoder on unlabelled DATA, with or without generated samples."""

    data: str = argument("folder of images, .npz, .npy, builtin:NAME or a GEN folder")
    out: str = option("RUN folder to write")
    method: str | None = option("which method, see `swell methods`; or your own, file.py:Name", None, "the recipe's")
    preset: str | None = option("how to train it: small (to 64 pixels), large, short (few epochs)", None, "by size")
    options: str | None = option("settings of the method: temperature=0.5,hidden=512", None)
    inflate: str | None = option("GEN folder to mix in", None)
    weight: str | None = option("one real sample counts as this many generated ones", None, "the recipe's")
    strength: str | None = option("how hard the views distort: weak, strong or 0 to 1", None, "the recipe's")
    steps: int | None = option("budget in steps", None, "the recipe's")
    epochs: float | None = option("budget in passes over as many samples as DATA holds", None, "the recipe's")
    minutes: float | None = option("budget in minutes; 0.5 is 30 seconds", None, "the recipe's")
    patches: int | None = option("budget in views (patches) processed", None, "the recipe's")
    flops: float | None = option("budget in FLOPs", None, "the recipe's")
    recipe: str = option("name or TOML file; options given here go first", "default")
    batch_size: int | None = option("samples of a batch", None, "the recipe's")
    backbone: str | None = option("conv6, resnet18 (34, 50) or vit_tiny (small, base)", None, "the recipe's")
    backbone_options: str | None = option("settings of a ViT: patch=4,positions=learned,pool=mean", None)
    width: float | None = option("multiplier of the backbone's channels", None, "the recipe's")
    views: str | None = option("view preset; see `swell recipes --views`", None, "the recipe's")
    view_count: int | None = option("views of each sample, in the plan's first group", None, "the plan's")
    view_chunk: int | None = option("views encoded at once, for less memory", None, "all")
    optimizer: str | None = option("lars, sgd or adamw", None, "the recipe's")
    learning_rate: float | None = option("of the global batch", None, "the recipe's")
    weight_decay: float | None = option("of matrices; biases and norms have none", None, "the recipe's")
    precision: str | None = option("fp32, bf16 or auto", None, "the recipe's")
    size: int | None = option("side in pixels the images are resized to", None, "from the data")
    max_bad: float = option("largest share of unreadable files to accept", 0.01)
    seed: int | None = option("seed of the whole run", None, "the recipe's")
    device: str = option("auto, cpu or cuda", "auto")
    compile: bool = option("compile the encoder first", False)
    resume: bool = option("go on with the run in --out, exactly where it stopped", False)
    checkpoint_seconds: float = option("seconds between checkpoints", 60.0)
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
        text = (
            f"encoder in {run.path}: {cost.seconds:.0f} s, {cost.samples_real:,} real and "
            f"{cost.samples_generated:,} generated samples; look at {run.path / 'report.html'}"
        )
        return {"out": str(run.path), "loss": last.get("loss"), "ledger": ledger.to_dict()}, text


@dataclass(frozen=True)
class Evaluate:
    """Probe a frozen encoder on labelled DATA: kNN, linear, few labels, clusters, and the baselines beside it."""

    run: str = argument("RUN folder")
    data: str = argument("labelled data to probe with")
    test: str | None = option("labelled test data; else a fixed part of DATA", None)
    labels: str | None = option("key of the labels in an .npz", None)
    no_baselines: bool = option("leave out pixels, PCA and a random encoder", False)
    patches: int | None = option("also probe the mean features of this many patches of each sample", None)
    patch_mode: str | None = option("grid (the same patches every time) or random", None, "grid")
    draws: int | None = option("draws of random patches, for their sd", None, "5")
    dense: bool = option("also probe cells of the feature map: what does every pixel of mosaics of DATA show?", False)
    tiles: int | None = option("--dense: samples along a side of a mosaic, 2 to 4", None, "2")
    masks: str | None = option(
        "--dense: folder of PNG masks (pixel value = class) of the images in DATA", None, "mosaics"
    )
    test_masks: str | None = option("--masks: those of the images in --test", None, "a fixed part of --masks")
    finetune: bool = option("also fine-tune a copy of the encoder on the labels", False)
    label_fraction: float | None = option("--finetune: share of the labels to train on", None, "1")
    finetune_epochs: float | None = option("--finetune: passes over these", None, "20, or what 500 steps come to")
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.report.evaluate_text import summary
        from swell.run import Run

        run, own = Run(self.run), ("run", "data", "labels", "no_baselines", "json_")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        result = run.evaluate(self.data, labels=self.labels or True, baselines=not self.no_baselines, **given)
        return result, summary(result, run.path)


@dataclass(frozen=True)
class Embed:
    """Write the features of DATA to an .npz file."""

    run: str = argument("RUN folder")
    data: str = argument("what to encode")
    out: str = option(".npz file to write")
    patches: int | None = option("mean features of this many patches of each sample", None, "the whole sample")
    patch_mode: str | None = option("grid (the same patches every time) or random", None, "grid")
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.verbs import embed

        shape = embed(self.run, self.data, self.out, patches=self.patches, patch_mode=self.patch_mode)
        return {"out": self.out, "shape": list(shape)}, f"features [{shape[0]:,}, {shape[1]}] in {self.out}"


@dataclass(frozen=True)
class Compare:
    """Compare evaluated RUN folders at equal budget: accuracy, costs and ranks that chance does not explain."""

    runs: Sequence[str] = argument("RUN folders; those that differ in their seed only are one arm", nargs="+")
    out: str = option("folder for compare.json, table.md and report.html")
    by: str = option("score to rank by: linear, knn, few_shot_1, few_shot_10, dense or finetune", "linear")
    budget: str | None = option(
        "what must be equal: seconds, flops, views, samples, forwards, teacher_forwards or pixels", None, "what is"
    )
    across_data: bool = option("accept runs that were pre-trained on different data", False)
    force: bool = option("replace an earlier comparison in --out", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.report.compare_text import summary
        from swell.verbs import compare

        result = compare(
            self.runs, self.out, by=self.by, budget=self.budget, across_data=self.across_data, force=self.force
        )
        return result, summary(result, Path(self.out))


@dataclass(frozen=True)
class Methods:
    """The methods there are."""

    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.methods import METHODS

        return _listing([entry.describe() for entry in METHODS])


@dataclass(frozen=True)
class Generators:
    """The generators there are."""

    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.generators import GENERATORS

        return _listing([entry.describe() for entry in GENERATORS])


@dataclass(frozen=True)
class Recipes:
    """The named recipes and view presets there are."""

    views: bool = option("list the view presets instead", False)
    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.recipes import RECIPES
        from swell.views.plan import VIEWS

        return _listing([entry.describe() for entry in (VIEWS if self.views else RECIPES)])


@dataclass(frozen=True)
class Doctor:
    """What this machine has, and what Swell makes of it."""

    json_: bool = option("print as JSON", False)

    def __call__(self) -> Result:
        from swell.training.machine import describe_machine

        facts = describe_machine()
        rows = {**{k: v for k, v in facts.items() if k != "packages"}, **facts["packages"]}
        return facts, "\n".join(f"{key:14s} {value}" for key, value in rows.items())


def _listing(rows: list[dict[str, str]]) -> Result:
    return rows, "\n".join(
        f"{r['name']:18s} {r['summary']}" + (f"  ({r['paper']})" if r["paper"] else "") for r in rows
    )


COMMANDS: dict[str, Any] = {
    "demo": Demo,
    "generate": Generate,
    "pretrain": Pretrain,
    "evaluate": Evaluate,
    "embed": Embed,
    "compare": Compare,
    "methods": Methods,
    "generators": Generators,
    "recipes": Recipes,
    "doctor": Doctor,
}


def parse(argv: list[str]) -> Any:
    """The command of `argv`, ready to call.

    Raises:
        InputError: for anything the person mistyped, in one line.
        SystemExit: with status 0 after --help and --version.
    """
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h"):
        lines = [f"  {verb:12s}{command.__doc__}" for verb, command in COMMANDS.items()]
        print(
            "usage: swell COMMAND ...\n\nPre-train encoders on unlabelled images with generated data, and measure "
            "whether those data help.\n\n" + "\n".join(lines) + "\n\nswell COMMAND --help shows its options."
        )
        raise SystemExit(0)
    if name == "--version":
        from swell import __version__

        print(f"swell {__version__}")
        raise SystemExit(0)
    if name not in COMMANDS:
        raise InputError(f"command {name!r}", "a command of swell", suggest(name, COMMANDS))
    parser = parser_of(name, COMMANDS[name])
    known = [flag for action in parser._actions for flag in action.option_strings]
    for word in argv[1:]:  # before argparse complains of what is missing because a name was misspelt
        flag = word.split("=")[0]
        if flag.startswith("--") and flag != "--" and flag not in known:
            raise InputError(f"unknown option {flag}", f"an option of swell {name}", suggest(flag, known))
    return COMMANDS[name](**vars(parser.parse_args(argv[1:])))


def _show(text: str) -> None:
    """Print the result. A reader who has left, as `head` does, is no error; a full disk is the user's."""
    try:
        print(text.encode("utf-8", "backslashreplace").decode(), flush=True)  # file names may hold any byte
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return
        reason = os.strerror(error.errno or 0).lower()
        raise InputError(f"standard output ({reason})", "room for the result", "what --out names is complete") from None


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 our fault, 2 the user's input is at fault, 130 interrupted."""
    bind_threads()
    try:
        command = parse(sys.argv[1:] if argv is None else argv)
        result, text = command()
        _show(json.dumps(result, ensure_ascii=False) if command.json_ else text)
    except InputError as error:
        print(f"swell: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("swell: interrupted; what was saved is whole", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        from swell.training.watchdog import Diverged

        if not isinstance(error, Diverged):
            raise
        print(f"swell: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

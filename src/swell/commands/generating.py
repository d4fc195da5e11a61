"""`swell generate` and `swell positives`: generators trained and sampled from."""

from __future__ import annotations

from dataclasses import dataclass

from swell.commands import Result
from swell.options import argument, assignments, option, yes_or_no


@dataclass(frozen=True)
class Generate:
    """Train a generator on DATA, sample from it, judge the samples; or take samples from outside and judge them."""

    data: str = argument("folder of images, .npz, .npy, .h5ad, .csv, .parquet or builtin:NAME")
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
    layer: str | None = option("of an .h5ad: the layer that holds the counts, or raw", None, "X")
    batch_key: str | None = option("of an .h5ad: the column of obs that tells the batch", None)
    prepare: str | None = option("of vectors: counts, logged, table or none", None, "by their values")
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
            layer=self.layer,
            batch_key=self.batch_key,
            prepare=self.prepare,
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
class Positives:
    """Make positives of every sample of DATA with a generator, for pretrain --positives."""

    data: str = argument("what swell pretrain will be given: folder, .npz, .h5ad, ...")
    generator: str = option("GEN folder, generator.safetensors, or neighbours, mixup, kde, which need no training")
    out: str = option("folder to write; unfinished work in OUT.unfinished is gone on with")
    count: int = option("positives of every sample", 4)
    strength: float = option("how far they go from their samples, 0 to 1", 0.5)
    codes: str | None = option(
        "a code for every sample (swell embed writes them), if the generator is told codes", None
    )
    size: int | None = option("side in pixels the images are resized to", None, "from the data")
    max_bad: float = option("largest share of unreadable files to accept", 0.01)
    layer: str | None = option("of an .h5ad: the layer that holds the counts, or raw", None, "X")
    batch_key: str | None = option("of an .h5ad: the column of obs that tells the batch", None)
    prepare: str | None = option("of vectors: counts, logged, table or none", None, "by their values")
    allow_label_leak: bool = option("accept a generator that saw labels", False)
    seed: int = option("seed of the positives", 0)
    device: str = option("auto, cpu or cuda", "auto")
    force: bool = option("replace other positives in --out", False)
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.files import read_json
        from swell.positives import positives

        given = {name: value for name, value in vars(self).items() if name not in ("data", "out", "generator", "json_")}
        cache = positives(self.data, self.out, self.generator, **given)
        each = 1000 * cache.cost.seconds / max(cache.cost.samples_generated, 1)
        quality = read_json(cache.path / "quality.json")
        result = {"out": self.out, "count": cache.count, "k": cache.k, "key": cache.key, "seconds_per_1000": each}
        text = f"{cache.k} positives of each of {cache.count:,} samples in {self.out}, {each:.2g} s per 1,000"
        return result | {"quality": quality}, f"{text}; {quality['text']}"

"""Make the next undone measurements of QUEUE.md on a GPU.

    python benchmarks/gpu/run.py --out DIR [--minutes M] [--only ITEM,...] [--tiny]

An item is done when DIR holds its JSON. Generators that take minutes are checkpointed under DIR and gone on with. `--tiny`
runs everything on any machine in a minute or two with networks too small to learn: a rehearsal, its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _inflation
import _masked
import _positives
import _step

import swell
from _common import cifar10, commit, device_line
from swell.data.gen import write_gen
from swell.data.source import Provenance, Source
from swell.evaluation.bag import bag_of_features
from swell.evaluation.evaluate import evaluate_encoder
from swell.evaluation.probe import probe
from swell.files import write_json
from swell.generators.diffusion import Diffusion
from swell.generators.metrics import frechet_distance
from swell.generators.networks import UNet
from swell.generators.objectives import OBJECTIVES, HeldOutLoss
from swell.generators.pictures import write_samples
from swell.generators.quality import judge
from swell.generators.reference import Reference
from swell.generators.registry import split_held_out
from swell.generators.samplers import SAMPLERS
from swell.ledger import peak_memory
from swell.recipes import Recipe
from swell.training.phases import read_phase_log

NETWORKS = ("p2_128", "p2_192", "unet")


class Watched(Diffusion):
    """A diffusion model whose history holds our Frechet distance too."""

    reference: Reference
    real: torch.Tensor  # features of held-out samples

    def look(self, averaged: torch.nn.Module, held_out_loss: HeldOutLoss) -> dict[str, float]:
        row, fitted = super().look(averaged, held_out_loss), self._ready()
        self._fitted = replace(fitted, network=averaged)
        compiled, self._compile = self._compile, False
        made = self.sample(200 if len(self.real) < 1000 else 2048, 0)
        self._fitted, self._compile = fitted, compiled
        return row | {"frechet": frechet_distance(self.real, self.reference.features(made))}


@dataclass
class Bench:
    out: Path
    tiny: bool

    def __post_init__(self) -> None:
        images = cifar10("train")[0]
        images = np.ascontiguousarray(images[:600] if self.tiny else images)
        self.train, self.held_out = (images[index] for index in split_held_out(len(images), 0))
        self.device = "cpu" if self.tiny else "cuda"
        self._reference: Reference | None = None

    @property
    def reference(self) -> Reference:
        if self._reference is None:
            self._reference = Reference.fit(self.train, 0, steps=3 if self.tiny else None)
        return self._reference

    def model(self, network: str, kind: type[Diffusion] = Diffusion, **options: Any) -> Diffusion:
        small: dict[str, Any] = {"width": 8, "depth": 1, "batch": 16} if self.tiny else {}
        return kind(network=network, device=self.device, flip=True, **small, **options)  # type: ignore[arg-type]

    def fit(self, model: Diffusion, minutes: float, name: str) -> Diffusion:
        seconds = 3.0 if self.tiny else 60 * minutes
        return model.fit(
            self.train, held_out=self.held_out, seed=0, seconds=seconds, checkpoint=self.out / f"{name}.pt", quiet=True
        )

    def scores(self, model: Diffusion, name: str) -> dict[str, Any]:
        generated = model.sample(200 if self.tiny else 10_000, 0)
        write_samples(self.out / f"{name}.png", generated, self.held_out)
        quality = judge(generated, self.train, self.held_out, reference=self.reference)
        keys = ("c2st", "frechet_ratio", "kernel_distance_ratio", "coverage_ratio", "density_ratio", "copy_excess")
        return {key: quality[key] for key in (*keys, "verdict")} | {"images": model.cost.samples_real}

    # ---- items ---------------------------------------------------------------------------------------

    def check(self) -> dict[str, Any]:
        """Largest relative error against float64 on the CPU: the network, every loss, every deterministic sampler."""
        device, found = torch.device(self.device), {}
        torch.manual_seed(0)
        net = UNet((3, 32, 32), 32, 1, 0.0, 2).eval()
        for p in net.parameters():  # layers start at zero, which would hide errors behind them
            torch.nn.init.normal_(p, std=0.05)
        exact, there = net.double(), UNet((3, 32, 32), 32, 1, 0.0, 2).eval()
        there.load_state_dict(exact.state_dict())
        there = there.float().to(device)
        y, n, z = torch.randn(8, 3, 32, 32).double() / 2, torch.randn(8, 3, 32, 32).double(), torch.randn(8).double()
        for entry in OBJECTIVES:
            objective = entry.make()
            sigma = objective.sigma_of(z).double()
            want = objective.loss(exact, y, sigma, n, y)
            got = objective.loss(there, *(v.float().to(device) for v in (y, sigma, n, y)))
            found[f"loss {entry.name}"] = abs(float(got) / float(want) - 1)
        edm = OBJECTIVES["edm"]()
        with torch.inference_mode():
            for name in ("heun", "ipndm", "dpmpp"):
                ends = []
                for network, dtype, where in ((exact, torch.float64, "cpu"), (there, torch.float32, self.device)):

                    def denoise(x: torch.Tensor, s: float, network: Any = network) -> torch.Tensor:
                        return edm.denoise(network, x, torch.full((len(x),), s, dtype=x.dtype, device=x.device))

                    x = 40 * n.to(where, dtype)
                    ends.append(SAMPLERS[name](denoise, x, 10, 0.01, 40.0, torch.zeros_like).double().cpu())
                found[f"sampler {name}"] = float((ends[1] - ends[0]).norm() / ends[0].norm())
        model = self.model("p2_small").fit(self.train[:512], steps=20, quiet=True)
        whole = model.sample(300, 0)
        parts = np.concatenate([model.sample(100, 0), model.sample(200, 0, first=100)])
        return {"relative_errors": found, "samples_equal_however_split": bool((whole == parts).all())}

    def peak(self) -> dict[str, Any]:
        found: dict[str, Any] = {"matrix_tflops_bf16": self.matrix_peak()}
        for network in NETWORKS:
            model = self.model(network)
            self.model(network).fit(self.train, held_out=self.held_out, seconds=1 if self.tiny else 25, quiet=True)
            model.fit(self.train, held_out=self.held_out, seconds=2 if self.tiny else 20, quiet=True)
            rate = model.cost.samples_real / model.history[-1]["seconds"]
            flops = model.cost.flops / model.cost.samples_real * rate
            found[network] = {"images_per_second": rate, "share_of_peak": flops / 1e12 / found["matrix_tflops_bf16"]}
        return found

    def matrix_peak(self) -> float:
        size = 256 if self.tiny else 8192
        a = torch.randn(size, size, device=self.device, dtype=torch.bfloat16)
        best = 0.0
        for _ in range(5):
            (a @ a).float().sum().item()
            start = time.perf_counter()
            for _ in range(20):
                b = a @ a
            b.float().sum().item()
            best = max(best, 20 * 2 * size**3 / (time.perf_counter() - start) / 1e12)
        return best

    def p2_128(self) -> dict[str, Any]:
        """The curve is that of the running average while one schedule of 10 minutes goes by."""
        model = self.model("p2_128", Watched)
        model.reference, model.real = self.reference, self.reference.features(self.held_out)  # type: ignore[attr-defined]
        self.fit(model, 10, "p2-128")
        model.save(self.out / "p2-128.safetensors")
        rate = model.cost.samples_real / model.history[-1]["seconds"]
        return {"images_per_second": rate, "history": model.history, **self.scores(model, "p2-128")}

    def million(self) -> dict[str, Any]:
        model = Diffusion.load(self.out / "p2-128.safetensors", self.device)
        count, shard = (400, 200) if self.tiny else (1_000_000, 10_000)
        model.sample(shard, 1)  # compiled now, not in the measured time
        start = time.perf_counter()
        digest = 0
        for first in range(0, count, shard):
            digest ^= hash(model.sample(shard, 0, first).tobytes())
        seconds = time.perf_counter() - start
        return {"count": count, "seconds": seconds, "per_second": count / seconds, "peak_memory_bytes": peak_memory()}

    def equal_minutes(self) -> dict[str, Any]:
        found = {}
        for network in NETWORKS:
            for candidates in (1, 4):
                name = f"{network}-noise{candidates}"
                kept = self.out / f"part-{name}.json"
                if not kept.exists():
                    model = self.fit(self.model(network, noise_candidates=candidates), 1.5, name)
                    write_json(kept, self.scores(model, name))
                found[name] = json.loads(kept.read_text())
        return found

    def pretrained(
        self,
        name: str,
        recipe: Recipe,
        patches: int = 0,
        inflate: Path | None = None,
        also: Callable[[swell.Run, Source, Source], dict[str, float]] | None = None,
    ) -> dict[str, Any]:
        """An encoder of the whole training set, left in `name`, probed on the test set; gone on with if it is there."""
        train, test = (Source(*cifar10_part(part, self.tiny)) for part in ("train", "test"))
        if self.tiny:
            small = {} if recipe.backbone.startswith("vit") else {"width": 0.125}
            narrow = {} if recipe.method in ("mae", "mixed_ae") else {"hidden": 32, "outputs": 16}
            recipe = replace(recipe, batch_size=16, method_options={**recipe.method_options, **narrow}, **small)
            recipe = recipe.with_budget(steps=5)
        run = swell.pretrain(
            train.unlabelled(),
            self.out / name,
            recipe=recipe,
            inflate=inflate,
            device=self.device,
            resume=True,
            quiet=True,
            report=False,
        )
        result, cost = evaluate_encoder(run.encoder, train, test), run.ledger.pretraining
        found = {key: 100 * result[key]["accuracy"] for key in ("knn", "linear")}
        if patches:
            bags = [bag_of_features(run.encoder, source.samples, patches) for source in (train, test)]
            bag = probe(bags[0], train.labels, bags[1], test.labels)  # type: ignore[arg-type]
            found |= {f"bag_{key}": 100 * bag[key]["accuracy"] for key in ("knn", "linear")}
        if also is not None:
            found |= also(run, train, test)
        minutes, rate, ledger = cost.seconds / 60, cost.views / cost.seconds, run.ledger
        return found | {
            "minutes": minutes,
            "generator_minutes": ledger.generator_training.seconds / 60,
            "sampling_minutes": ledger.sampling.seconds / 60,
            "phases": read_phase_log(run.path),
            "samples_per_second": (cost.samples_real + cost.samples_generated) / cost.seconds,
            "views_per_second": rate,
            "teraflops_per_second": cost.flops / cost.seconds / 1e12,
            "share_of_peak": cost.flops / cost.seconds / 1e12 / self.matrix_peak(),
            "peak_memory_bytes": ledger.peak_memory_bytes,
        }

    def emp_ssl(self) -> dict[str, Any]:
        """Published: 90.7 linear, on 4096 projector features of 128 patches, best epoch on the test set."""
        return self.pretrained("emp-ssl", Recipe(method="emp_ssl", batch_size=100, epochs=10), patches=16)

    def simclr(self) -> dict[str, Any]:
        """Published: 83.3 (100 epochs of 256, temperature 0.1) to 85 linear."""
        return self.pretrained("simclr", Recipe(method="simclr", epochs=100, method_options={"temperature": 0.1}))

    def step(self) -> dict[str, Any]:
        """Target: 80,000 views/s, 35 % of the peak."""
        train = Source(*cifar10_part("train", self.tiny)).unlabelled()
        found, peak = _step.measured(train, self.device, self.tiny), self.matrix_peak()
        shares = {name: row["teraflops_per_second"] / peak for name, row in found["modes"].items()}
        return {**found, "matrix_tflops_bf16": peak, "share_of_peak": shares}

    def positives(self, arm: str) -> dict[str, Any]:
        return self.pretrained(arm, _positives.recipe_of(arm, self.tiny))

    def masked(self, arm: str) -> dict[str, Any]:
        return self.pretrained(arm, _masked.recipe_of(arm, self.tiny), also=_masked.dense_and_tuned)

    def inflation(self, arm: str) -> dict[str, Any]:
        """With samples of the generator that `p2-128` left."""
        made = self.out / "inflate-samples" if _inflation.ARMS[arm][0] else None
        if made is not None and not (made / "manifest.json").is_file():
            model = Diffusion.load(self.out / "p2-128.safetensors", self.device)
            samples = model.sample(200 if self.tiny else _inflation.COUNT, 0)
            write_gen(made, samples, Provenance("generated", "CIFAR-10 train", "diffusion"))
        return self.pretrained(arm, _inflation.recipe_of(arm), inflate=made)


def cifar10_part(part: str, tiny: bool) -> tuple[np.ndarray, Provenance, np.ndarray, tuple[str, ...]]:
    images, labels = (np.ascontiguousarray(a[:600] if tiny else a) for a in cifar10(part))
    return images, Provenance("real", f"CIFAR-10 {part}"), labels, tuple(map(str, range(10)))


ITEMS: dict[str, tuple[Callable[[Bench], dict[str, Any]], float]] = {  # the measurement, minutes it needs
    "check": (Bench.check, 1),
    "peak": (Bench.peak, 3),
    "step": (Bench.step, 3),
    "emp-ssl": (Bench.emp_ssl, 9),
    "simclr": (Bench.simclr, 9),
    "p2-128": (Bench.p2_128, 11.5),
    "million": (Bench.million, 5),
    "equal-minutes": (Bench.equal_minutes, 11),
    **{arm: (partial(Bench.masked, arm=arm), _masked.NEEDS) for arm in _masked.ARMS},
    **{arm: (partial(Bench.positives, arm=arm), _positives.NEEDS) for arm in _positives.ARMS},
    **{arm: (partial(Bench.inflation, arm=arm), _inflation.NEEDS) for arm in _inflation.ARMS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bench, began = Bench(args.out, args.tiny), time.perf_counter()
    for name in args.only.split(",") if args.only else ITEMS:
        measure, needs = ITEMS[name]
        path = args.out / f"{name}.json"
        left = args.minutes - (time.perf_counter() - began) / 60
        if path.exists() or (left < needs and not args.tiny):
            print(f"{name:15s}{'done already' if path.exists() else f'needs {needs:g} minutes, {left:.1f} are left'}")
            continue
        start = time.perf_counter()
        result = measure(bench)
        seconds = time.perf_counter() - start
        write_json(path, {"item": name, **result, "seconds": seconds, "device": device_line(), "commit": commit()})
        shown = {key: value for key, value in result.items() if key not in ("history", "phases", "profile")}
        print(f"{name:15s}{seconds:7.1f} s  {json.dumps(shown)}", flush=True)


if __name__ == "__main__":
    main()

"""`swell generate`: train a generator on a source, sample from it, judge the samples, leave a GEN folder.

The work is cut into pieces (training, reference encoder, filter, shards, verdict) that several processes may share
and that survive a kill (work.py).
"""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import numpy as np

from swell.console import Progress, duration, say
from swell.data.gen import (
    SHARD_SIZE,
    read_manifest,
    refuse_to_overwrite,
    shard_name,
    write_manifest,
    write_shard,
)
from swell.data.source import Provenance, Source
from swell.devices import pick_device
from swell.errors import InputError, suggest
from swell.files import new_folders, read_json, sha256_of, write_json
from swell.generators import GENERATORS, Generator, load_generator
from swell.generators.filtering import Filter
from swell.generators.pictures import write_pairs, write_samples
from swell.generators.quality import MOST_FRECHET, judge_once
from swell.generators.reference import Reference
from swell.generators.registry import check_fit_samples, split_held_out
from swell.generators.stored import Ready, stored_count
from swell.generators.work import LOOK_AGAIN, Work, read_piece, share_of_work, write_piece
from swell.ledger import Cost, Ledger


def generate(
    source: Source,
    out: Path | str,
    *,
    generator: str | Ready = "diffusion",
    count: int = 10_000,
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    filter_share: float = 0.0,
    provenance: Provenance | None = None,
    features: Callable[[np.ndarray], np.ndarray] | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Path:
    """Learn the samples of `source`, draw `count` new ones and write them to the folder `out`, which is
    returned.

    The budget of the training is `steps` or `minutes`; without either it is a minute on small samples.
    `options` go to the generator. A tenth of the samples (5,000 at most) is held out: it stops the training
    at its best and shows whether samples are copies. Labels are never read. `filter_share` of the samples, those
    least like real ones, are dropped, and suspected copies with them.

    A generator that is not ours to train may be given as an object, with the `provenance` of what it draws. `features`
    of the user's own are one more opinion in the verdict.

    Interrupted work lies in `OUT.unfinished`; the same call goes on with it, and several processes that make the same
    call share it. A folder made with the same settings is kept as it is, one with fewer samples is extended; one made
    with others only yields to `force`.

    Raises:
        InputError: data nothing can be learnt from, an unknown generator or option, a folder in the way.
    """
    out, source = Path(out), source.unlabelled()
    if count < 1:
        raise InputError(f"--count {count}", "at least one sample", "10000 is usual")
    if (steps is not None and steps < 1) or (minutes is not None and not minutes > 0):
        raise InputError(f"--steps {steps} --minutes {minutes}", "a positive budget", "leave both out for the default")
    if not 0 <= filter_share < 1:
        raise InputError(f"--filter {filter_share}", "a share from 0 to below 1", "0.2 drops a fifth of the samples")
    check_fit_samples(source.samples)
    untrained = make_generator(generator, options) if isinstance(generator, str) else None
    model = untrained or cast(Ready, generator)
    name = generator if isinstance(generator, str) else (provenance.generator if provenance else "outside")
    settings = json.loads(
        json.dumps(
            {
                "generator": name,
                "options": model.options,
                "trained_on": source.fingerprint,
                "count": count,
                "seed": seed,
                "steps": steps,
                "minutes": minutes,
                "filter": filter_share,
            }
        )
    )
    work = Work(out, settings)
    if work.is_done and not force:
        work.tidy()
        say(f"{out} already holds these samples; --force makes them again")
        return out
    if force or not work.seed_from_finished():
        refuse_to_overwrite(out, force)
    provenance = provenance or provenance_of(source, name, out)
    provenance = replace(provenance, filtered=provenance.filtered or filter_share > 0)
    making = _Making(work, model, source, provenance, options.get("device", "auto"), quiet)
    with new_folders(out.parent):
        try:
            work.open(force)
            seconds = 60 * minutes if minutes else None if steps else default_seconds(source.shape)
            if untrained is not None:
                making.train(untrained, steps, seconds)
            making.shards()
            making.finish(features)
        except BaseException:
            work.abandon()
            raise
    return out


@dataclass
class _Making:
    """The pieces of one GEN, each made once by whichever process comes first."""

    work: Work
    model: Ready
    source: Source
    provenance: Provenance
    device: str
    quiet: bool
    train_set: np.ndarray = field(init=False)
    held_out: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.seed, self.count = self.work.settings["seed"], self.work.settings["count"]
        self.train_set, self.held_out = (
            self.source.samples[index] for index in split_held_out(len(self.source), self.seed)
        )
        self.files = [shard_name(k) for k in range(math.ceil(self.count / SHARD_SIZE))]
        self._reference: Reference | None = None
        self._rows: dict[int, dict[str, Any]] = {}  # of shards that were read and are what their rows say

    def train(self, untrained: Generator, steps: int | None, seconds: float | None) -> None:
        """Leaves `generator.safetensors`, and its cost and history in `generator.json`."""
        if not self.quiet and not (self.work.folder / "generator.safetensors").exists():
            budget = " or ".join(
                ([f"{steps:,} steps"] if steps else []) + ([duration(seconds)] if seconds is not None else [])
            )
            say(
                f"learning {len(self.train_set):,} samples {list(self.source.shape)} with "
                f"{self.work.settings['generator']} for {budget}, {len(self.held_out):,} held out; "
                f"then drawing {self.count:,}"
            )

        def fit(path: Path) -> None:
            untrained.fit(
                self.train_set,
                held_out=self.held_out,
                seed=self.seed,
                steps=steps,
                seconds=seconds,
                checkpoint=self.work.folder / "training.pt",
                quiet=self.quiet,
            )
            write_json(
                self.work.folder / "generator.json",
                {"cost": vars(untrained.cost), "history": untrained.history},
            )
            untrained.save(path)

        file = self.work.once("generator.safetensors", fit)
        self.model = load_generator(file, self.device)  # every process draws from the stored weights

    @property
    def reference(self) -> Reference:
        if self._reference is None:
            found: list[Reference] = []

            def fit(path: Path) -> None:
                found.append(Reference.fit(self.train_set, self.seed, device=self.device, quiet=self.quiet))
                write_piece(found[0].to_tensors(), path)

            file = self.work.once("reference.safetensors", fit)
            self._reference = found[0] if found else Reference.from_tensors(read_piece(file), self.device)
        return self._reference

    def filter(self) -> Filter | None:
        share = self.work.settings["filter"]
        if share == 0:
            return None

        def fit(path: Path) -> None:
            enough = stored_count(self.model) or MOST_FRECHET  # not `count`: more samples must find the same filter
            first = self.model.sample(min(enough, MOST_FRECHET), self.seed, 0, quiet=self.quiet)
            made = Filter.fit(first, self.train_set, self.held_out, share, self.reference, self.seed)
            write_piece(made.to_tensors(), path)

        file = self.work.once("filter.safetensors", fit)
        return Filter.from_tensors(read_piece(file), self.reference.device)

    def drawn(self, k: int) -> int:
        """How many samples shard k stands for, before any filter."""
        return min(SHARD_SIZE, self.count - k * SHARD_SIZE)

    def row(self, k: int) -> dict[str, Any] | None:
        """What is known of shard k, where it is there and whole."""
        if k not in self._rows:  # read once: an earlier process's may have been cut short since
            row = self.work.note(self.files[k])
            if row is None or row.get("drawn") != self.drawn(k):
                return None
            self._rows[k] = row
        return self._rows[k]

    def shards(self) -> None:
        """Make what is missing, beginning at a place of this process's own."""
        rank, world = share_of_work()
        begin = len(self.files) * rank // world % len(self.files)
        order = [*range(begin, len(self.files)), *range(begin)]
        sieve = self.filter()
        missing = {k for k in order if self.row(k) is None}
        start = self.count - sum(self.drawn(k) for k in missing)
        with Progress("samples", self.count, "samples", quiet=self.quiet or rank > 0, start_at=start) as bar:
            while missing and not self.work.is_done:
                mine_any = False
                for k in [k for k in order if k in missing]:
                    with self.work.claim(self.files[k]) as mine:
                        if mine and self.row(k) is None and not self.work.is_done:
                            done = self.count - sum(self.drawn(j) for j in missing)
                            bar.part(done / self.count, (done + self.drawn(k)) / self.count, own_words=True)
                            self.make_shard(k, sieve)
                            mine_any = True
                    if self.row(k) is not None:
                        missing.discard(k)
                        bar.update(self.count - sum(self.drawn(j) for j in missing))
                if missing and not mine_any:
                    time.sleep(LOOK_AGAIN)

    def make_shard(self, k: int, sieve: Filter | None) -> None:
        before, first = replace(self.model.sampling_cost), k * SHARD_SIZE
        samples = self.model.sample(self.drawn(k), self.seed, first, quiet=self.quiet)
        kept = samples if sieve is None else samples[sieve.keep(samples)]
        path = self.work.folder / self.files[k]
        write_shard(path, kept)
        row = {
            "file": path.name,
            "first": first,
            "count": len(kept),
            "drawn": len(samples),
            "sha256": sha256_of(path),
            "cost": vars(self.model.sampling_cost.since(before)),
        }
        write_json(path.with_name(f"{path.name}.row.json"), row)

    def finish(self, features: Callable[[np.ndarray], np.ndarray] | None) -> None:
        """The verdict, the manifest, and the folder's final name; or wait while another process does that."""
        while not self.work.is_done:
            with self.work.claim("finish") as mine:
                if mine and not self.work.is_done:
                    self._judge_and_rename(features)
            if not mine:
                time.sleep(LOOK_AGAIN)
        quality = read_json(self.work.out / "quality.json")
        if not self.quiet:
            kept = read_manifest(self.work.out)["count"]
            say(
                f"{self.work.out}: {kept:,} samples, {quality['verdict']}: told from real with accuracy "
                f"{quality['c2st']:.2f} (0.5 is best), coverage {quality['coverage_ratio']:.2f} of real, "
                f"copies {quality['copy_excess']:.1f} times those among unseen real ones"
            )

    def _judge_and_rename(self, features: Callable[[np.ndarray], np.ndarray] | None) -> None:
        folder = self.work.folder
        rows = [row for k in range(len(self.files)) if (row := self.row(k)) is not None and row["count"] > 0]
        if not rows:
            raise InputError("a filter that keeps no sample", "samples to keep", "give a smaller --filter")
        ledger = Ledger()
        for row in rows:
            ledger.sampling.add(Cost(**row["cost"]))
        trained = folder / "generator.json"
        if not trained.exists() and (folder / "generator.safetensors").exists():
            todo = "delete generator.safetensors beside it to train again"
            raise InputError(f"{trained} (missing)", "what the training cost", todo)
        training = read_json(trained) if trained.exists() else {}
        ledger.generator_training.add(Cost(**training.get("cost", {})))
        generated = first_samples(folder, rows, MOST_FRECHET)
        told, both = folder / "quality.json", (self.train_set, self.held_out)
        quality = judge_once(told, generated, *both, reference=self.reference, features=features, seed=self.seed)
        ledger.evaluation.seconds += quality["judged"]["seconds"]
        quality["training"] = training.get("history", [])
        write_json(told, quality)
        if self.source.is_images:
            write_samples(
                folder / "samples.png", generated, self.held_out if len(self.held_out) >= 100 else self.source.samples
            )
            closest = np.array(quality["nearest_pairs"])  # [n, 2]
            write_pairs(folder / "nearest.png", generated[closest[:, 0]], self.train_set[closest[:, 1]])
        ledger.note_memory()
        each = 1000 * ledger.sampling.seconds / max(ledger.sampling.samples_generated, 1)
        extra = {"parameters": self.model.parameters, "seconds_per_1000_samples": each}
        write_json(folder / "ledger.json", {**ledger.to_dict(), **extra})
        weights = folder / "generator.safetensors"
        write_manifest(
            folder,
            renumbered(rows),
            shape=self.source.shape,
            dtype=str(self.source.samples.dtype),
            seed=self.seed,
            settings=self.work.settings,
            generator_sha256=sha256_of(weights) if weights.exists() else getattr(self.model, "sha256", ""),
            sampler=self.model.sampler_settings(),
            provenance=self.provenance,
        )
        self.work.finish()


def first_samples(folder: Path, rows: list[dict[str, Any]], count: int) -> np.ndarray:
    """The first `count` samples of the shards that `rows` tell of."""
    parts: list[np.ndarray] = []
    for row in rows:
        if sum(map(len, parts)) >= count:
            break
        with np.load(folder / row["file"], allow_pickle=False) as shard:
            (name,) = shard.files
            parts.append(shard[name])
    return np.concatenate(parts)[:count]


def renumbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for the manifest: `first` counts the samples that are there, `drawn_from` those that were drawn."""
    found, first = [], 0
    for row in rows:
        found.append({**row, "first": first, "drawn_from": row["first"]})
        first += row["count"]
    return found


def make_generator(name: str, options: dict[str, Any]) -> Generator:
    """The untrained generator `name`. Raises InputError for unknown names and options."""
    check_option_names(name, options)
    hints = get_type_hints(GENERATORS[name].__init__)
    for option, value in options.items():
        kinds = [kind for kind in get_args(hints[option]) or (hints[option],) if isinstance(kind, type)]
        fits = isinstance(value, tuple(kinds)) or (isinstance(value, int) and float in kinds)
        if kinds and (not fits or (isinstance(value, bool) and bool not in kinds)):
            names = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
            raise InputError(f"option {option} {value!r} of generator {name}", f"a value of the right kind, {names}")
    return GENERATORS[name](**options)


def check_option_names(name: str, options: dict[str, Any]) -> None:
    """Raises InputError for an option that generator `name` does not have."""
    known = options_of(name)
    for option in options:
        if option not in known:
            raise InputError(f"option {option!r} of generator {name}", "a known option", suggest(option, known))


def options_of(name: str) -> list[str]:
    """The names of the options of generator `name`."""
    return list(inspect.signature(GENERATORS[name]).parameters)


def provenance_of(source: Source, generator: str, out: Path) -> Provenance:
    """Generated samples inherit what taints their source: labels, conditioning or filtering stay known one
    generation later.
    """
    p = source.provenance
    return Provenance(
        "generated",
        str(out),
        generator,
        source.fingerprint,
        conditional=p.conditional,
        filtered=p.filtered,
        labels_used=p.labels_used,
        channel_order=p.channel_order,
    )


def default_seconds(shape: tuple[int, ...]) -> float:
    """The training budget where the user names none: what shows fair samples on two cores, not the best
    ones. With a GPU, ten minutes for images.
    """
    if pick_device().type == "cuda" and len(shape) == 3 and min(shape[1:]) >= 16:
        return 600.0
    return 60.0 if math.prod(shape) <= 256 else 180.0

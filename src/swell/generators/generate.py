"""`swell generate`: train a generator on a source, sample from it, judge the samples, leave a GEN folder."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swell.console import duration, say
from swell.data.gen import is_gen, new_gen, read_manifest, refuse_to_overwrite, write_manifest, write_shards
from swell.data.source import Provenance, Source
from swell.errors import InputError, suggest
from swell.files import atomic_path, sha256_of, write_json
from swell.generators import GENERATORS, Generator
from swell.generators.quality import MOST_FRECHET, judge
from swell.generators.registry import check_fit_samples, split_held_out
from swell.ledger import Ledger, timed


def generate(
    source: Source,
    out: Path | str,
    *,
    generator: str = "diffusion",
    count: int = 10_000,
    seed: int = 0,
    steps: int | None = None,
    minutes: float | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Path:
    """Learn the samples of `source`, draw `count` new ones and write them to the folder `out`, which is
    returned.

    The budget of the training is `steps` or `minutes`; without either it is a minute on small samples.
    `options` go to the generator. A tenth of the samples (5,000 at most) is held out: it stops the training
    at its best and shows whether samples are copies. Labels are never read. A folder made with the same
    settings is kept as it is; one made with others only yields to `force`.

    Raises:
        InputError: data nothing can be learnt from, an unknown generator or option, a folder in the way.
    """
    out, source = Path(out), source.unlabelled()
    if count < 1:
        raise InputError(f"--count {count}", "at least one sample", "10000 is usual")
    if (steps is not None and steps < 1) or (minutes is not None and not minutes > 0):
        raise InputError(f"--steps {steps} --minutes {minutes}", "a positive budget", "leave both out for the default")
    check_fit_samples(source.samples)
    model = make_generator(generator, options)
    settings = {
        "generator": generator,
        "options": model.options,
        "trained_on": source.fingerprint,
        "count": count,
        "seed": seed,
        "steps": steps,
        "minutes": minutes,
    }
    if not force and is_gen(out) and read_manifest(out).get("settings") == settings:
        say(f"{out} already holds these samples; --force makes them again")
        return out
    refuse_to_overwrite(out, force)

    seconds = 60 * minutes if minutes else None if steps else default_seconds(source.shape)
    train, held_out = (source.samples[index] for index in split_held_out(len(source), seed))
    if not quiet:
        budget = " or ".join(([f"{steps:,} steps"] if steps else []) + ([duration(seconds)] if seconds else []))
        say(
            f"learning {len(train):,} samples {list(source.shape)} with {generator} for {budget}, "
            f"{len(held_out):,} held out; then drawing {count:,}"
        )
    ledger = Ledger(generator_training=model.cost, sampling=model.sampling_cost)
    with new_gen(out, force=force) as folder:
        model.fit(train, held_out=held_out, seed=seed, steps=steps, seconds=seconds, quiet=quiet)
        model.save(folder / "generator.safetensors")
        seen: list[np.ndarray] = []  # the first shards, for the judge

        def draw(number: int, first: int) -> np.ndarray:
            made = model.sample(number, seed, first, quiet=quiet)
            if first < MOST_FRECHET:
                seen.append(made[:MOST_FRECHET])
            return made

        shards = write_shards(folder, draw, count)
        generated = np.concatenate(seen)[:MOST_FRECHET]
        with timed(ledger.evaluation):
            quality = judge(generated, train, held_out) | {"training": model.history}
        write_json(folder / "quality.json", quality)
        if source.is_images:
            write_picture(folder / "samples.png", generated, held_out if len(held_out) >= 100 else source.samples)
        ledger.note_memory()
        write_json(folder / "ledger.json", ledger.to_dict())
        write_manifest(
            folder,
            shards,
            shape=source.shape,
            dtype=str(source.samples.dtype),
            seed=seed,
            settings=settings,
            generator_sha256=sha256_of(folder / "generator.safetensors"),
            sampler=model.sampler_settings(),
            provenance=provenance_of(source, generator, out),
        )
    if not quiet:
        say(
            f"{out}: {count:,} samples; told from real with accuracy {quality['c2st']:.2f} (0.5 is best), "
            f"Frechet ratio {quality['frechet_ratio']:.1f}, "
            f"copy distance ratio {quality['copy_distance_ratio']:.2f}"
        )
    return out


def make_generator(name: str, options: dict[str, Any]) -> Generator:
    """The untrained generator `name`. Raises InputError for unknown names and options."""
    make = GENERATORS[name]
    known = list(inspect.signature(make).parameters)
    for option in options:
        if option not in known:
            raise InputError(f"option {option!r} of generator {name}", "a known option", suggest(option, known))
    return make(**options)


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
    ones.
    """
    return 60.0 if math.prod(shape) <= 1024 else 180.0


def write_picture(path: Path, generated: np.ndarray, real: np.ndarray, side: int = 10) -> None:
    """side x side generated images on the left, as many real ones on the right: uint8 [N, C, H, W],
    enlarged to be seen.
    """
    height, width = generated.shape[2:]
    scale = max(round(32 / max(height, width)), 1)
    sheets = []
    for images in (generated, real):
        sheet = np.full((side * (height + 1), side * (width + 1), 3), 255, np.uint8)
        for number, image in enumerate(images[: side * side]):
            colour = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)  # [3, H, W]
            y, x = number // side * (height + 1), number % side * (width + 1)
            sheet[y : y + height, x : x + width] = colour.transpose(1, 2, 0)
        sheets.append(sheet)
    gap = np.full((len(sheets[0]), max(width // 2, 2), 3), 255, np.uint8)
    picture = Image.fromarray(np.concatenate([sheets[0], gap, sheets[1]], axis=1))
    with atomic_path(path) as temporary:
        picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(temporary, "PNG")

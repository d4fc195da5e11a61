"""A run: the folder that `swell pretrain` leaves behind, opened for use."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as safetensors_from
from torch import nn

from swell.checkpoint import load_checkpoint
from swell.data.gen import is_gen, open_gen
from swell.data.masks import Masked, has_class_folders, of_same_classes, open_masks, split_masks
from swell.data.open import open_data
from swell.data.preparation import Preparation
from swell.data.source import Source
from swell.devices import pick_device
from swell.errors import InputError
from swell.files import read_json, write_json
from swell.ledger import Cost, Ledger
from swell.methods import METHODS, Method, make_method
from swell.nets.encoder import Encoder, EncoderConfig
from swell.recipes import Recipe, read_recipe
from swell.training.folder import PREPARATION, read_metrics
from swell.views.plan import ViewGroup


class Run:
    """`swell.load("run")`: encode with it, evaluate it, read what it cost.

    Raises:
        InputError: when `path` is not a finished run.
    """

    def __init__(self, path: Path | str, device: str = "auto") -> None:
        self.path = Path(path)
        if not os.path.isfile(self.path / "encoder.safetensors"):
            finish = (
                "finish it with --resume"
                if os.path.isfile(self.path / "recipe.toml")
                else "give a folder made by swell pretrain"
            )
            raise InputError(str(path), "a finished run (encoder.safetensors in it)", finish)
        self.encoder = load_encoder(self.path).to(pick_device(device))
        kept = self.path / PREPARATION
        self.preparation = Preparation.load(kept) if os.path.isfile(kept) else None  # of images there is none

    @property
    def recipe(self) -> Recipe:
        recipe = read_recipe(self.path / "recipe.toml")[0]
        if isinstance(recipe.views, str):
            raise InputError(
                f"{self.path / 'recipe.toml'}: views = {recipe.views!r}", "the whole plan, as swell wrote it"
            )
        return recipe

    @property
    def data_fingerprints(self) -> dict[str, str]:
        """Fingerprints of what it was trained on: `real` and, with inflation, `generated`."""
        return read_recipe(self.path / "recipe.toml")[1]

    @property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """Where those came from: swell.Provenance as a dict, for `real` and `generated`."""
        return read_recipe(self.path / "recipe.toml")[2]

    @property
    def ledger(self) -> Ledger:
        return read_ledger(self.path / "ledger.json")

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return read_metrics(self.path)

    def parts(self) -> tuple[Method, nn.ModuleDict] | None:
        """The method and what it trained beside the encoder, in eval mode, to look at; None where there is none:

        where the checkpoint is gone, damaged or of another moment than the encoder, and for a method in a user's file,
        because opening a folder shall run no code that its recipe names.
        """
        recipe = self.recipe
        if recipe.method not in METHODS:
            return None
        device = self.encoder.mean.device
        try:
            saved = load_checkpoint(self.path / "checkpoint.pt")
            method = make_method(recipe.method, recipe.method_options)
            with torch.random.fork_rng([device] if device.type == "cuda" else []):  # for weights that are replaced
                parts = method.parts(self.encoder)
            parts.load_state_dict(saved["parts"])
            own = self.encoder.state_dict()
            same = saved["encoder"].keys() == own.keys() and all(
                torch.equal(saved["encoder"][name].to(device), weights) for name, weights in own.items()
            )
        except (InputError, LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            return None
        return (method, parts.to(device).eval()) if same else None

    def open(self, data: Any, labels: bool | str = False, **options: Any) -> Source:
        """Open `data` as the run saw its own: images at the size it was trained on, vectors by its own preparation."""
        shape = self.encoder.config.shape
        if self.encoder.takes_vectors:
            self._refuse_prepared_otherwise(data)
            options |= {"prepare": "none"} if self.preparation is None else {"preparation": self.preparation}
        square = len(shape) == 3 and shape[1] == shape[2]
        size = options.pop("size", None) or (shape[1] if square else None)
        source = open_data(data, labels=labels, size=size, **options)
        if source.is_images and source.shape == (1, *shape[1:]) and shape[0] == 3:  # a folder of grey images only
            source = replace(source, samples=np.repeat(source.samples, 3, axis=1))
        if source.shape != tuple(shape):
            raise InputError(
                f"samples of shape {list(source.shape)}",
                f"the run's shape {list(shape)}",
                "evaluate on data of the same kind",
            )
        return source

    def _refuse_prepared_otherwise(self, data: Any) -> None:
        own = data.preparation if isinstance(data, Source) else None
        if own is not None and (self.preparation is None or own.fingerprint != self.preparation.fingerprint):
            given = f"{data.provenance.origin} ({own.kind}, prepared by what it holds itself)"
            raise InputError(given, "samples prepared as in pre-training", "give the file, or run.open(file)")

    @property
    def about(self) -> dict[str, str | int]:
        """In plain words and numbers what made the features, to write beside them."""
        from swell import __version__

        recipe, cost = self.recipe, self.ledger.pretraining
        return {
            "swell": __version__,
            "run": str(self.path),
            "method": recipe.method,
            "backbone": recipe.backbone,
            "seed": recipe.seed,
            "samples_seen": cost.samples_real + cost.samples_generated,
            "preparation": "none" if self.preparation is None else self.preparation.describe(),
            "preparation_fingerprint": "" if self.preparation is None else self.preparation.fingerprint,
            "trained_on": self.data_fingerprints.get("real", ""),
            "inflated_with": self.data_fingerprints.get("generated", ""),
        }

    @property
    def patch(self) -> ViewGroup:
        """The first group of its views, which says what patches of a sample look like."""
        recipe = self.recipe
        assert not isinstance(recipe.views, str)
        return recipe.views.at_strength(recipe.strength).image_groups[0]

    def encode(self, data: Any, patches: int | None = None, patch_mode: str | None = None, seed: int = 0) -> np.ndarray:
        """Features float32 [N, D] of anything `swell.open` takes; of whole, clean samples.

        With `patches` K, their mean over K patches of each sample instead, at the cost of K forwards: on a "grid", or
        "random" ones drawn with `seed`. See `swell.evaluation.bag.bag_of_features`.
        """
        from swell.evaluation.bag import bag_of_features, check_bag

        mode, _ = check_bag(patches, patch_mode)
        samples = self.open(data, quiet=True).samples
        if patches is None:
            return self.encoder.encode(samples)
        return bag_of_features(self.encoder, samples, patches, mode, self.patch, seed)

    def evaluate(
        self,
        data: Any,
        test: Any = None,
        labels: bool | str = True,
        baselines: bool = True,
        patches: int | None = None,
        patch_mode: str | None = None,
        draws: int | None = None,
        dense: bool = False,
        tiles: int | None = None,
        masks: Path | str | None = None,
        test_masks: Path | str | None = None,
        finetune: bool = False,
        label_fraction: float | None = None,
        finetune_epochs: float | None = None,
    ) -> dict[str, Any]:
        """Probe the frozen encoder on labelled data, write `evaluation.json` and the report, return the former.

        Without `test`, built-in sets use their own test split and other data a stratified 70/30 split of seed 0.
        With `patches` K, "bag_of_features" holds the same probe on mean features of K patches of each sample: on a
        "grid", or "random" ones, drawn 5 times unless `draws` says otherwise. See `swell.evaluation.bag`.

        With `dense`, "dense" says how well cells of the feature map tell what every pixel shows: of mosaics of
        `tiles` x `tiles` samples, or of the images of the folder `data` with the PNG `masks` beside them (and those of
        `test` with `test_masks`), which then needs no sub-folders for classes. See `swell.evaluation.dense`.
        With `finetune`, "finetune" tells the accuracy of a copy that was trained on a share of the labels. See
        `swell.evaluation.finetune`.
        """
        from swell.evaluation.bag import check_bag, evaluate_bag
        from swell.evaluation.dense import check_dense, evaluate_dense, mosaics_of
        from swell.evaluation.evaluate import evaluate_baselines, evaluate_encoder, split
        from swell.evaluation.finetune import evaluate_finetune
        from swell.evaluation.finetune import finetune as tune
        from swell.report.run_page import write_run_report

        if self.encoder.takes_vectors and (dense or patches is not None):
            asked = "the dense probe" if dense else "patches"
            raise InputError(f"{asked} of vectors", "images", "leave --dense and --patches out")
        mode, draws = check_bag(patches, patch_mode, draws)
        check_dense(dense, tiles, masks, test, test_masks)
        settings = _finetune_settings(finetune, label_fraction, finetune_epochs)
        recipe, ledger = self.recipe, self.ledger  # first, because the probe takes its time
        assert not isinstance(recipe.views, str)
        if not self.metrics:
            raise InputError(
                f"{self.path / 'metrics.jsonl'} (no step in it)", "the steps swell logged", "repeat the run"
            )
        scenes = None if masks is None else self._masked(data, masks, test, test_masks)
        result: dict[str, Any] = {"cost": {"seconds": 0.0, "forwards": 0}}
        labelled = masks is None or has_class_folders(data)
        if not labelled and (finetune or patches is not None):
            given = f"{data} (images without class folders, so without labels)"
            raise InputError(given, "labelled images for patches and fine-tuning", "leave --patches and --finetune out")
        if labelled:
            train_source, test_source = self._splits(data, test, labels) or split(self.open(data, labels))
            result = evaluate_encoder(self.encoder, train_source, test_source, scored=True)
            if baselines:
                result["baselines"] = evaluate_baselines(self.encoder, train_source, test_source)
        else:  # images with masks, but without a class each
            train_source = test_source = self.open(data)
        if patches is not None:
            bag = evaluate_bag(self.encoder, train_source, test_source, patches, mode, draws, self.patch)
            result["bag_of_features"] = bag
            result["cost"]["seconds"] += bag["seconds"]
            result["cost"]["forwards"] += draws * patches * (len(train_source) + len(test_source))
        pictures = None
        if dense:
            train_scenes, test_scenes = scenes or mosaics_of(train_source, test_source, tiles)
            result["dense"], pictures = evaluate_dense(self.encoder, train_scenes, test_scenes, baselines)
        if settings is not None:
            tuner = evaluate_finetune if baselines else tune
            result["finetune"] = tuner(self.encoder, train_source, test_source, plan=recipe.views, **settings)
        for part in (result[name] for name in ("dense", "finetune") if name in result):
            result["cost"]["seconds"] += part["seconds"]
            result["cost"]["forwards"] += part["forwards"]
        ledger.evaluation.seconds += result["cost"]["seconds"]
        ledger.evaluation.forwards += result["cost"]["forwards"]
        ledger.note_memory()
        result["data"] = {
            "train": train_source.fingerprint,
            "test": test_source.fingerprint,
            "labels": labels_fingerprint(train_source, test_source),
            "origin": train_source.provenance.origin,
            "train_seen_in_pretraining": train_source.fingerprint == self.data_fingerprints.get("real"),
        }
        result["ledger"] = ledger.to_dict()
        write_json(self.path / "evaluation.json", result)
        write_json(self.path / "ledger.json", ledger.to_dict())
        write_run_report(self, test_source, result, train_source.unlabelled(), self._generated(), pictures)
        return result

    def _masked(self, data: Any, masks: Path | str, test: Any, test_masks: Path | str | None) -> tuple[Masked, Masked]:
        """Train and test scenes of folders of images and masks, at the size the run was trained on."""
        channels, height, width = self.encoder.config.shape
        if height != width:
            raise InputError(f"masks for a run of {height} x {width} pixels", "a run of square images")
        for folder in (data, test):
            if not isinstance(folder, (str, os.PathLike, type(None))):
                given = f"masks for a {type(folder).__module__}.{type(folder).__qualname__}"
                raise InputError(given, "the folder of their images", "masks go by the names of files")
        train = open_masks(data, masks, height, channels)
        if test is None or test_masks is None:
            return split_masks(train)
        return of_same_classes(train, open_masks(test, test_masks, height, channels))

    def _generated(self) -> Source | None:
        """The generated samples of this run, if their folder is still where and what it was."""
        folder = Path(str(self.provenance.get("generated", {}).get("origin", "")))
        try:
            source = open_gen(folder) if is_gen(folder) else None
        except InputError:
            return None
        same = source is not None and source.fingerprint == self.data_fingerprints.get("generated")
        return source if same else None

    def _splits(self, data: Any, test: Any, labels: bool | str) -> tuple[Source, Source] | None:
        if test is None and isinstance(data, str) and data.startswith("builtin:") and data.count(":") == 1:
            test = f"{data}:test"
        if test is None:
            return None
        return self.open(data, labels), self.open(test, labels)


def _finetune_settings(finetune: bool, fraction: float | None, epochs: float | None) -> dict[str, Any] | None:
    """What was said of fine-tuning, checked before the probe takes its time; None where nobody asked for it."""
    from swell.evaluation.finetune import Settings

    given: dict[str, Any] = {k: v for k, v in {"fraction": fraction, "epochs": epochs}.items() if v is not None}
    if not finetune and given:
        name, value = next(iter(given.items()))
        raise InputError(f"{name} {value:g} without fine-tuning", "--finetune beside it", "give both or neither")
    Settings(**given)
    return given if finetune else None


def labels_fingerprint(*sources: Source) -> str:
    """sha256 of the labels (first 16 hex digits): the same samples may be judged by another key."""
    return sha256(
        b"".join(str(source.labels.tolist()).encode() for source in sources if source.labels is not None)
    ).hexdigest()[:16]


def read_ledger(path: Path) -> Ledger:
    """Raises InputError when `path` is missing or holds no ledger."""
    stored = read_json(path)
    try:
        ledger = Ledger.from_dict({key: value for key, value in stored.items() if key != "total"})
        sum(
            sum(vars(part).values()) for part in vars(ledger).values() if isinstance(part, Cost)
        )  # numbers, all of them
    except (InputError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} ({error})", "the ledger as swell wrote it", "make the folder again") from None
    return ledger


def load_encoder(path: Path) -> Encoder:
    """The encoder of the run `path`, in eval mode. Raises InputError when its files are damaged."""
    stored = read_json(path / "encoder.json")
    again = "finish or repeat the run"
    try:
        config = EncoderConfig.from_dict(stored)
        with torch.device("meta"):  # costs nothing, whatever sizes a damaged file claims
            shapes = {name: w.shape for name, w in Encoder(config).state_dict().items()}
        if len(config.shape) not in (1, 3):
            raise ValueError(f"shape {list(config.shape)}")
    except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RuntimeError) as error:
        raise InputError(f"{path / 'encoder.json'} ({error})", "the settings swell wrote", again) from None
    weights_file = path / "encoder.safetensors"
    try:
        weights = safetensors_from(weights_file.read_bytes())  # by bytes: its reader wants UTF-8 file names
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights_file} ({error})", "the weights swell wrote", again) from None
    if {name: w.shape for name, w in weights.items()} != shapes:
        raise InputError(f"{weights_file} (weights of another net than encoder.json)", "the weights swell wrote", again)
    if not all(bool(w.isfinite().all()) for w in weights.values()):
        raise InputError(f"{weights_file} (NaN or infinite weights)", "finite weights", again)
    encoder = Encoder(config)
    encoder.load_state_dict(weights)
    return encoder.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

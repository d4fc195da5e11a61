"""Any unconditional image pipeline of Hugging Face `diffusers` on disk as a generator: U-Net and scheduler, no code.

Only the settings and the .safetensors weights of a folder are read: nothing is unpickled, no code that lies in it is
run, and nothing is fetched.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from swell.console import Progress
from swell.devices import pick_device
from swell.errors import InputError
from swell.files import read_json, sha256_of
from swell.ledger import Cost, counted_flops, timed
from swell.seeding import generator_for, seed_for

__all__ = ["DiffusersPipeline", "is_pipeline"]

INSTALL = "pip install 'swell[diffusers]'"
FEW = 50  # evaluations where the scheduler does not need all of its training's noise levels
_UNFIT = (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, SafetensorError)


def is_pipeline(path: Path | str) -> bool:
    """Whether `path` is a folder that holds a `diffusers` pipeline."""
    return os.path.isfile(Path(path).expanduser() / "model_index.json")


class DiffusersPipeline:
    """Draws what the pipeline in the folder `path` draws, every sample addressed by its number.

    Fits DDPMPipeline, DDIMPipeline and all others that consist of a UNet2DModel on pixels and a scheduler that goes
    from noise to image step by step. It is trained already; what that cost is not known.

    Args:
        evaluations: steps of the scheduler (those of second order evaluate the network twice a step). None: all the
            noise levels of the training for DDPM, which needs them, else 50.
        device: `auto` takes a GPU where there is one.

    Raises:
        InputError: no such pipeline, one that needs labels or other inputs, weights that are not .safetensors, or
            `diffusers` is not installed.
    """

    def __init__(self, path: Path | str, *, evaluations: int | None = None, device: str = "auto") -> None:
        self.path = Path(path).expanduser()
        self.pipeline, name = _components(self.path)
        diffusers = _diffusers()
        with _told(self.path):
            kind: Any = getattr(diffusers, name, None)
            known = inspect.isclass(kind) and issubclass(kind, diffusers.SchedulerMixin)
            if not known:
                raise ValueError(f"no scheduler of diffusers is called {name}")
            unet, loaded = diffusers.UNet2DModel.from_pretrained(
                self.path / "unet",
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
            scheduler = kind.from_pretrained(self.path / "scheduler", local_files_only=True)
        if loaded["missing_keys"]:
            raise _unfit(self.path, f"weights missing, {loaded['missing_keys'][0]} among them")
        _check_unet(self.path, unet, scheduler)
        _check_scheduler(self.path, scheduler)
        self.device = pick_device(device)
        self._unet = unet.float().to(self.device).eval()
        side = unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        self.shape: tuple[int, int, int] = (unet.config.in_channels, height, width)
        self.evaluations = _evaluations(self.path, evaluations, scheduler)
        with _told(self.path):
            scheduler.set_timesteps(self.evaluations, device=self.device)
        self._scheduler = scheduler
        self.options: dict[str, Any] = {"path": str(path), "evaluations": self.evaluations}
        self.cost, self.sampling_cost = Cost(), Cost()
        self.history: list[dict[str, float]] = []

    @property
    def parameters(self) -> int:
        """Trained numbers of the network."""
        return sum(p.numel() for p in self._unet.parameters())

    @property
    def chunk(self) -> int:
        """How many samples the network always works on at once, as in `Diffusion.chunk`; fewer of larger images."""
        most, pixels = (32, 2**15) if self.device.type == "cpu" else (256, 2**18)
        return max(min(most, pixels // (self.shape[1] * self.shape[2])), 1)

    @property
    def sha256(self) -> str:
        """Of the weights, whatever number of files they are in."""
        return hashlib.sha256("".join(map(sha256_of, _weights(self.path))).encode()).hexdigest()

    def sampler_settings(self) -> dict[str, Any]:
        """What determines the draws beside the weights."""
        settings = self._scheduler.config.items()
        return {
            "pipeline": self.pipeline,
            "scheduler": type(self._scheduler).__name__,
            "steps": self.evaluations,
            "evaluations": len(self._scheduler.timesteps),
            "settings": {name: value for name, value in settings if not name.startswith("_")},
        }

    def sample(self, count: int, seed: int, first: int = 0, quiet: bool = True) -> np.ndarray:
        """Samples first .. first + count - 1 of the sequence that `seed` names: uint8 [count, C, H, W].

        Sample i depends on the seed and i alone, to the last bit on one kind of machine: its starting noise and the
        noise of its steps come from a generator of its own, on the CPU.
        """
        if count < 1 or first < 0:
            raise InputError(f"{count} samples from number {first}", "at least one sample, numbered from 0", "")
        chunk = self.chunk
        made = np.empty((count, *self.shape), np.uint8)
        starts = range(first - first % chunk, first + count, chunk)
        evaluations = len(self._scheduler.timesteps)
        with (
            timed(self.sampling_cost),
            torch.inference_mode(),
            torch.random.fork_rng(),
            Progress("samples", len(starts) * evaluations, "evaluations", quiet=quiet) as bar,
        ):
            with counted_flops() as box:
                self._unet(torch.zeros(1, *self.shape, device=self.device), 0)
            for number, start in enumerate(starts):
                torch.manual_seed(seed_for(seed, "pipeline chunk", start))  # for schedulers that take no generator
                x = self._draw(seed, start, bar, number * evaluations)
                if not bool(x.isfinite().all()):
                    raise _unfit(self.path, "it draws NaN or infinite values")
                images = ((x / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
                low, high = max(first, start), min(first + count, start + chunk)
                made[low - first : high - first] = images[low - start : high - start]
        passes = len(starts) * chunk * evaluations
        self.sampling_cost.add(Cost(flops=box[0] * passes, samples_generated=count, forwards=passes))
        return made

    def _draw(self, seed: int, start: int, bar: Progress, done: int) -> Tensor:
        """The chunk that begins with sample `start` as the network ends it, [B, C, H, W] around [-1, 1]; `done`
        evaluations went before.
        """
        scheduler = copy.deepcopy(self._scheduler)  # those of several steps remember what earlier chunks left
        own = [generator_for(seed, "pipeline", i) for i in range(start, start + self.chunk)]
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        noise = {"generator": own} if takes_generator else {}
        scale = getattr(scheduler, "scale_model_input", None)  # flow matching has none
        x = torch.stack([torch.randn(self.shape, generator=g) for g in own]).to(self.device)
        x = x * getattr(scheduler, "init_noise_sigma", 1.0)
        for step, t in enumerate(scheduler.timesteps, 1):
            output = self._unet(x if scale is None else scale(x, t), t).sample
            x = scheduler.step(output, t, x, **noise).prev_sample
            bar.update(done + step)
        return x


def _diffusers() -> Any:
    """The package, imported when it is needed: it takes seconds."""
    try:
        diffusers = importlib.import_module("diffusers")
        importlib.import_module("diffusers.models.unets.unet_2d")
    except ModuleNotFoundError as error:
        raise InputError(f"a diffusers pipeline without {error.name}", "the extra for it", INSTALL) from None
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"diffusers, which cannot be imported ({error})",
            "a diffusers that fits this torch",
            "a torchvision made for another torch breaks it: remove that, or use an environment without it",
        ) from None
    return diffusers


def _components(path: Path) -> tuple[str, str]:
    """Class names of the pipeline and its scheduler, from model_index.json."""
    if not is_pipeline(path):
        raise InputError(f"{path} (no model_index.json in it)", "the folder of a diffusers pipeline", "check the path")
    index = read_json(path / "model_index.json")
    index = index if isinstance(index, dict) else {}
    parts = {
        name: tuple(part)
        for name, part in index.items()
        if not name.startswith("_") and isinstance(part, list) and len(part) == 2 and any(part)
    }
    library, scheduler = parts.get("scheduler", ("", ""))
    if set(parts) != {"unet", "scheduler"} or parts["unet"] != ("diffusers", "UNet2DModel") or library != "diffusers":
        named = ", ".join(f"{name} {part[-1]}" for name, part in parts.items())
        raise _unfit(path, f"it consists of {named or 'nothing known'}")
    if not _weights(path):
        raise InputError(
            f"{path / 'unet'} (no .safetensors in it)",
            "weights as .safetensors: other formats can run code when they are read",
            "save the pipeline again with save_pretrained(folder, safe_serialization=True)",
        )
    return str(index.get("_class_name")), str(scheduler)


def _weights(path: Path) -> list[Path]:
    return sorted((path / "unet").glob("diffusion_pytorch_model*.safetensors"))


def _check_unet(path: Path, unet: Any, scheduler: Any) -> None:
    config = unet.config
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        raise InputError(
            f"{path} (class-conditional: it draws to a label)",
            "an unconditional pipeline",
            "there are no labels to give it; draw samples yourself and open their folder",
        )
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    if config.in_channels not in (1, 3) or config.out_channels != config.in_channels * (2 if learned else 1):
        raise _unfit(path, f"{config.in_channels} channels in, {config.out_channels} out")
    side = config.sample_size
    if not isinstance(side, int) and not (isinstance(side, (list, tuple)) and len(side) == 2):
        raise _unfit(path, f"unet/config.json has sample_size {side}")


def _evaluations(path: Path, asked: int | None, scheduler: Any) -> int:
    levels = int(scheduler.config.get("num_train_timesteps", FEW))
    usual = levels if type(scheduler).__name__ == "DDPMScheduler" else min(FEW, levels)
    if asked is not None and not 1 <= asked <= levels:
        raise InputError(f"{asked} evaluations of {path}", f"1 to {levels}", f"leave it out for {usual}")
    return usual if asked is None else asked


def _check_scheduler(path: Path, scheduler: Any) -> None:
    step = getattr(scheduler, "step", None)
    parameters = list(inspect.signature(step).parameters.values()) if step else []
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if needed != ["model_output", "timestep", "sample"] or not hasattr(scheduler, "set_timesteps"):
        raise _unfit(path, f"its {type(scheduler).__name__} does not go from noise to image step by step")


def _unfit(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} ({why})",
        "a UNet2DModel on images of 1 or 3 channels and a scheduler with a step from noise to image",
        "draw samples with the pipeline yourself and open their folder",
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what diffusers says of a damaged or foreign folder into one InputError."""
    try:
        yield
    except _UNFIT as error:
        raise _unfit(path, str(error) or type(error).__name__) from None

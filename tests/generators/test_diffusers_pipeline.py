"""A `diffusers` pipeline draws here what it draws at home, by number, and nothing in its folder is trusted."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from swell.errors import InputError
from swell.generators.diffusers_pipeline import DiffusersPipeline, is_pipeline
from swell.seeding import generator_for

INDEX = {
    "_class_name": "DDPMPipeline",
    "_diffusers_version": "0.31.0",
    "unet": ["diffusers", "UNet2DModel"],
    "scheduler": ["diffusers", "DDPMScheduler"],
}


def foreign(folder, *, weights="diffusion_pytorch_model.safetensors", **changes):
    """A folder that names these parts, its weights an empty file."""
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / weights).touch()
    (folder / "model_index.json").write_text(json.dumps(INDEX | changes))
    return folder


def saved(folder, scheduler="DDPMScheduler", pipeline="DDPMPipeline", **changes):
    """A tiny pipeline of random weights, saved as its own library saves it."""
    diffusers = pytest.importorskip("diffusers")
    settings = {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(**(settings | changes))
    getattr(diffusers, pipeline)(unet, getattr(diffusers, scheduler)()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ddim(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("ddim"), "DDIMScheduler", "DDIMPipeline")


@pytest.mark.parametrize("kind", ["DDIM", "DDPM"])
def test_it_draws_what_the_pipeline_itself_draws_from_equal_noise(tmp_path, kind):
    """The starting noise and, for DDPM, the noise of every step."""
    diffusers = pytest.importorskip("diffusers")
    folder = saved(tmp_path / "p", f"{kind}Scheduler", f"{kind}Pipeline")
    ours = DiffusersPipeline(folder, evaluations=6, device="cpu")
    home = getattr(diffusers, f"{kind}Pipeline").from_pretrained(folder, low_cpu_mem_usage=False)
    home.set_progress_bar_config(disable=True)
    noise = [generator_for(7, "pipeline", i) for i in range(ours.chunk)]
    images = home(batch_size=ours.chunk, generator=noise, num_inference_steps=6, output_type="pil").images
    expected = np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])
    drawn = ours.sample(ours.chunk, 7)
    assert drawn.dtype == np.uint8
    assert drawn.std() > 20
    assert np.abs(drawn.astype(int) - expected.astype(int)).max() <= 1  # a rounding at most


@pytest.mark.parametrize(
    "scheduler",
    [
        "DDPMScheduler",
        "EulerAncestralDiscreteScheduler",  # noise of its own scale, scaled inputs
        "DPMSolverMultistepScheduler",  # remembers earlier steps
        "HeunDiscreteScheduler",  # two evaluations a step
        "FlowMatchEulerDiscreteScheduler",  # neither scaling nor starting scale
    ],
)
def test_sample_i_depends_on_the_seed_and_i_alone(tmp_path, scheduler):
    model = DiffusersPipeline(saved(tmp_path, scheduler), evaluations=3, device="cpu")
    whole = model.sample(model.chunk + 6, seed=3)
    assert whole.shape == (model.chunk + 6, 3, 8, 8)
    assert len(np.unique(whole.reshape(len(whole), -1), axis=0)) == len(whole)
    again = DiffusersPipeline(tmp_path, evaluations=3, device="cpu")
    torch.manual_seed(99)
    parts = [again.sample(n, 3, first) for first, n in ((0, 5), (5, model.chunk - 7), (model.chunk - 2, 8))]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(model.sample(5, seed=4), whole[:5])


def test_drawing_leaves_the_global_generator_alone_and_counts_its_cost(ddim):
    model = DiffusersPipeline(ddim, evaluations=4, device="cpu")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model.sample(3, 0)
    assert torch.get_rng_state().equal(before)
    cost = model.sampling_cost
    assert (cost.samples_generated, cost.forwards) == (3, 4 * model.chunk)
    assert cost.flops > 0
    assert cost.seconds > 0
    assert model.cost.flops == 0


def test_settings_tell_what_determines_the_draws(ddim, tmp_path):
    settings = DiffusersPipeline(ddim, device="cpu").sampler_settings()
    json.dumps(settings, allow_nan=False)
    assert (settings["scheduler"], settings["evaluations"]) == ("DDIMScheduler", 50)
    assert settings["settings"]["num_train_timesteps"] == 1000
    assert DiffusersPipeline(saved(tmp_path / "ddpm"), device="cpu").evaluations == 1000
    heun = DiffusersPipeline(saved(tmp_path / "heun", "HeunDiscreteScheduler"), evaluations=5, device="cpu")
    assert (heun.sampler_settings()["steps"], heun.sampler_settings()["evaluations"]) == (5, 9)
    assert DiffusersPipeline(ddim).sha256 == DiffusersPipeline(ddim, evaluations=3).sha256


def test_grey_and_oblong_images(tmp_path):
    folder = saved(tmp_path, "DDIMScheduler", in_channels=1, out_channels=1, sample_size=(8, 16))
    assert DiffusersPipeline(folder, evaluations=2, device="cpu").sample(2, 0).shape == (2, 1, 8, 16)


@pytest.mark.parametrize(("count", "first", "evaluations"), [(0, 0, 5), (1, -1, 5), (1, 0, 0), (1, 0, 1001)])
def test_numbers_out_of_range(ddim, count, first, evaluations):
    with pytest.raises(InputError, match="expected"):
        DiffusersPipeline(ddim, evaluations=evaluations, device="cpu").sample(count, 0, first)


def test_class_conditional_pipelines_are_refused(tmp_path):
    for name, changes in (("number", {"num_class_embeds": 10}), ("kind", {"class_embed_type": "timestep"})):
        with pytest.raises(InputError, match="class-conditional"):
            DiffusersPipeline(saved(tmp_path / name, **changes))


def test_damaged_weights(tmp_path):
    weights = saved(tmp_path) / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    some = next(name for name in tensors if name.startswith("conv_in"))

    save_file({name: tensor for name, tensor in tensors.items() if name != some}, weights, {"format": "pt"})
    with pytest.raises(InputError, match=some):
        DiffusersPipeline(tmp_path)
    save_file(tensors | {some: torch.full_like(tensors[some], torch.nan)}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="NaN"):
        DiffusersPipeline(tmp_path, evaluations=2).sample(2, 0)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="expected"):
        DiffusersPipeline(tmp_path)


def test_schedulers_that_do_not_step_are_refused(tmp_path):
    pytest.importorskip("diffusers")
    with pytest.raises(InputError, match="does not go from noise to image"):
        DiffusersPipeline(saved(tmp_path / "repaint", "RePaintScheduler"))
    with pytest.raises(InputError, match="no scheduler of diffusers is called DiffusionPipeline"):  # reads any folder
        DiffusersPipeline(foreign(tmp_path / "disguised", scheduler=["diffusers", "DiffusionPipeline"]))


def test_weights_that_would_have_to_be_unpickled_are_refused(tmp_path):
    with pytest.raises(InputError, match="safe_serialization=True"):
        DiffusersPipeline(foreign(tmp_path, weights="diffusion_pytorch_model.bin"))


@pytest.mark.parametrize(
    "changes",
    [
        {"vqvae": ["diffusers", "VQModel"]},
        {"unet": ["diffusers", "UNet2DConditionModel"]},
        {"unet": ["my_code", "UNet2DModel"]},
        {"scheduler": ["scheduling_mine", "Mine"]},
        {"scheduler": [None, None]},
    ],
)
def test_other_parts_are_refused_before_anything_is_loaded(tmp_path, changes):
    with pytest.raises(InputError, match="it consists of"):
        DiffusersPipeline(foreign(tmp_path / "p", **changes))


def test_without_the_extra_the_install_line_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # as Python itself marks what cannot be imported
    with pytest.raises(InputError) as error:
        DiffusersPipeline(foreign(tmp_path / "p"))
    assert error.value.todo == "pip install 'swell[diffusers]'"


def test_what_is_a_pipeline(tmp_path):
    assert is_pipeline(foreign(tmp_path / "p"))
    assert not is_pipeline(tmp_path)
    assert not is_pipeline(tmp_path / "p" / "model_index.json")
    with pytest.raises(InputError, match=r"model_index\.json"):
        DiffusersPipeline(tmp_path)
    (tmp_path / "p" / "model_index.json").write_text("[1")
    with pytest.raises(InputError, match="readable JSON"):
        DiffusersPipeline(tmp_path / "p")

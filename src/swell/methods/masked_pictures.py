"""What masked autoencoders show in a report: masked or mixed images, which patch is whose, and what is rebuilt."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swell.gallery import Gallery, Picture, Strip, as_pixels
from swell.methods.terms import PATCH_EPSILON
from swell.methods.token_plans import Kept, Mixed
from swell.nets.decoder import Decoder
from swell.nets.vit import patchify

SHOWN_SAMPLES, SHOWN_GROUPS = 8, 3
GREY = 0.5  # what stands there for a patch that the encoder did not see
BORROWED = (
    "The decoder learnt every patch up to its brightness and contrast; these are taken from the true patch, as in "
    "the paper's figures. So judge the shapes inside a rebuilt patch, not its mean colour."
)


def unpatchify(patches: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """The reverse of `patchify`: [B, h w, C p p] -> [B, C, h p, w p]."""
    x = patches.unflatten(2, (-1, patch, patch)).unflatten(1, grid)  # [B, h, w, C, p, p]
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


@torch.no_grad()
def reconstruct(encoder: nn.Module, decoder: Decoder, x: Tensor, plan: Kept, normalise: bool) -> Tensor:
    """Images [B, C, H, W] in [0, 1] as seen where the plan shows them and as predicted elsewhere.

    With normalised targets the prediction has no brightness and contrast of its own; the true patch's are used, as in
    the paper's figures.
    """
    predicted = decoder(encoder(x, plan), plan, decoder.grid_of(x)).float()
    target = patchify(x, decoder.patch).float()
    if normalise:
        predicted = predicted * (target.var(-1, keepdim=True) + PATCH_EPSILON).sqrt() + target.mean(-1, keepdim=True)
    whole = torch.where(plan.hidden.unsqueeze(-1), predicted, target).clamp(0, 1)
    return unpatchify(whole, decoder.grid_of(x), decoder.patch)


@torch.no_grad()
def recovered(z: Tensor, owner: Tensor, group: int) -> Tensor:
    """For each token [N, L] the image of its group whose other tokens are on average most similar to it by cosine.

    What is recovered is `owner` [N, L]; each token is judged by the owners of all others. By chance 1 / G is right.
    """
    z = F.normalize(z.float(), dim=-1)
    itself = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    shares = F.one_hot(owner, group).float()  # [N, L, G]
    total = (z @ z.mT).masked_fill(itself, 0.0) @ shares
    return (total / (shares.sum(1, keepdim=True) - shares)).argmax(-1)


def masked_gallery(encoder: nn.Module, decoder: Decoder, x: Tensor, plan: Kept, normalise: bool) -> Gallery:
    """Images [B, C, H, W] in [0, 1]: input, what `plan` lets the encoder see of it, what the decoder makes of that."""
    grid = decoder.grid_of(x)
    blank = torch.where(plan.hidden.unsqueeze(-1), GREY, patchify(x, decoder.patch))
    shown = {
        "input": x,
        "seen": unpatchify(blank, grid, decoder.patch),
        "rebuilt": reconstruct(encoder, decoder, x, plan, normalise),
    }
    pixels = {name: as_pixels(images) for name, images in shown.items()}
    note = (
        f"Of the {plan.patches} patches of each sample the encoder saw {plan.rows.shape[1]}; the others are grey in "
        "the second picture. In the third they are what the decoder made up from what was seen, which is kept."
    )
    rows = [[Strip(name, [Picture(some[i])]) for name, some in pixels.items()] for i in range(len(x))]
    return Gallery("Left out and rebuilt", note, "sample", rows, details=BORROWED if normalise else "")


def mixed_gallery(encoder: nn.Module, decoder: Decoder, x: Tensor, plan: Mixed, normalise: bool) -> Gallery:
    """Images [B, C, H, W] in [0, 1] mixed by `plan`: which patch is whose, by its tokens too, and each rebuilt."""
    group, grid = plan.members.shape[1], decoder.grid_of(x)
    found = recovered(encoder(x, plan)[:, decoder.extra :], plan.owner, group)  # [N, L]
    right = (found == plan.owner).float().mean(1).tolist()
    bare = replace(plan, segments=None)
    note = (
        f"{group} images, each with a colour below it, are cut into {plan.patches} patches and mixed into one picture. "
        "The first map says which patch is whose, the second whose the encoder takes it for: right for "
        f"{100 * sum(right) / len(right):.0f} % of the patches of {len(right)} mixed images, where guessing gets "
        f"{100 / group:.0f} %. Last, every image rebuilt: its own patches as they were, the others from the decoder."
    )
    details = (
        "Recovered: a patch goes to the image whose other patches are most similar to it, by the mean cosine of the "
        "encoder's tokens. "
    )
    if plan.segments is not None:
        alone = recovered(encoder(x, bare)[:, decoder.extra :], plan.owner, group) == plan.owner
        details += (
            "The answer is not kept from the encoder: this run adds to every patch an embedding that says which image "
            f"it is from. Without it, as never in training, {100 * alone.float().mean():.0f} % are right. "
        )
    rebuilt = as_pixels(reconstruct(encoder, decoder, x, plan, normalise))
    mixed = as_pixels(unpatchify(bare.select(patchify(x, decoder.patch)), grid, decoder.patch))
    inputs, rows = as_pixels(x), []
    for n, members in enumerate(plan.members[:SHOWN_GROUPS].tolist()):
        own, guess = (owners[n].view(grid).cpu().numpy() for owners in (plan.owner, found))
        rows.append(
            [
                Strip("inputs", [Picture(inputs[b], key=g) for g, b in enumerate(members)]),
                Strip("mixed", [Picture(mixed[n])]),
                Strip("true", [Picture(own)]),
                Strip("recovered", [Picture(guess, f"{100 * right[n]:.0f} % right")]),
                Strip("rebuilt", [Picture(rebuilt[b], key=g) for g, b in enumerate(members)]),
            ]
        )
    names = [f"image {g + 1}" for g in range(group)]
    details += BORROWED if normalise else ""
    return Gallery("Mixed, told apart and rebuilt", note, "group", rows, names, details)

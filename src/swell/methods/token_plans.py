"""Which patches of a batch the encoder sees, and where they go back to: MAE's masking and MixedAE's mixing.

Of B samples with L patches each, N sequences of M patches are shown; every patch at most once. Both plans are one list
of rows in [B L], so that what was cut up and mixed is put back by the same rows, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from swell.errors import InputError


@dataclass(frozen=True)
class Kept:
    """A random part of each sample's patches: sequence b is sample b, N = B.

    Attributes:
        rows: int64 [N, M]; place m of sequence n shows patch `rows % L` of sample `rows // L`.
        samples: B.
        patches: L.
        top_k: see `swell.nets.tokens.TokenPlan`.
    """

    rows: Tensor
    samples: int
    patches: int
    top_k: int | None = None

    @classmethod
    def draw(cls, samples: int, patches: int, mask: float, device: torch.device) -> Kept:
        """Keep int(L (1 - mask)) patches of each sample, those of the smallest noise, as in MAE's section 3.

        Draws from torch's global generator of `device`.

        Raises:
            InputError: no patch would be kept, or all.
        """
        kept = int(patches * (1 - mask) + 1e-9)  # 10 (1 - 0.9) is 0.99... in floating point
        if not 0 < kept < patches:
            raise InputError(f"mask {mask:g} of {patches} patches", "some kept and some masked", "smaller patches help")
        chosen = torch.rand(samples, patches, device=device).argsort(1)[:, :kept]  # [B, M]
        first = torch.arange(0, samples * patches, patches, device=device)
        return cls(chosen + first.unsqueeze(1), samples, patches)

    def only(self, sequences: Tensor | slice) -> tuple[Kept, Tensor]:
        """The plan of some of the sequences alone, and which samples they show, int64, in its order."""
        samples = torch.arange(self.samples, device=self.rows.device)[sequences]
        first = torch.arange(0, len(samples) * self.patches, self.patches, device=self.rows.device)
        rows = self.rows[sequences] % self.patches + first.unsqueeze(1)
        return replace(self, rows=rows, samples=len(samples)), samples

    @property
    def hidden(self) -> Tensor:
        """Which patches no sequence shows, bool [B, L]."""
        hidden = torch.ones(self.samples * self.patches, dtype=torch.bool, device=self.rows.device)
        return hidden.index_fill(0, self.rows.flatten(), False).view(self.samples, self.patches)

    def select(self, tokens: Tensor) -> Tensor:
        """[B, L, D] -> [N, M, D]."""
        return tokens.flatten(0, 1).index_select(0, self.rows.flatten()).unflatten(0, self.rows.shape)

    def restore(self, sequences: Tensor, elsewhere: Tensor) -> Tensor:
        """[N, M, D] -> [B, L, D]: every token back in its place, and `elsewhere` [D] where there is none."""
        blank = elsewhere.to(sequences.dtype).expand(self.samples * self.patches, -1)
        restored = blank.index_copy(0, self.rows.flatten(), sequences.flatten(0, 1))
        return restored.unflatten(0, (self.samples, self.patches))

    def of_samples(self, x: Tensor) -> Tensor:
        """What belongs to whole sequences [N, ...], for each sample that of the sequence it is in: [B, ...]."""
        return x


@dataclass(frozen=True, kw_only=True)
class Mixed(Kept):
    """Groups of G samples, one sequence each: N = B / G, M = L; position l of a sequence shows that of some sample.

    Attributes:
        members: int64 [N, G], the samples of each group.
        owner: int64 [N, L], whose patch stands at each position, counted in the group; each L / G times, or as near as
            whole numbers come to it.
        segments: [G, D], added to a token by its owner, or None.
    """

    members: Tensor
    owner: Tensor
    segments: Tensor | None = None

    @classmethod
    def mix(
        cls,
        samples: int,
        patches: int,
        group: int,
        device: torch.device,
        *,
        homologous: bool = True,
        segments: Tensor | None = None,
    ) -> Mixed:
        """Groups of `group` samples of the shuffled batch, their positions dealt out at random and evenly.

        Shuffled, because real samples stand before generated ones in a batch, and views of one kind together. With
        `homologous` a token attends to as many patches as its image has in the sequence, L / G.

        Raises:
            InputError: samples that are no whole groups, or fewer than two patches for a member.
        """
        if samples % group:
            raise InputError(f"{samples} views in a batch", f"a multiple of group {group}", "change --batch-size")
        if patches < 2 * group:
            raise InputError(f"{patches} patches for a group of {group}", "two for each", "smaller patches help")
        members = torch.randperm(samples, device=device).view(-1, group)  # [N, G]
        owner = torch.rand(len(members), patches, device=device).argsort(1) % group  # [N, L]
        rows = members.gather(1, owner) * patches + torch.arange(patches, device=device)
        top_k = patches // group if homologous else None
        return cls(rows, samples, patches, top_k, members=members, owner=owner, segments=segments)

    @property
    def shares(self) -> Tensor:
        """One-hot owners [N, L, G], float32: products with it sum over the tokens of each image."""
        return F.one_hot(self.owner, self.members.shape[1]).float()

    def only(self, sequences: Tensor | slice) -> tuple[Mixed, Tensor]:
        samples, owner = self.members[sequences].flatten(), self.owner[sequences]
        members = torch.arange(len(samples), device=self.rows.device).view(len(owner), -1)
        rows = members.gather(1, owner) * self.patches + torch.arange(self.patches, device=self.rows.device)
        return replace(self, rows=rows, samples=len(samples), members=members, owner=owner), samples

    def select(self, tokens: Tensor) -> Tensor:
        mixed = super().select(tokens)
        if self.segments is None:
            return mixed
        # A product: the gradient of a lookup would scatter all tokens onto G rows, in no fixed order on a GPU.
        return mixed + (self.shares @ self.segments.float()).to(mixed.dtype)

    def of_samples(self, x: Tensor) -> Tensor:
        group = self.members.shape[1]
        in_groups = x.unsqueeze(1).expand(-1, group, *x.shape[1:]).flatten(0, 1)  # [N G, ...], samples as in `members`
        return in_groups.index_select(0, self.members.flatten().argsort())

"""Views of vectors: what is done to the features of a sample. Data only; carried out by `render_vectors`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from swell.views.checks import OF, ROLES, check_choice, check_count, number_in, strength_number


@dataclass(frozen=True)
class VectorGroup:
    """`count` views made alike of vectors [D]. The defaults leave them as they are.

    Operations run in this order: mix, crossover, swap, noise, mask. So what is masked is 0, whatever came before.

    Attributes:
        mask: share of features set to 0, each feature by itself: the mean of prepared features, or of raw counts
            that nothing was seen. Alone it is the strongest hand-made view of single cells known (scSSL-Bench, arXiv
            2506.10031).
        swap: share of features that take the value which another sample of the batch has there, each feature from a
            sample of its own: a draw from the feature's marginal distribution (SCARF, arXiv 2106.15147).
        noise: standard deviation of Gaussian noise added to every feature, in the units of the data; those of a
            preparation have unit variance.
        mix: the view is (1 - u) x + u y, u uniform on [0, mix] for every sample and view, y the sample's partner:
            neighbour mixing, where the partner is a near neighbour (DiffAug's hand-made view, with mix 1).
        crossover: share of features that take the value which one other sample of the batch has, the same for all of
            them: unlike swapped features, those keep their company.
        of: "sample", or "positive": the view is made of the sample's positive in its place.
        role: what methods take the view for: global, local, patch or teacher.
    """

    count: int = 1
    mask: float = 0.0
    swap: float = 0.0
    noise: float = 0.0
    mix: float = 0.0
    crossover: float = 0.0
    of: str = "sample"
    role: str = "global"

    def __post_init__(self) -> None:
        check_count("count", self.count)
        for name in ("mask", "swap", "noise", "mix", "crossover"):
            top = math.inf if name == "noise" else 1.0
            object.__setattr__(self, name, number_in(name, getattr(self, name), top))
        check_choice("of", self.of, OF)
        check_choice("role", self.role, ROLES)

    def at_strength(self, strength: float | str) -> VectorGroup:
        """This group, taken as the strong one, at strength s in [0, 1]: all five settings times s."""
        s = strength_number(strength)
        return replace(
            self,
            mask=s * self.mask,
            swap=s * self.swap,
            noise=s * self.noise,
            mix=s * self.mix,
            crossover=s * self.crossover,
        )

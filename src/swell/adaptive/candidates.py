"""What the search tries: always no inflation, weak views alone and AdaInf's fixed recipe, and what lies around the
priors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from swell.adaptive.priors import StrengthPrior, WeightPrior
from swell.views.checks import STRENGTHS

BASELINE, WEAK_ONLY, ADAINF, PRIOR = "none", "weak_only", "adainf", "prior"
ADAINF_WEIGHT = 10.0  # arXiv 2403.12448
STEP = 0.25  # between neighbours in strength; in weight it is an octave
SAME_WEIGHT, SAME_STRENGTH = 1.15, 0.08  # nearer than that, two candidates are one: no short run tells them apart


@dataclass(frozen=True)
class Candidate:
    """One way to train: `strength` of the views, and `amount` generated samples at `weight`; none where amount is 0."""

    name: str
    weight: float = 1.0
    strength: float = 1.0
    amount: int = 0

    @property
    def generated(self) -> bool:
        return self.amount > 0

    @property
    def words(self) -> str:
        """
        >>> Candidate("adainf", 10.0, 0.5, 2000).words
        'weight 10 on 2,000 generated samples, views of strength 0.5'
        """
        views = f"views of strength {self.strength:g}"
        if not self.generated:
            return f"real samples only, {views}"
        return f"weight {self.weight:g} on {self.amount:,} generated samples, {views}"


def candidates(
    limit: int, amount: int, weight: WeightPrior | None = None, strengths: Iterable[StrengthPrior] = ()
) -> tuple[Candidate, ...]:
    """At most `limit` candidates, but always the fixed ones and the priors' centre.

    Where the prior on the weight says no inflation, its centre is the baseline, and AdaInf's recipe stands for
    generated data all the same: the prior is a hypothesis. Later ones are less promising, so that a small budget
    leaves out the least.

    Args:
        amount: generated samples there are; with 0 all candidates are of real samples only.
        weight, strengths: the priors; the first strength is that of the centre, further ones are other opinions.
    """
    strong, weak = STRENGTHS["strong"], STRENGTHS["weak"]
    fixed = [Candidate(BASELINE, strength=strong), Candidate(WEAK_ONLY, strength=weak)]
    if not amount:
        return _distinct([*fixed, real_only((strong + weak) / 2), real_only(weak / 2)], limit, 2)
    fixed.append(Candidate(ADAINF, ADAINF_WEIGHT, weak, amount))
    n, s = ADAINF_WEIGHT, weak
    opinions = [_rounded(prior.strength) for prior in strengths if prior.use]
    if weight is not None and weight.weight is not None:
        n, s = float(f"{weight.weight:.2g}"), opinions[0] if opinions else weak
        fixed.append(Candidate(PRIOR, n, s, amount))
    around = [
        inflated(n, min(s + STEP, strong), amount),  # short runs favour weak views, so the stronger one comes first
        *(inflated(n, other, amount) for other in opinions[1:]),
        inflated(2 * n, s, amount),
        inflated(n / 2, s, amount),
        real_only((strong + weak) / 2),
        inflated(n, max(s - STEP, STEP / 2), amount),
        inflated(n, strong, amount),
        inflated(n, s, max(amount // 4, 1)),
        inflated(4 * n, s, amount),
        inflated(n / 4, s, amount),
        real_only(weak / 2),
        inflated(2 * n, min(s + STEP, strong), amount),
        inflated(n / 2, min(s + STEP, strong), amount),
        inflated(2 * n, max(s - STEP, STEP / 2), amount),
        inflated(n / 2, max(s - STEP, STEP / 2), amount),
    ]
    return _distinct([*fixed, *around], limit, len(fixed), amount)


def inflated(weight: float, strength: float, amount: int) -> Candidate:
    """A candidate named after what it is."""
    weight, strength = float(f"{weight:.2g}"), _rounded(strength)
    return Candidate(f"weight{weight:g}-strength{strength:g}", weight, strength, amount)


def real_only(strength: float) -> Candidate:
    return Candidate(f"real-strength{_rounded(strength):g}", strength=_rounded(strength))


def alike(a: Candidate, b: Candidate) -> bool:
    """Whether no short run could tell the two apart."""
    ratio = max(a.weight, b.weight) / min(a.weight, b.weight)
    return (
        a.amount == b.amount
        and abs(a.strength - b.strength) < SAME_STRENGTH
        and (not a.generated or ratio < SAME_WEIGHT)
    )


def _rounded(strength: float) -> float:
    return round(strength, 2)


def _distinct(wanted: list[Candidate], limit: int, least: int, amount: int = 0) -> tuple[Candidate, ...]:
    """The first `limit` that differ, `least` of them in any case; a smaller amount goes into the name."""
    found: list[Candidate] = []
    for i, one in enumerate(wanted):
        if i >= least and (len(found) >= limit or any(alike(one, other) for other in found)):
            continue
        if i < least and one.name == PRIOR and any(alike(one, other) for other in found):
            continue  # the prior says what AdaInf says
        if one.generated and one.amount < amount:
            one = Candidate(f"{one.name}-of{one.amount}", one.weight, one.strength, one.amount)
        found.append(one)
    return tuple(found)

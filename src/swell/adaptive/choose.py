"""The choice between candidates from their label-free scores: ranks, vetoes, and when to stay with the baseline.

Every score can be met by a bad encoder, and most lean towards weak or towards strong views. So none is trusted alone:
candidates are ranked on each and ranks are averaged (Borda), which no score's own scale can dominate; where the scores
do not agree, nothing is chosen. Pure functions of tables of numbers; labels have no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from swell.errors import InputError
from swell.evaluation.scores import SCORES, collapsed

# One vote each. Of the scores that `benchmarks/adapt/` compared with the probe on five sets, learnability follows it
# best, and follows strong views on some sets and weak ones on others; RankMe, which counts directions whatever they
# hold, is the second opinion. With all that once voted choices are worse: LiDAR echoes how weak the views are on every
# set, ACR and RankMe do on cells, where nobody held against them.
VOTERS = ("learnability", "rankme")

Row = Mapping[str, float]  # scores of one trained encoder


@dataclass(frozen=True)
class Ranks:
    """Places of runs, 1 the best, ties shared; `places` are their mean over the scores as a share: 0 first, 1 last."""

    by_score: dict[str, dict[str, float]]
    places: dict[str, float]
    agreement: float  # Kendall's W of the scores: 1 all rank alike, 1 / (number of scores) what chance comes to


@dataclass(frozen=True)
class Choice:
    """What was chosen and why.

    Attributes:
        name: the candidate to train with.
        ranks: of each candidate and score, the mean rank of its seeds among all runs; 1 is best.
        places: mean rank over scores as a share of the way from first (0) to last (1).
        agreement: Kendall's W of the scores; the least of it over rungs.
        vetoed: candidates that were not considered, and why.
        margin: places between the baseline and the best candidate; above 0 where that is better.
        noise: what the margin changes by from seed to seed (its standard error); NaN with one seed.
        reasons: sentences.
    """

    name: str
    baseline: str
    leader: str
    ranks: dict[str, dict[str, float]]
    places: dict[str, float]
    agreement: float
    vetoed: dict[str, str]
    margin: float
    noise: float
    reasons: tuple[str, ...]

    @property
    def clear(self) -> bool:
        """Whether the best candidate is ahead of the baseline by more than noise."""
        return self.margin > self.noise


def voters_of(table: Sequence[Row], voters: Sequence[str] = VOTERS) -> list[str]:
    """The scores that every run has; one that is NaN for a run still counts, as the worst."""
    return [name for name in voters if all(name in row for row in table)]


def rank(table: Mapping[str, Row], voters: Sequence[str] = VOTERS, weights: Mapping[str, float] | None = None) -> Ranks:
    """Ranks of runs by each score and over all, scores weighted by `weights` (1 each).

    Raises:
        InputError: no run, or no score that all of them have.
    """
    names, used = list(table), voters_of(list(table.values()), voters)
    if not names or not used:
        raise InputError(f"{len(names)} runs with {len(used)} scores in common", "some of each to rank")
    merits = np.array([[SCORES[score].merit(table[name][score]) for name in names] for score in used])
    ranks = np.stack([rankdata(-row, method="average") for row in merits])  # [scores, runs]
    share = np.array([1.0 if weights is None else weights.get(score, 1.0) for score in used])
    mean = share @ ranks / share.sum()
    places = (mean - 1) / max(len(names) - 1, 1)
    by_score = {score: dict(zip(names, row.tolist(), strict=True)) for score, row in zip(used, ranks, strict=True)}
    return Ranks(by_score, dict(zip(names, places.tolist(), strict=True)), kendalls_w(ranks))


def kendalls_w(ranks: np.ndarray) -> float:
    """Agreement of m rankings [m, n] of n things (Kendall & Babington Smith 1939), corrected for ties; 0 to 1.

    W = 12 S / (m^2 (n^3 - n) - m sum T), S the squared deviations of the sums of ranks, T = sum t^3 - t over groups of
    ties. 1 where there is nothing to disagree about: one ranking, or all in one tie.
    """
    m, n = ranks.shape
    sums = ranks.sum(0)
    ties = sum(float((count**3 - count).sum()) for row in ranks for count in [np.unique(row, return_counts=True)[1]])
    most = m * m * (n**3 - n) - m * ties
    return float(12 * np.square(sums - sums.mean()).sum() / most) if m > 1 and most > 0 else 1.0


def veto(row: Row, voters: Sequence[str] = VOTERS) -> str:
    """Why an encoder with these scores is out of the question; nothing if it is not."""
    if collapsed(row):
        return (
            f"collapsed: its features differ by {100 * row['feature_std']:.1f} % of an even spread, along "
            f"{row['rankme']:.1f} directions"
        )
    missing = [name for name in voters if name in row and not math.isfinite(row[name])]
    return f"no finite value of {', '.join(missing)}" if missing else ""


def survivors(
    places: Mapping[str, float],
    count: int,
    generated: Collection[str],
    strengths: Mapping[str, float] | None = None,
    baseline: str = "none",
) -> list[str]:
    """Who goes on to the next rung, best first: the baseline, the best other of real samples only and the best with
    generated ones in any case, the others by their places.

    Where there is room, also the leader's next stronger neighbour: short runs favour weak views.
    """
    order = sorted(places, key=lambda name: places[name])
    real = [name for name in order if name not in generated and name != baseline]
    made = [name for name in order if name in generated]
    kept = [name for name in (baseline, *real[:1], *made[:1]) if name in places]
    if strengths is not None and len(kept) < count and order:
        leader = order[0]
        alike = made if leader in generated else real
        stronger = [name for name in alike if strengths[name] > strengths[leader] and name not in kept]
        kept += sorted(stronger, key=lambda name: strengths[name])[:1]
    kept += [name for name in order if name not in kept][: max(count - len(kept), 0)]
    return sorted(kept, key=lambda name: places[name])


def choose(
    table: Mapping[str, Sequence[Row]],
    *,
    generated: Collection[str] = (),
    vetoed: Mapping[str, str] | None = None,
    baseline: str = "none",
    voters: Sequence[str] = VOTERS,
    weights: Mapping[str, float] | None = None,
    least_agreement: float | None = None,
    earlier: Sequence[float] = (),
) -> Choice:
    """Choose from the scores of candidates, one row for each seed.

    The candidate with the best mean rank, if it is ahead of the baseline by more than the noise between seeds and if
    the scores agree more than chance would have them; else the baseline. One with generated samples must also be ahead
    by more than noise of the best without, or that is taken, where it is itself ahead of the baseline.

    Args:
        generated: names of the candidates with generated samples.
        vetoed: names of candidates to leave out, and why; those whose scores say collapse join them.
        weights: of the scores' votes; 1 each unless told.
        least_agreement: Kendall's W that the scores must exceed; None takes what chance comes to, 1 over their number.
        earlier: their W at earlier rungs, which must exceed that, too: the few that are left by the end, some of them
            much alike, agree too easily.

    Raises:
        InputError: no candidate is left.
    """
    out = dict(vetoed or {})
    for name, rows in table.items():
        found = next(filter(None, (veto(row, voters) for row in rows)), "")
        if found and name not in out:
            out[name] = found
    left = {name: rows for name, rows in table.items() if name not in out}
    if not left:
        told = "; ".join(f"{name}: {why}" for name, why in out.items())
        raise InputError(f"no candidate that trains ({told})", "one at least", "lower the learning rate")
    runs = {(name, i): row for name, rows in left.items() for i, row in enumerate(rows)}
    labels = {f"{name}/{i}": (name, i) for name, i in runs}
    ranked = rank({label: runs[key] for label, key in labels.items()}, voters, weights)
    own = {name: [place for label, place in ranked.places.items() if labels[label][0] == name] for name in left}
    places = {name: math.fsum(values) / len(values) for name, values in own.items()}
    ranks = {
        name: {
            score: float(np.mean([row[label] for label, key in labels.items() if key[0] == name]))
            for score, row in ranked.by_score.items()
        }
        for name in left
    }
    order = sorted(left, key=lambda name: places[name])
    leader = next((name for name in order if name == baseline and places[name] == places[order[0]]), order[0])
    real = next((name for name in order if name not in generated and name != baseline), None)
    noise = seed_noise(list(own.values()))
    base = baseline if baseline in left else real
    margin = places[base] - places[leader] if base is not None else math.inf
    needed = 1 / len(ranked.by_score) if least_agreement is None else least_agreement
    ranked, when = replace(ranked, agreement=min([ranked.agreement, *earlier])), ""
    if earlier and min(earlier) == ranked.agreement:
        when = " at an earlier rung"
    name, reasons = _decide(leader, base, baseline, real, places, noise, ranked, generated, needed, when)
    return Choice(
        name, baseline, leader, ranks, places, ranked.agreement, out, margin, noise, (*_vetoes(out), *reasons)
    )


def seed_noise(places: Sequence[Sequence[float]]) -> float:
    """Standard error of the difference between two candidates' mean places: the variance between seeds, pooled over
    candidates. NaN where none has two seeds.
    """
    several = [values for values in places if len(values) > 1]
    degrees = sum(len(values) - 1 for values in several)
    if not degrees:
        return math.nan
    squares = sum(float(np.var(values)) * len(values) for values in several)
    seeds = sum(map(len, several)) / len(several)
    return math.sqrt(squares / degrees * 2 / seeds)


def _vetoes(out: Mapping[str, str]) -> list[str]:
    return [f"{name} was left out: {why}." for name, why in out.items()]


def _decide(
    leader: str,
    base: str | None,
    baseline: str,
    real: str | None,
    places: Mapping[str, float],
    noise: float,
    ranked: Ranks,
    generated: Collection[str],
    needed: float,
    when: str,
) -> tuple[str, list[str]]:
    """The candidate to take, and the reasons in plain words."""
    if base is None:
        return leader, [f"No candidate of real samples only is left, so {leader}, the best of the others, is taken."]
    said = [] if base == baseline else [f"{baseline} itself was left out, so {base} stands for it."]
    votes = len(ranked.by_score)
    margin = places[base] - places[leader]
    if leader == base:
        return base, [*said, f"No candidate ranks better than {base} on the mean of {votes} scores."]
    told = f"{leader} ranks best: {100 * margin:.0f} places in 100 ahead of {base} on the mean of {votes} scores"
    if votes > 1 and ranked.agreement <= needed:
        return base, [
            *said,
            f"{told}.",
            f"But the scores hardly agree{when} (Kendall's W {ranked.agreement:.2f}; needed is more than {needed:.2f}, "
            f"what chance comes to is {1 / votes:.2f}), so their mean says nothing, and {base} stays.",
        ]
    if not margin > noise:
        why = (
            "with one seed nobody knows how much of that is chance"
            if math.isnan(noise)
            else f"two seeds of one candidate differ by as much ({100 * noise:.0f} places)"
        )
        return base, [*said, f"{told}.", f"But {why}, so {base} stays."]
    said.append(f"{told}, and seeds make a difference of {100 * noise:.0f} places.")
    if leader in generated and real is not None and real != base and not places[real] - places[leader] > noise:
        ahead = f"{real}, without generated samples, is as good within that noise"
        if places[base] - places[real] > noise:
            return real, [*said, f"But {ahead}: generated samples do not help here, and training goes without them."]
        said.append(f"{ahead.capitalize()}, but not clearly better than {base}, so it does not stand in its way.")
    return leader, said

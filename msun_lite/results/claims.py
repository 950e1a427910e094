"""Whether a difference is more than chance: claims about two networks, judged by their spread over seeds.

A claim is a difference taken seed by seed. Two or three seeds say next to nothing about the spread of one difference;
so one spread s is taken from all the claims that are judged together, as if all differences varied alike:

    s^2 = sum_ck (d_ck - mean_k d_ck)^2 / sum_c (n_c - 1),    half of the 95 % interval = t s / sqrt(n_c)

for claim c, seed k and n_c seeds. Claims may be about the same networks, and then some follow from others; Student's t
has as many degrees of freedom as there are that do not. A difference is more than chance if it is larger than half its
interval, and than two standard errors of an accuracy on the test images: more seeds do not say whether other images
would have shown it too. A difference is little if its whole interval is within those two standard errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean

from msun_lite.results.words import signed

STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20)
"""Quantiles of Student's t at 97.5 % for 1 to 11 degrees of freedom; for more, the last one is a little too strict."""


@dataclass(frozen=True)
class Claim:
    """What is claimed of a difference, and the difference.

    Args:
        text: the claim in words.
        expected: what is claimed of the difference: `gain`, `loss` or `little`; None if nothing is.
        differences: in points, one a seed.
        paper: the paper's difference in points, None if it has none.
        between: the two networks, if other claims that are judged with this one are about them as well.
    """

    text: str
    expected: str | None
    differences: Sequence[float]
    paper: float | None = None
    between: tuple[str, str] | None = None


def judge_claims(claims: Sequence[Claim], least: float = 0.0) -> list[dict]:
    """Return each claim with its mean difference, half of the 95 % interval, and a sentence on whether it holds.

    Args:
        claims: those that are judged together.
        least: two standard errors of an accuracy on the test images, in points, see `seeds.two_standard_errors`.

    Returns:
        {"claim", "paper", "differences", "mean", "half_interval", "least", "verdict", "sentence"}; `half_interval` is
        None if no claim has two seeds, as then no spread is known; `verdict` is `holds`, `does not hold` or `not
        decided`, and None where nothing is claimed of a difference that is more than chance.
    """
    found, most = [], max((len(claim.differences) for claim in claims), default=0)
    freedom = sum(_independent([claim for claim in claims if len(claim.differences) > more]) for more in range(1, most))
    squares = sum((value - mean(claim.differences)) ** 2 for claim in claims for value in claim.differences)
    pooled = sum(len(claim.differences) - 1 for claim in claims)
    for claim in claims:
        half = None
        if freedom:
            student = STUDENT[min(freedom, len(STUDENT)) - 1]
            half = student * sqrt(squares / pooled / len(claim.differences))
        found.append(
            {
                "claim": claim.text,
                "paper": None if claim.paper is None else round(claim.paper, 2),
                "differences": [round(value, 2) for value in claim.differences],
                "mean": round(mean(claim.differences), 3),
                "half_interval": None if half is None else round(half, 3),
                "least": round(least, 3),
                "verdict": _verdict(claim, half, least),
                "sentence": _sentence(claim, half, least),
            }
        )
    return found


def _independent(claims: Sequence[Claim]) -> int:
    """Return how many of the claims' differences do not follow from others, as a - c does from a - b and b - c."""
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        return root(joined[name]) if name in joined else name

    count = 0
    for claim in claims:
        if claim.between is None:
            count += 1
            continue
        first, second = map(root, claim.between)
        if first != second:
            joined[first] = second
            count += 1
    return count


def _verdict(claim: Claim, half: float | None, least: float) -> str | None:
    gain = mean(claim.differences)
    if half is None:
        return "not decided"
    if claim.expected == "little":
        if abs(gain) + half <= least:
            return "holds"
        return "does not hold" if abs(gain) - half > least else "not decided"
    if abs(gain) <= max(half, least):
        return "not decided"
    if claim.expected is None:
        return None
    return "holds" if (gain > 0) == (claim.expected == "gain") else "does not hold"


def _sentence(claim: Claim, half: float | None, least: float) -> str:
    count, gain, verdict = len(claim.differences), mean(claim.differences), _verdict(claim, half, least)
    printed = "" if claim.paper is None else f" (paper {signed(claim.paper, 2)})"
    head = f"{claim.text[0].upper()}{claim.text[1:]}{printed}:"
    if half is None:
        known = "it may be chance" if abs(gain) <= least else "no spread is known"
        return f"{head} {signed(gain)} points with one seed; {known}."
    numbers = f"{signed(gain)} ± {half:.1f} points over {'one seed' if count == 1 else f'{count} seeds'}"
    start = f"{head} {verdict}, {numbers}" if verdict else f"{head} {numbers}"
    if claim.expected == "little":
        size = {"holds": "no more", "does not hold": "more", "not decided": "perhaps more"}[verdict]
        return f"{start}, {size} than {least:.1f}."
    if abs(gain) <= half:
        return f"{start}, no more than chance."
    if abs(gain) <= least:
        return f"{start}: more than seeds differ by, but other test images might not show it."
    return f"{start}, more than chance."

"""Whether a difference is more than chance: claims about two networks, judged by their spread over seeds.

A claim is a difference taken seed by seed. Two or three seeds say next to nothing about the spread of one difference;
so it is taken from all the claims that are judged together. A difference is more than chance if it is larger than half
its 95 % interval (Student's t), and than two standard errors of an accuracy on the test images: more seeds do not say
whether other images would have shown it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean

STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20)
"""Quantiles of Student's t at 97.5 % for 1 to 11 degrees of freedom; for more, the last one is a little too strict."""


@dataclass(frozen=True)
class Claim:
    """What is claimed of a difference, and the difference.

    Args:
        text: the claim in words.
        sign: 1 if the difference is claimed to be positive, -1 negative, 0 if nothing is claimed.
        differences: in points, one a seed.
        paper: the paper's difference in points, None if it has none.
    """

    text: str
    sign: int
    differences: Sequence[float]
    paper: float | None = None


def judged(claims: Sequence[Claim], least: float = 0.0) -> list[dict]:
    """Return each claim with its mean difference, half of the 95 % interval, and a sentence on whether it holds.

    Args:
        claims: those that are judged together.
        least: two standard errors of an accuracy on the test images, in points, see `seeds.chance`.

    Returns:
        {"claim", "paper", "differences", "mean", "half_interval", "least", "sentence"}; `half_interval` is None if no
        claim has two seeds, as then no spread is known.
    """
    freedom = sum(len(claim.differences) - 1 for claim in claims)
    squares = sum((value - mean(claim.differences)) ** 2 for claim in claims for value in claim.differences)
    found = []
    for claim in claims:
        half = None
        if freedom:
            student = STUDENT[min(freedom, len(STUDENT)) - 1]
            half = student * sqrt(squares / freedom / len(claim.differences))
        found.append(
            {
                "claim": claim.text,
                "paper": None if claim.paper is None else round(claim.paper, 2),
                "differences": [round(value, 2) for value in claim.differences],
                "mean": round(mean(claim.differences), 3),
                "half_interval": None if half is None else round(half, 3),
                "least": round(least, 3),
                "sentence": _sentence(claim, half, least),
            }
        )
    return found


def _sentence(claim: Claim, half: float | None, least: float) -> str:
    count, gain = len(claim.differences), mean(claim.differences)
    agrees = (gain > 0) - (gain < 0) if claim.sign >= 0 else (gain < 0) - (gain > 0)
    printed = "" if claim.paper is None else f" (paper {_signed(claim.paper, 2)})"
    head = f"{claim.text[0].upper()}{claim.text[1:]}{printed}:"
    if half is None:
        side = {0: "", 1: ", as claimed", -1: ", against the claim"}[agrees * abs(claim.sign)]
        known = "it may be chance" if abs(gain) <= least else "no spread is known"
        return f"{head} {_signed(gain)} points with one seed{side}; {known}."
    numbers = f"{_signed(gain)} ± {half:.1f} points over {'one seed' if count == 1 else f'{count} seeds'}"
    if abs(gain) <= half:
        return f"{head} not decided, {numbers}, no more than chance."
    if abs(gain) <= least:
        return f"{head} not decided, {numbers}: more than seeds differ by, but other test images might not show it."
    verdict = {0: "", 1: "holds, ", -1: "does not hold, "}[agrees * abs(claim.sign)]
    return f"{head} {verdict}{numbers}, more than chance."


def _signed(points: float, digits: int = 1) -> str:
    return f"{points:+.{digits}f}".replace("-", "−")

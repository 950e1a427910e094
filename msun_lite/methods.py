"""The methods by which a network can be trained: what is known of each before anything is built.

What a method computes in a training step is in `train/objectives/`, a file of its name each. To add one is to add that
file, and a line to `METHODS`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A method.

    Args:
        title: what it is called in tables, figures and text.
        scales: how many scales it needs at least; with one, it sees one alone.
        subnets: whether every scale has a subnet of its own; else there is one CNN.
        constraint: the scale-invariance term that it has where none is asked for.
        distil: likewise, the weight of the distillation.
    """

    title: str
    scales: int = 2
    subnets: bool = False
    constraint: str = "none"
    distil: float = 0.0


METHODS = {
    "vanilla": Method("Vanilla", scales=1),
    "mst": Method("MST"),
    "msun": Method("MSUN", subnets=True, constraint="pair"),
    "rs": Method("RS-Nets", distil=1.0),
}
"""Name -> method."""

COMPARED = ("vanilla", "mst", "msun")
"""The methods that the paper compares, and `reproduce` and the chapters with it."""

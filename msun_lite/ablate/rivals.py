"""MSUN's rivals: other cures of the same trouble, and its own best form, as rows of a table.

Each of the three ways to train has a plain form, and one with all that made `lite-plus` better, for the same epochs.
"""

from msun_lite.ablate.ablations import BEYOND, FITTED, FREE, TAUGHT_BY_LARGER, Ablation
from msun_lite.ablate.tables import BEST, OF_SIZE

NATIVE_INPUT = {"subnet_input": "native", "random_sizes": True, "routing": "upto:32,72"}
"""Subnets fed at the image's own size, each within a range that is about its scale on the grid of `lite`."""

OWN_NORMS = {"norm": "per_scale"}
AVERAGES = {"averages": "size"}
WARM = {"weights": "lite-vanilla", "lr": 0.05}
PLUS = {**WARM, "epochs": 30, **FITTED, **FREE, **TAUGHT_BY_LARGER}
"""The preset `lite-plus`, as options beside those of `lite`."""

LONGER = {**PLUS, "epochs": 45, **AVERAGES}
"""The same for as long as the others, with averages of each size in the end."""

PLAIN = {
    "Vanilla": {"method": "vanilla"},
    "MST": {"method": "mst"},
    "MST, BatchNorm per scale": {"method": "mst", **OWN_NORMS},
    "RS-Nets": {"method": "rs"},
    "MSUN": {},
    "MSUN, native input": NATIVE_INPUT,
    "MSUN, trained as lite-plus": PLUS,
}
"""Rows that are measured twice: with the averages of their training, and with averages of each size."""

FAIR = {
    BEST: {**LONGER, **NATIVE_INPUT},
    "MST, BatchNorm per scale, trained as lite-plus, averages of the size": {"method": "mst", **LONGER},
    "RS-Nets, trained as lite-plus, averages of the size": {"method": "rs", **LONGER},
}
"""Rows with all that is known."""


def measured_twice(name: str, options: dict) -> tuple[Ablation, Ablation]:
    """Return two rows of a network: with the averages of its training, and with averages of each size."""
    plain = Ablation(name, options, source=BEYOND)
    return plain, Ablation(f"{name}{OF_SIZE}", options, tested=AVERAGES, source=BEYOND)


RIVALS = {
    one.name: one
    for one in (
        *(row for name, options in PLAIN.items() for row in measured_twice(name, options)),
        *(Ablation(name, options, source=BEYOND) for name, options in FAIR.items()),
    )
}
"""What a row is called -> the network."""

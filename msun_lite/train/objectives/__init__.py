"""What a training step of each method computes: a file a method, named as in `methods.METHODS`."""

import importlib

from msun_lite.train.objectives.objective import Objective


def find_objective(method: str) -> type[Objective]:
    """Return the class of a method of `METHODS`: it makes the network, and is called with a batch in every step."""
    return importlib.import_module(f"{__name__}.{method}").METHOD

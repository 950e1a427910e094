"""What several tests look at in a run folder."""

import torch
from safetensors.torch import load_file


def weights(folder):
    """Return the final weights of a run: {name: tensor}."""
    return load_file(folder / "model.safetensors")


def same(a, b):
    """Return whether two sets of weights are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

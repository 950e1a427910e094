"""A network stored as what differs from the plain CNN that it was made of: a megabyte in place of twenty.

Such a folder has the files of any other, `model.json` and `model.safetensors`. Its description names the CNN's weights
under `base`, with their hash; they are had again when it is loaded, as `pretrained.find_plain` finds them.
"""

import hashlib

import safetensors.torch
import torch
from torch import Tensor

from msun_lite.networks.pretrained import SHIPPED, find_plain
from msun_lite.utils.errors import CheckpointError, UserError


def base_of(spec: dict) -> dict:
    """Return what a description says of the plain CNN that a network was made of: {"weights", "fingerprint"}.

    Raises:
        UserError: if it was made of none, or with a fresh classifier.
    """
    made = spec.get("weights") or {}
    if made.get("source") is None or made.get("fresh"):
        got = "none" if made.get("source") is None else f"a fresh {made['fresh'][0]}"
        raise UserError(f"base: expected a network made of a trained CNN, all its weights, got {got}")
    weights = made["source"]
    if (SHIPPED / weights).parent == SHIPPED:  # a path into this installation says nothing on another machine
        weights = (SHIPPED / weights).name
    return {"weights": weights, "fingerprint": _fingerprint(spec["arch"], weights)}


def check_base(spec: dict) -> None:
    """Raise a `CheckpointError` unless the CNN that a description names as its base is to be had, and the same."""
    arch, weights, expected = spec["arch"], spec["base"]["weights"], spec["base"]["fingerprint"]
    made_of = f"made of {arch} with the weights {weights}"
    try:
        found = _fingerprint(arch, weights)
    except (UserError, CheckpointError) as error:
        raise CheckpointError(f"base: {made_of}, which cannot be had: {error}") from None
    if found != expected:
        raise CheckpointError(f"base: {made_of}: expected those of fingerprint {expected}, got {found}")


def _fingerprint(arch: str, weights: str) -> str:
    """Return a short hash of a plain CNN's trained weights."""
    state = {name: tensor.contiguous() for name, tensor in find_plain(arch, weights).state.items()}
    return hashlib.sha256(safetensors.torch.save(state)).hexdigest()[:16]


def difference(state: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network that are not those of the same network just made, in half precision.

    Tensors of whole numbers stay as they are, and so do those whose values half precision does not reach.
    """
    own = {
        name: tensor
        for name, tensor in state.items()
        if name not in base or base[name].shape != tensor.shape or not torch.equal(base[name], tensor)
    }
    return {name: _halved(tensor).contiguous() for name, tensor in own.items()}


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    kept = torch.isclose(half.float(), tensor.float(), rtol=2**-10, atol=1e-6)
    return half if bool(kept.all()) else tensor

"""A network's state: all its tensors by name, as files keep them."""

import safetensors.torch
import torch
from torch import nn


def stored_state(network: nn.Module) -> bytes:
    """Return a network's state as the content of a safetensors file.

    A tensor that several layers share is in it under each of its names, so that it can be loaded under all of them.
    """
    state, seen = {}, set()
    for name, tensor in network.state_dict().items():
        place = tensor.untyped_storage().data_ptr()
        state[name] = tensor.clone(memory_format=torch.contiguous_format) if place in seen else tensor.contiguous()
        seen.add(place)
    return safetensors.torch.save(state)

"""A network left as it was found: its modes, and what wants gradients."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def preserve_modes(network: nn.Module) -> Iterator[None]:
    """Give every module of a network its mode back, training or evaluation, whatever is done to them inside."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _preserve_gradients(model: nn.Module) -> Iterator[None]:
    """Give the parameters their gradients back, and if they want any, whatever is done to them inside."""
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, wanted, gradient in parameters:
            parameter.requires_grad_(wanted)
            parameter.grad = gradient

"""Tent: BatchNorms that follow the stream of test images (Wang et al., Tent, ICLR 2021)."""

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from msun_lite.networks import MSUN
from msun_lite.per_scale import norms_of
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError, within
from msun_lite.utils.precision import full_precision


@full_precision()
def tent(model: MSUN, batches: Iterable[Tensor], size: int, lr: float = 1e-3) -> Iterator[Tensor]:
    """Yield the logits [B, classes] of batches of test images of one size, from a copy that learns from each of them.

    BatchNorms normalise by the batch's own mean and variance, and after each batch their weights and biases take a step
    of Adam that makes the answers to it surer: less entropy. The logits are those before the step. No label is used.

    Args:
        model: a trained network.
        batches: normalised images [B, 3, L, L] on the model's device, of all classes mixed: a batch of one class has
            other averages than the class's images have.
        size: in pixels; the images are made that small first, and go through the subnet that serves it.
        lr: learning rate; with 0 the batch's averages alone are at work.

    Raises:
        UserError: if there is no BatchNorm, or the rate is negative.
    """
    within("lr", lr, least=0)
    learning = copy.deepcopy(model).eval().requires_grad_(False)
    norms = norms_of(learning)
    if not norms:
        raise UserError("tent: expected BatchNorm layers, found none")
    affine = [parameter for norm in norms.values() for parameter in norm.parameters()]
    for norm in norms.values():
        norm.train()
    for parameter in affine:
        parameter.requires_grad_(True)
    optimizer, scale = torch.optim.Adam(affine, lr), learning.router.scale(size)
    for images in batches:
        logits = learning.forward_at(resize(images, size, learning.antialias), scale)
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        entropy.backward()
        optimizer.step()
        yield logits.detach()

import copy

import pytest
import torch
from torch import nn

from msun_lite.adapt.fixres import PARTS, fix_resolution
from msun_lite.adapt.tent import tent
from msun_lite.networks import MSUN
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError

SCALES = (8, 16, 32)
KINDS = {"vanilla": {}, "msun": {}, "private": {"private": "norms", "norm": "per_scale", "unify": "native"}}


def make(kind="msun"):
    torch.manual_seed(0)
    if kind == "vanilla":
        return MSUN.vanilla("resnet_lite", 32, 5).eval()
    return MSUN.from_backbone("resnet_lite", SCALES, num_classes=5, **KINDS[kind]).eval()


def labelled():
    """Return three batches of images whose brightness is their class."""
    torch.manual_seed(1)
    labels = [torch.arange(10) % 5 for _ in range(3)]
    return [(torch.randn(10, 3, 32, 32) / 4 + part[:, None, None, None], part) for part in labels]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PARTS)
def test_fixres_moves_the_classifier_and_the_last_norms_averages_and_not_a_bit_else(kind, part):
    model = make(kind)
    before = copy.deepcopy(model.state_dict())
    fixed = fix_resolution(model, labelled(), 12, part, epochs=2)
    moved = {name for name, value in fixed.state_dict().items() if not torch.equal(value, before[name])}
    classifier = {"unified.fc.weight", "unified.fc.bias"} if part != "averages" else set()
    own = ".8" if kind == "private" else ""
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    ends = ("bn2", "downsample.1") if part != "classifier" else ()
    averages = {f"unified.layer4.0.{end}{own}.{name}" for end in ends for name in kinds}
    assert moved == classifier | averages
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not fixed.training
    assert all(parameter.requires_grad for parameter in fixed.parameters())


def test_fixres_learns_the_images_of_its_size():
    batches = labelled()
    model = make()
    fixed = fix_resolution(model, batches, 12, epochs=30)

    def loss(network):
        with torch.no_grad():
            parts = [nn.functional.cross_entropy(network(resize(x, 12)), labels) for x, labels in batches]
        return float(sum(parts))

    assert loss(fixed) < 0.8 * loss(model)


def test_fixres_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="part: expected one of averages, classifier, both, got 'all'"):
        fix_resolution(make(), labelled(), 12, "all")
    with pytest.raises(UserError, match="part: expected classifier for a network without BatchNorm"):
        fix_resolution(MSUN.vanilla("resnet_lite_gn", 32, 5), labelled(), 12)
    with pytest.raises(UserError, match="epochs: expected"):
        fix_resolution(make(), labelled(), 12, epochs=0)


def images():
    return [batch for batch, _ in labelled()]


@pytest.mark.parametrize("kind", KINDS)
def test_tent_that_does_not_learn_is_batchnorm_by_the_batch(kind):
    model = make(kind)
    by_batch = copy.deepcopy(model)
    for module in by_batch.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    for found, batch in zip(tent(model, images(), 12, lr=0.0), images(), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(found, by_batch(resize(batch, 12)))


def test_tent_makes_the_answers_to_a_batch_that_comes_again_surer():
    batch = images()[0]
    logits = list(tent(make(), [batch] * 6, 12, lr=1e-2))
    entropies = [float(-(part.softmax(1) * part.log_softmax(1)).sum(1).mean()) for part in logits]
    assert entropies[-1] < 0.8 * entropies[0]


def test_tent_leaves_the_network_that_is_given_as_it_is():
    model = make()
    before = copy.deepcopy(model.state_dict())
    list(tent(model, images(), 12))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_tent_needs_batchnorms():
    model = MSUN.vanilla("resnet_lite_gn", 32, 5)
    with pytest.raises(UserError, match="tent: expected BatchNorm layers, found none"):
        next(tent(model, images(), 12))

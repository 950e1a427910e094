"""What a network of one's own may have put on it when it is cut, and what the refusals of the rest say."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from msun_lite import MSUN
from msun_lite.networks.cutting import cut
from msun_lite.networks.stems import Stem
from msun_lite.shapes import map_shape
from msun_lite.utils.errors import UserError

SCALES = (8, 16, 32)


class Making(nn.Module):
    """A layer that makes tensors in its forward, on whatever device is the default."""

    def __init__(self, kind="none"):
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        if self.kind == "zeros":
            x = x + torch.zeros(x.shape[0], 8, 1, 1)
        if self.kind == "arange":
            x = x + torch.arange(x.size(2))[:, None]
        if self.kind == "constant":
            x = x + torch.full((1, 8, 1, 1), 3.0)
        return self.conv(x)


class Net(nn.Module):
    def __init__(self, kind="none"):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8))
        self.body, self.gain = Making(kind), nn.Parameter(torch.full((8, 1, 1), 2.0))
        self.inner, self.head = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, images):
        x = self.body(self.stem(images)) * self.gain
        return self.head(self.inner(x.mean((2, 3))))


@torch.no_grad()
def answers_as(cnn, model):
    images = torch.rand(2, 3, 32, 32)
    return torch.allclose(model.eval()(images), cnn.eval()(images), atol=1e-6) and model(images[..., :9]).shape == (
        2,
        8,
    )


HOOKS = {
    "forward": lambda module: module.register_forward_hook(lambda *_: None),
    "pre-forward": lambda module: module.register_forward_pre_hook(lambda *_: None),
    "backward": lambda module: module.register_full_backward_hook(lambda *_: None),
    "pre-backward": lambda module: module.register_full_backward_pre_hook(lambda *_: None),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_that_a_cut_would_lose_are_refused_and_others_kept(kind):
    cnn = Net()
    handle = HOOKS[kind](cnn)
    with pytest.raises(UserError, match="model: expected no hook on the network itself, which is cut, got one: remove"):
        MSUN.from_module(cnn, "stem", SCALES)
    handle.remove()
    handle = HOOKS[kind](cnn.stem)
    with pytest.raises(UserError, match="model: expected no hook on stem, inside of which it is cut, got one"):
        MSUN.from_module(cnn, "stem.1", SCALES)
    handle.remove()
    seen = []
    cnn.stem.register_forward_hook(lambda *_: seen.append("stem"))
    cnn.body.conv.register_forward_hook(lambda *_: seen.append("conv"))
    model = MSUN.from_module(cnn, "stem", SCALES)
    seen.clear()
    model(torch.rand(2, 3, 8, 8))
    assert seen == ["stem", "conv"]


class Calling(Net):
    def __call__(self, images):
        return 2 * super().__call__(images)


def test_what_is_put_around_the_forward_is_refused():
    patched = Net()
    patched.forward = lambda images: 2 * Net.forward(patched, images)
    for cnn, what in ((patched, "forward"), (Calling(), "__call__"), (torch.compile(Net()), "forward")):
        with pytest.raises(UserError, match=rf"model: expected .* not yet wrapped or compiled, got another {what}"):
            MSUN.from_module(cnn, "stem", SCALES)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("compute", "what", "remedy"),
    [
        (nn.utils.weight_norm, "those of the older weight_norm", "remove_weight_norm"),
        (nn.utils.spectral_norm, "those of the older spectral_norm", "remove_spectral_norm"),
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), "pruned ones", "prune.remove"),
    ],
)
def test_weights_that_hooks_compute_are_refused_with_the_remedy_and_taken_after_it(compute, what, remedy):
    cnn = Net()
    compute(cnn.body.conv)
    cnn(torch.rand(1, 3, 32, 32))
    with pytest.raises(
        UserError, match=rf"model: expected plain weights in body.conv, got {what}: call .*{remedy} first"
    ):
        MSUN.from_module(cnn, "stem", SCALES)
    if what == "pruned ones":
        prune.remove(cnn.body.conv, "weight")
        assert answers_as(cnn, MSUN.from_module(cnn, "stem", SCALES))


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrized_weights_are_kept_where_their_shape_is(kind, tmp_path):
    cnn = Net()
    getattr(parametrizations, kind)(cnn.body.conv)
    model = MSUN.from_module(cnn, "stem", SCALES)
    assert answers_as(cnn, copy.deepcopy(model))
    model.save(tmp_path)
    again = MSUN.from_module(cnn, "stem", SCALES)
    with torch.no_grad():
        [parameter.zero_() for parameter in again.parameters()]
    assert answers_as(cnn, again.load(tmp_path))
    getattr(parametrizations, kind)(cnn.stem[0])
    with pytest.raises(
        UserError,
        match=r"stems: expected plain weights in stem\.0, whose kernel shrinks, .*remove_parametrizations, or give",
    ):
        MSUN.from_module(cnn, "stem", SCALES)
    assert answers_as(cnn, MSUN.from_module(cnn, "stem", SCALES, {8: Stem(5, {}), 16: Stem(5, {})}))


class Doubled(nn.Module):
    def forward(self, tensor):
        return 2 * tensor


def test_a_parametrization_of_the_network_itself_is_kept():
    cnn = Net()
    parametrize.register_parametrization(cnn, "gain", Doubled())
    assert answers_as(cnn, MSUN.from_module(cnn, "stem", SCALES))


def test_tied_weights_are_saved_under_both_names_and_stay_tied(tmp_path):
    cnn = Net()
    cnn.head.weight = cnn.inner.weight
    model = MSUN.from_module(cnn, "stem", SCALES)
    model.save(tmp_path)
    again = MSUN.from_module(cnn, "stem", SCALES)
    with torch.no_grad():
        [parameter.zero_() for parameter in again.parameters()]
    again.load(tmp_path)
    assert answers_as(cnn, again)
    assert again.unified.head.weight is again.unified.inner.weight


@pytest.mark.parametrize("kind", ["zeros", "arange", "constant"])
def test_tensors_made_in_a_layers_forward_are_no_obstacle(kind):
    cnn = Net(kind)
    assert answers_as(cnn, MSUN.from_module(cnn, "stem", SCALES))


def test_what_cannot_be_recorded_is_named_with_its_line_and_layer_and_the_remedy():
    remedy = "expected this in a layer of its own, as only what contains body.conv is recorded, or another split"
    message = rf"split: the forward of Net cannot be recorded at {re.escape(__file__)}:\d+ in body: zeros.*; {remedy}"
    with pytest.raises(UserError, match=message):
        MSUN.from_module(Net("zeros"), "body.conv", SCALES)


class Fixed(nn.Module):
    def forward(self, x):
        return x.reshape(len(x), 8, 16, 16)


def test_what_cannot_take_a_scale_is_named_with_its_line_and_layer():
    cnn = Net()
    cnn.stem.append(Fixed())
    message = rf"scales: the lower layers cannot take images of 64 px at {re.escape(__file__)}:\d+ in stem\.2: shape"
    with pytest.raises(UserError, match=message):
        map_shape(cut(cnn, "body")[0], 64)

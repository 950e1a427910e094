"""One model serves many callers: threads, replicas, compiled and functional calls of it give the same answers."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from msun_lite import MSUN
from msun_lite.utils.errors import UserError
from msun_lite.utils.precision import full_precision

SIZES = (8, 12, 16, 20, 32, 40)
OWN = ({"norm": "per_scale"}, {"unify": "native", "norm": "per_scale"}, {"unify": "none"}, {})

WHOLE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14)
"""Whether a model is compiled as one graph: of older versions, 2.10 needs several."""


class Block(nn.Module):
    """A block with a norm of its own, recomputed in the backward pass if asked to."""

    def __init__(self, recomputed=None):
        super().__init__()
        self.conv, self.norm, self.recomputed = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), recomputed

    def run(self, x):
        return torch.relu(self.norm(self.conv(x))) + x

    def forward(self, x):
        if self.recomputed is None or not x.requires_grad:
            return self.run(x)
        return checkpoint(self.run, x, use_reentrant=self.recomputed)


def make(recomputed=None, **options):
    """Return a small MSUN whose scales give very different answers where they own something."""
    torch.manual_seed(0)
    lower = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    upper = nn.Sequential(Block(recomputed), Block(recomputed))
    cnn = nn.Sequential(lower, upper, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16))
    model = MSUN.from_module(cnn, "0", (8, 16, 32), **options).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.weight)
    return model


def batches(count=2):
    return {size: torch.randn(count, 3, size, size) for size in SIZES}


@torch.no_grad()
def answers(model, images):
    return {size: model(batch) for size, batch in images.items()}


@pytest.mark.parametrize("options", OWN)
def test_eight_threads_get_the_ten_thousand_answers_that_one_gets(options):
    model, images = make(**options), batches(count=8)
    right = answers(model, images)

    def serve(worker):
        wrong = 0
        with torch.inference_mode():
            for call in range(160):
                size = SIZES[(worker + call) % len(SIZES)]
                wrong += int((~torch.isclose(model(images[size]), right[size], atol=1e-5).all(1)).sum())
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(serve, range(8))) == 0  # of 8 x 160 x 8


@pytest.mark.parametrize(("dynamic", "options"), [(False, OWN[0]), (False, OWN[2]), (None, OWN[1])])
def test_a_compiled_model_answers_at_every_size_and_from_threads(options, dynamic):
    torch._dynamo.reset()
    model, images = make(**options), batches()
    right = answers(model, images)
    # Sizes that vary cannot be compiled as one graph; those that are fixed can.
    compiled = torch.compile(model, backend="eager", dynamic=dynamic, fullgraph=WHOLE and dynamic is False)
    for _ in range(2):
        torch.testing.assert_close(answers(compiled, images), right)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: answers(compiled, images), range(4)):
            torch.testing.assert_close(found, right)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # PyTorch 2.10 looks at those of features
def test_a_compiled_step_over_all_scales_has_the_gradients_of_a_plain_one():
    torch._dynamo.reset()
    plain = make(norm="per_scale").train()
    compiled = copy.deepcopy(plain)
    views = {scale: torch.randn(4, 3, scale, scale) for scale in plain.scales}

    def loss(model):
        return sum(logits.square().sum() for logits in model.forward_scales(views)[1].values())

    loss(plain).backward()
    torch.compile(lambda: loss(compiled), backend="eager", fullgraph=WHOLE)().backward()
    for expected, found in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())  # the averages moved alike


@pytest.mark.parametrize("options", OWN)
def test_functional_calls_answer_with_the_weights_that_they_are_given(options):
    model, other, images = make(**options), make(**options), batches()
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.3)
    right, state = answers(other, images), dict(other.state_dict())
    for size, batch in images.items():
        torch.testing.assert_close(functional_call(model, state, (batch,)), right[size])
        each = vmap(lambda image: functional_call(model, state, (image[None],))[0])(batch)
        torch.testing.assert_close(each, right[size], atol=1e-5, rtol=1e-4)

    def loss(parameters):
        return functional_call(model, parameters, (images[16],)).square().sum()

    found = grad(loss)(dict(model.named_parameters()))
    loss(dict(model.named_parameters())).backward()
    for name, parameter in model.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found[name], expected)


def replica(network):
    """Return a copy as nn.DataParallel makes one for each GPU: shallow, its tensors replaced."""
    copies = {module: module._replicate_for_data_parallel() for module in network.modules()}
    for module, copied in copies.items():
        for name, layer in module._modules.items():
            setattr(copied, name, copies.get(layer))
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            setattr(copied, name, None if tensor is None else 2 * tensor.detach())
    return copies[network]


@pytest.mark.parametrize("options", OWN)
def test_replicas_run_their_own_tensors(options):
    model, doubled, images = make(**options), make(**options), batches()
    doubled.load_state_dict({name: 2 * tensor for name, tensor in model.state_dict().items()})
    torch.testing.assert_close(answers(replica(model), images), answers(doubled, images))


@pytest.mark.parametrize("options", OWN)
def test_copies_and_pickles_answer_as_the_model_does(options):
    model, images = make(**options), batches()
    right = answers(model, images)
    torch.save(model, buffer := io.BytesIO())
    pickled = torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    for again in (copy.deepcopy(model), pickled):
        torch.testing.assert_close(answers(again, images), right)


@pytest.mark.parametrize("recomputed", [True, False])
def test_layers_recomputed_in_the_backward_pass_are_those_of_their_scale(recomputed):
    plain, saving = make(norm="per_scale"), make(recomputed, norm="per_scale")
    saving.load_state_dict(plain.state_dict())
    views = {scale: torch.randn(4, 3, scale, scale) for scale in plain.scales}
    for model in (plain, saving):
        sum(logits.square().sum() for logits in model.forward_scales(views)[1].values()).backward()
    for (name, expected), found in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)


def test_hooks_on_layers_that_differ_by_scale_are_kept_and_see_their_layer():
    model, seen = make(norm="per_scale"), []
    for name in ("unified", "unified.1", "unified.1.0.norm", "unified.1.0.norm.16"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.append((name, type(module))))
    model(torch.rand(1, 3, 16, 16))
    assert [name for name, _ in seen] == ["unified.1.0.norm.16", "unified.1.0.norm", "unified.1", "unified"]
    seen.clear()
    model(torch.rand(1, 3, 32, 32))
    assert [name for name, _ in seen] == ["unified.1.0.norm", "unified.1", "unified"]


def test_a_layer_that_is_exchanged_is_used():
    model = make(norm="per_scale")
    model(torch.rand(1, 3, 16, 16))
    model.unified.set_submodule("4", nn.Linear(8, 3))
    assert model(torch.rand(1, 3, 16, 16)).shape == (1, 3)


def test_a_part_that_differs_by_scale_says_so_when_it_is_called_alone():
    with pytest.raises(UserError, match="scale: expected one of the scales 8, 16, 32 for layers that differ by scale"):
        make(norm="per_scale").unified(torch.rand(1, 8, 16, 16))


def test_full_precision_lasts_until_the_last_thread_leaves_it():
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    try:
        convolutions.fp32_precision = "tf32"
        first, second = full_precision(), full_precision()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert convolutions.fp32_precision == "ieee"
        second.__exit__(None, None, None)
        assert convolutions.fp32_precision == "tf32"
    finally:
        convolutions.fp32_precision = before

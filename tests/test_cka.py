import pytest
import torch
from ckatorch.core import cka_base, cka_batch
from torch import nn

from msun_lite.cka import StreamingCKA, capture_outputs, gram, linear_cka
from msun_lite.networks.lite import ResNetLite
from msun_lite.utils.errors import UserError

SHAPES = [(32, 2000, 500), (200, 20, 30), (100, 50, 1000)]
"""Images and the features of two layers: more features than images, fewer, and one of each."""


def related(n, p, q, seed=0):
    """Return float64 features [n, p] and [n, q] that share some columns, far from zero mean."""
    generator = torch.Generator().manual_seed(seed)
    X, Y = (torch.randn(n, size, dtype=torch.float64, generator=generator) for size in (p, q))
    half = min(p, q) // 2
    Y[:, :half] += X[:, :half]
    return X + 5, Y - 3


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_agrees_with_an_independent_library(shape, unbiased):
    X, Y = related(*shape)
    expected = cka_base(X, Y, unbiased=unbiased)
    torch.testing.assert_close(linear_cka(X, Y, unbiased), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", [*SHAPES, (32, 100_000, 100_000)])
def test_single_precision_is_within_a_ten_thousandth_also_far_from_zero_mean(shape, unbiased):
    X, Y = related(*shape)
    X = X + 100
    single = linear_cka(X.float(), Y.float(), unbiased)
    assert single.dtype == torch.float32
    assert abs(single.double() - linear_cka(X.float().double(), Y.float().double(), unbiased)) < 1e-4


@pytest.mark.parametrize("shape", [(2, 5, 7), (3, 2, 2), (3, 5, 7)])
def test_two_images_are_enough_for_the_equation_as_printed(shape):
    X, Y = related(*shape)
    K, L = ((centred := features - features.mean(0)) @ centred.T for features in (X, Y))
    expected = (K * L).sum() / (K.norm() * L.norm())
    torch.testing.assert_close(linear_cka(X, Y), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_features_of_two_precisions_are_compared_in_the_higher_one(shape, unbiased):
    X, Y = related(*shape)
    expected = linear_cka(X, Y.float().double(), unbiased)
    for mixed in (linear_cka(X, Y.float(), unbiased), linear_cka(Y.float(), X, unbiased)):
        assert mixed.dtype == torch.float64
        assert mixed.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_autocast_around_it_changes_nothing(shape, unbiased):
    X, Y = (features.float() for features in related(*shape))
    expected = linear_cka(X, Y, unbiased)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear_cka(X, Y, unbiased), expected)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_features_give_one(shape, unbiased):
    X, _ = related(*shape)
    assert linear_cka(X, X, unbiased).item() == pytest.approx(1, abs=1e-12)


def test_unrelated_features_are_near_zero_without_bias_and_near_one_with_it():
    generator = torch.Generator().manual_seed(0)
    draws = [[torch.randn(32, 2000, generator=generator, dtype=torch.float64) for _ in "XY"] for _ in range(20)]
    unbiased = torch.stack([linear_cka(X, Y, unbiased=True) for X, Y in draws])
    assert unbiased.abs().max() < 0.15  # three standard deviations, sqrt(2 / (n (n - 3))) each
    assert unbiased.mean().abs() < 0.035
    assert min(linear_cka(X, Y) for X, Y in draws) > 0.9


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_rotation_scaling_and_shift_change_nothing_but_another_linear_map_does(shape, unbiased):
    X, Y = related(*shape)
    rotation = torch.linalg.qr(torch.randn(X.shape[1], X.shape[1], dtype=torch.float64)).Q
    same = linear_cka(X, Y, unbiased)
    for moved in (X @ rotation, 7.5 * X, X + torch.randn(X.shape[1], dtype=torch.float64)):
        torch.testing.assert_close(linear_cka(moved, Y, unbiased), same, rtol=0, atol=1e-9)
    squeezed = X * torch.linspace(0, 5, X.shape[1], dtype=torch.float64)
    assert abs(linear_cka(squeezed, Y, unbiased) - same) > 1e-3


def test_maps_are_flattened():
    X, Y = related(20, 24, 12)
    torch.testing.assert_close(linear_cka(X.reshape(20, 2, 3, 4), Y), linear_cka(X, Y))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("width", [3, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_features_are_refused_and_never_nan(unbiased, width, dtype):
    X, constant = torch.rand(50, 3, dtype=dtype), torch.rand(width, dtype=dtype).expand(50, -1)
    for pair in ((X, constant), (constant, X)):
        with pytest.raises(UserError, match="constant"):
            linear_cka(*pair, unbiased)


def test_too_few_images_unequal_ones_and_values_that_are_not_finite_are_refused():
    X = torch.rand(10, 3)
    with pytest.raises(UserError, match="at least 2 images, got 1"):
        linear_cka(X[:1], X[:1])
    for few in (X[:2], X[:3]):
        with pytest.raises(UserError, match=f"at least 4 images for the unbiased value, got {len(few)}"):
            linear_cka(few, few, unbiased=True)
        with pytest.raises(UserError, match=f"at least 4 images for the unbiased value, got {len(few)}"):
            StreamingCKA().update({"a": gram(few)}, {"a": gram(few)})
    with pytest.raises(UserError, match="the same images, got 10 and 9"):
        linear_cka(X, X[:9])
    with pytest.raises(UserError, match="finite"):
        linear_cka(X, X.clone().fill_(torch.nan))


@pytest.mark.parametrize("unbiased", [False, True])
def test_one_batch_streamed_is_the_plain_value_for_every_pair_of_layers(unbiased):
    layers = [*related(40, 30, 200), *related(40, 60, 50, seed=1)]
    stream = StreamingCKA()
    stream.update({str(i): gram(layer) for i, layer in enumerate(layers)}, {"a": gram(layers[0]), "b": gram(layers[3])})
    expected = [[linear_cka(X, Y, unbiased) for Y in (layers[0], layers[3])] for X in layers]
    torch.testing.assert_close(stream.value(unbiased), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


def test_batches_streamed_are_minibatch_cka_of_an_independent_library():
    X, Y = related(120, 60, 80)
    stream = StreamingCKA()
    for x, y in zip(X.split(30), Y.split(30), strict=True):
        stream.update({"x": gram(x)}, {"y": gram(y)})
    expected = cka_batch(X.reshape(4, 30, 60), Y.reshape(4, 30, 80))
    assert stream.value(unbiased=True).item() == pytest.approx(expected.item(), abs=1e-6)
    assert stream.images == 120


def test_the_unbiased_value_does_not_drift_with_the_batch_size_as_the_biased_one_does():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(2000, 200, generator=generator, dtype=torch.float64)
    Y = X + 2 * torch.randn(2000, 200, generator=generator, dtype=torch.float64)
    values = {}
    for batch in (20, 500):
        stream = StreamingCKA()
        for x, y in zip(X.split(batch), Y.split(batch), strict=True):
            stream.update({"x": gram(x)}, {"y": gram(y)})
        values[batch] = stream.value(unbiased=True).item(), stream.value().item()
    assert values[20][0] == pytest.approx(values[500][0], abs=0.01)
    assert values[20][1] > values[500][1] + 0.3


def test_streaming_names_a_constant_layer_and_refuses_other_layers_or_no_batch():
    stream, good = StreamingCKA(), gram(torch.rand(10, 3))
    with pytest.raises(UserError, match="a batch first"):
        stream.value()
    stream.update({"conv1": good, "dead": gram(torch.ones(10, 3))}, {"conv1": good})
    with pytest.raises(UserError, match="of dead: they are constant"):
        stream.value(unbiased=True)
    with pytest.raises(UserError, match="layers of the batches before"):
        stream.update({"conv2": good}, {"conv1": good})
    with pytest.raises(UserError, match="the same images, got 10 and 9"):
        stream.update({"conv1": good}, {"conv1": gram(torch.rand(9, 3))})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unbiased_features_all_equally_far_apart_are_refused_rather_than_rounded(dtype):
    generator = torch.Generator().manual_seed(0)
    other = torch.randn(20, 5, generator=generator, dtype=dtype)
    for flat in (torch.eye(20, dtype=dtype), 3 * torch.eye(20, dtype=dtype)[:, :1]):
        assert linear_cka(flat, other) > 0
        with pytest.raises(UserError, match="not defined for the first features"):
            linear_cka(flat, other, unbiased=True)


@pytest.mark.parametrize("wrong", [[1, 2, 3, 4], torch.rand(10), torch.rand(10, 3, dtype=torch.complex64)])
def test_what_are_no_features_is_refused(wrong):
    with pytest.raises(UserError, match="expected a tensor of real features"):
        linear_cka(wrong, torch.rand(10, 3))


def test_features_in_place_of_gram_matrices_are_refused():
    for wrong in (torch.rand(10, 3), torch.rand(10, 10)):
        with pytest.raises(UserError, match="made by gram"):
            StreamingCKA().update({"a": wrong}, {"a": wrong})


def test_streaming_keeps_no_more_for_more_images():
    stream, kept = StreamingCKA(), []
    for _ in range(3):
        stream.update({"x": gram(torch.rand(10, 3))}, {"x": gram(torch.rand(10, 3))})
        kept.append(sum(tensor.numel() for tensors in stream._sums.values() for tensor in tensors))
    assert len(set(kept)) == 1


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_features_are_caught_by_name_in_the_order_they_run_and_without_gradients():
    model, images = ResNetLite(10).eval(), torch.rand(2, 3, 32, 32)
    with capture_outputs(model, ["layer2", "layer1"]) as features:
        model(images)
        assert list(features) == ["layer1", "layer2"]
        expected = model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(images)))))
        torch.testing.assert_close(features["layer1"], expected)
        assert not features["layer1"].requires_grad
    assert hooks(model) == 0


def test_a_layer_that_is_overwritten_in_place_is_caught_as_it_was():
    model, images = ResNetLite(10).eval(), torch.randn(2, 3, 32, 32)
    with capture_outputs(model, ["bn1"]) as features:
        model(images)
    assert features["bn1"].min() < 0  # the ReLU behind it, which works in place, has set these to 0


def test_no_hook_stays_after_an_error():
    model = ResNetLite(10)
    with pytest.raises(RuntimeError, match="expected input"), capture_outputs(model, ["layer1"]):
        model(torch.rand(2, 5, 32, 32))
    with pytest.raises(UserError, match="expected a list of names"), capture_outputs(model, "layer1"):
        raise AssertionError("the body must not run")
    with pytest.raises(UserError, match="did you mean layer1"), capture_outputs(model, ["bn1", "layr1"]):
        raise AssertionError("the body must not run")
    assert hooks(model) == 0


def test_a_layer_without_a_tensor_is_refused():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = nn.Sequential(Pair())
    with pytest.raises(UserError, match="layer 0: expected a tensor, got tuple"), capture_outputs(model, ["0"]):
        model(torch.rand(1))
    assert hooks(model) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_gpu_gives_what_the_cpu_gives(shape, unbiased):
    X, Y = (features.float() for features in related(*shape))
    found = linear_cka(X.cuda(), Y.cuda(), unbiased)
    assert found.is_cuda
    assert abs(found.cpu() - linear_cka(X, Y, unbiased)) < 1e-4

import pytest
import torch

from msun_lite import MSUN
from msun_lite.explain import grad_cam
from msun_lite.networks.graphs import Exported
from msun_lite.utils.errors import UserError

onnxruntime = pytest.importorskip("onnxruntime")


def make(**options):
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", (8, 32), num_classes=5, **options).eval()


def sizes(folder, *patterns):
    return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "per_scale"},
        {"unify": "native", "norm": "per_scale", "subnet_input": "native"},
        {"unify": "none"},
    ],
)
def test_graphs_with_shared_weights_give_the_models_logits(options, tmp_path):
    model = make(**options)
    exported = Exported(model.export(tmp_path / "exported", "onnx", weights="shared"))
    for images in (torch.rand(4, 3, 8, 8), torch.rand(1, 3, 50, 40), [torch.rand(3, s, s) for s in (30, 9, 8)]):
        torch.testing.assert_close(exported(images), model(images), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_averages_of_a_size_are_chosen_in_shared_graphs_too(tmp_path):
    model = make().with_averages(torch.rand(20, 3, 32, 32), (8, 16, 32))
    exported = Exported(model.export(tmp_path / "exported", "onnx", weights="shared"))
    for size in (8, 14, 32):
        images = torch.rand(2, 3, size, size)
        torch.testing.assert_close(exported(images), model(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["shared", "per_scale"])
def test_weights_that_scales_share_are_stored_once(norm, tmp_path):
    model = make(norm=norm)
    apart = model.export(tmp_path / "apart", "onnx")
    shared = model.export(tmp_path / "shared", "onnx", weights="shared")
    assert sizes(shared, "*.onnx") < 80_000
    parameters = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    assert sizes(shared, "weights.bin") < 1.02 * parameters
    assert sizes(shared, "*.onnx", "weights.bin") < 0.6 * sizes(apart, "*.onnx")


def test_half_precision_halves_the_file_and_rounds_the_weights_alone(tmp_path):
    model = make()
    single = model.export(tmp_path / "single", "onnx", weights="shared")
    half = model.export(tmp_path / "half", "onnx", weights="half")
    assert sizes(half, "weights.bin") < 0.52 * sizes(single, "weights.bin")
    rounded = make()
    for tensor in rounded.parameters():
        if tensor.ndim > 1:
            tensor.data = tensor.data.half().float()
    images = torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(Exported(half)(images), rounded(images), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(rounded(images), model(images), atol=1e-5, rtol=1e-5)


def test_weights_that_lose_nothing_by_it_are_in_half_precision_unasked(tmp_path):
    model = MSUN.from_pretrained("quick-msun")  # shipped in half precision
    folder = model.export(tmp_path / "exported", "onnx", weights="shared")
    assert sizes(folder, "weights.bin") < 2.1 * sum(tensor.numel() for tensor in model.state_dict().values())
    images = torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        torch.testing.assert_close(Exported(folder)(images), model(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("arch", ["resnet_lite", "densenet_lite", "vgg_lite", "mobilenet_lite"])
def test_maps_are_those_of_grad_cam(arch, tmp_path):
    torch.manual_seed(0)
    model = MSUN.from_backbone(arch, (32, 64), num_classes=5).eval()
    folder = model.export(tmp_path / "exported", "onnx", weights="shared")
    session = onnxruntime.InferenceSession(folder / "scale-64.onnx")
    images = torch.rand(2, 3, 64, 64)
    logits, maps = map(torch.from_numpy, session.run(["logits", "maps"], {"images": images.numpy()}))
    difference = logits - maps.mean((2, 3))  # the classifier's bias
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), atol=1e-4, rtol=1e-4)
    if arch != "resnet_lite":
        return  # their last stage ends before the last map
    kept = maps[range(2), logits.argmax(1)].relu()
    low, high = kept.amin((1, 2), keepdim=True), kept.amax((1, 2), keepdim=True)
    found = torch.nn.functional.interpolate(((kept - low) / (high - low))[None], (64, 64), mode="bilinear")[0]
    torch.testing.assert_close(found, grad_cam(model, images, None, 64), atol=0.02, rtol=0)


def test_what_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(UserError, match="weights: expected one of apart, shared, half, got 'twice'"):
        make().export(tmp_path / "new", "onnx", weights="twice")
    with pytest.raises(UserError, match="weights: expected apart with the format torch, got half"):
        make().export(tmp_path / "new", "torch", weights="half")
    model = make()
    model.unified.fc.weight.data[0, 0] = 1e6
    with pytest.raises(UserError, match="differs from the model|expected weights"):
        model.export(tmp_path / "new", "onnx", weights="half")
    assert list(tmp_path.iterdir()) == []

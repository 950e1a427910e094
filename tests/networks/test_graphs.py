import pytest
import torch

from msun_lite import MSUN
from msun_lite.export import main
from msun_lite.networks.graphs import Exported
from msun_lite.utils.errors import CheckpointError, UserError


def make(**options):
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", (8, 32), num_classes=5, **options).eval()


@torch.no_grad()
@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize("options", [{}, {"unify": "native", "norm": "per_scale"}, {"unify": "none"}])
def test_an_exported_model_gives_the_models_logits(format, options, tmp_path):
    model = make(**options)
    exported = Exported(model.export(tmp_path / "exported", format))
    for images in (torch.rand(4, 3, 8, 8), torch.rand(1, 3, 50, 40), [torch.rand(3, s, s) for s in (30, 9, 8)]):
        torch.testing.assert_close(exported(images), model(images), atol=1e-5, rtol=1e-4)
    beside = ["runtime", "serve"] if format == "onnx" else []
    files = sorted(path.stem for path in (tmp_path / "exported").iterdir())
    assert files == sorted(["model", "scale-32", "scale-8", *beside])


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model = make().train()
    model.unified.layer4.eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.export(tmp_path / "exported")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@torch.no_grad()
def test_an_exported_model_routes_and_resizes_as_the_model_does_now(tmp_path):
    model = make()
    model.routing, model.antialias = "ceil", False
    exported = Exported(model.export(tmp_path / "exported"))
    for size in (10, 40):
        images = torch.rand(1, 3, size, size)
        torch.testing.assert_close(exported(images), model(images), atol=1e-5, rtol=1e-4)


def test_a_graph_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("msun_lite.networks.graphs.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs from the model by 0.*nothing written"):
        make().export(tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match="format: expected one of torch, onnx, got 'tflite'"):
        make().export(tmp_path / "new", "tflite")
    with pytest.raises(UserError, match="crop_ratio: expected at most 1, got 1.5"):
        make().export(tmp_path / "new", crop_ratio=1.5)
    with pytest.raises(UserError, match="exists already"):
        make().export(tmp_path)
    with pytest.raises(UserError, match="/dev/null/x/new: the folder cannot be made"):
        make().export("/dev/null/x/new")


def test_damaged_exports_are_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match="expected an exported model"):
        Exported(tmp_path)
    for format in ("torch", "onnx"):
        folder = make().export(tmp_path / format, format)
        path = next(folder.glob("scale-8.*"))
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(CheckpointError, match="scale-8"):
            Exported(folder)


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_an_exported_model_takes_images_of_any_float_type_and_layout(format, tmp_path):
    exported = Exported(make().export(tmp_path / "exported", format))
    images = torch.rand(2, 3, 20, 30)
    expected = exported(images)
    assert expected.dtype == torch.float32
    for given in (images.double(), images.clone().requires_grad_(), images.mT.contiguous().mT, list(images.double())):
        torch.testing.assert_close(exported(given), expected, atol=1e-5, rtol=1e-4, check_stride=False)
    torch.testing.assert_close(exported(images.half()), exported(images.half().float()), atol=1e-2, rtol=1e-2)


def test_gradients_pass_through_an_exported_torch_graph(tmp_path):
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    Exported(make().export(tmp_path / "exported"))(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_a_model_in_another_precision_is_exported_in_single(tmp_path):
    model = make().to(torch.bfloat16)
    exported = Exported(model.export(tmp_path / "exported"))
    assert exported(torch.rand(2, 3, 8, 8)).dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(("words", "ratio"), [([], 0.875), (["--crop_ratio", "0.5"], 0.5)])
def test_an_exported_model_looks_at_the_square_that_its_run_was_measured_on(words, ratio, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("msun_lite.export.export", lambda _, out, *options: (out.mkdir(), asked.append(options)))
    assert main(["lite-plus", "--out", str(tmp_path / "exported"), *words]) == 0
    assert asked == [("torch", ratio, "apart")]


@torch.no_grad()
def test_the_command_exports_what_a_name_or_a_folder_stands_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make()
    (tmp_path / "run").mkdir()
    model.save("run")
    assert main(["run", "--out", "exported"]) == 0
    assert capsys.readouterr().out == "exported: model.json, scale-32.pt2, scale-8.pt2\n"
    images = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(Exported("exported")(images), model(images), atol=1e-5, rtol=1e-4)
    for words, message in (
        (["run", "--out", "exported"], "exported: exists already, expected a new folder"),
        (["nothing", "--out", "new"], "nothing: expected "),
        (
            ["run", "--out", "new", "--format", "tflite"],
            "format: expected one of torch, onnx, difference, got 'tflite'",
        ),
        (["run", "--out", "run/model.json/new"], "run/model.json/new: expected a folder that can be written to, got"),
        (["run", "--out", "new", "--crop_ratio", "0"], "crop_ratio: expected more than 0, got 0.0"),
        (["run"], "the following arguments are required: out"),
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported", "run"]

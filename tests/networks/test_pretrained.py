import dataclasses
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from msun_lite import MSUN
from msun_lite.data import imagenet_classes
from msun_lite.networks.backbones import RECIPES
from msun_lite.networks.pretrained import find_plain
from msun_lite.networks.stems import resample_kernel
from msun_lite.utils.errors import CheckpointError, UserError


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; answers with the headers by which the Hub's client knows a file."""

    def end_headers(self):
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"' + hashlib.sha256(self.path.encode()).hexdigest() + '"')
        super().end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    def handler(*arguments):
        return Handler(*arguments, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def save_with_hash(state, folder, name):
    """Write a .pth as torchvision publishes them, the start of its checksum in its name."""
    torch.save(state, folder / "weights")
    digest = hashlib.sha256((folder / "weights").read_bytes()).hexdigest()[:8]
    return (folder / "weights").rename(folder / f"{name}-{digest}.pth")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Publish fresh weights of mobilenet_v2 on a local server; return their state and their file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    torch.manual_seed(1)
    state = torchvision.models.mobilenet_v2().state_dict()
    (tmp_path / "web").mkdir()
    path = save_with_hash(state, tmp_path / "web", "mobilenet_v2")
    entry = torchvision.models.MobileNet_V2_Weights.DEFAULT
    with served(tmp_path / "web") as address:
        monkeypatch.setattr(entry.value, "url", f"{address}/{path.name}")
        yield state, path


def test_published_weights_reach_every_part_of_an_msun(published):
    state, _ = published
    model = MSUN.from_backbone("mobilenet_v2", (16, 64, 128), num_classes=7, weights="DEFAULT")
    large = {**model.subnets["128"].state_dict(), **model.unified.state_dict()}
    fresh = {"classifier.1.weight", "classifier.1.bias"}
    assert set(model.spec["weights"]["fresh"]) == fresh
    assert model.spec["class_names"] is None
    assert all(torch.equal(large[name], state[name]) for name in state if name not in fresh)
    small = model.subnets["16"].state_dict()
    first = "features.0.0.weight"
    assert torch.equal(small[first], resample_kernel(state[first], 1))
    assert all(torch.equal(tensor, state[name]) for name, tensor in small.items() if name != first)


def test_published_weights_make_vanilla_the_published_network(published):
    state, _ = published
    reference = torchvision.models.mobilenet_v2().eval()
    reference.load_state_dict(state)
    model = MSUN.vanilla("mobilenet_v2", 64, weights="DEFAULT").eval()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(images), reference(images))
    assert model.spec["weights"]["fresh"] == []
    assert model.spec["class_names"] == list(imagenet_classes())
    assert model.spec["crop_ratio"] == 224 / 232  # as torchvision's transforms of these weights have it


def test_weights_damaged_on_the_way_are_refused(published):
    _, path = published
    path.write_bytes(path.read_bytes()[:-1000] + bytes(1000))
    with pytest.raises(UserError, match=r"weights: http://127.*mobilenet_v2-.* cannot be had: .*hash"):
        MSUN.vanilla("mobilenet_v2", weights="DEFAULT")


@pytest.mark.parametrize("kept", [0, 4, 1000])
def test_a_torn_copy_in_the_cache_is_named_with_the_remedy(published, tmp_path, kept):
    _, path = published
    copy = tmp_path / "cache" / "hub" / "checkpoints" / path.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        UserError, match=rf"^weights: {copy}: expected the whole file of http.*; remove it, and it is down"
    ):
        MSUN.vanilla("mobilenet_v2", weights="DEFAULT")
    copy.unlink()
    MSUN.vanilla("mobilenet_v2", weights="DEFAULT")


def test_weights_that_are_not_there_are_refused(published):
    _, path = published
    path.unlink()
    with pytest.raises(UserError, match=r"cannot be had: .*404"):
        MSUN.vanilla("mobilenet_v2", weights="IMAGENET1K_V2")


def test_timms_weights_bring_their_normalisation(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    torch.manual_seed(1)
    state = timm.create_model("test_resnet").state_dict()
    path = save_with_hash(state, tmp_path, "test_resnet")
    name = "test_resnet.r160_in1k"
    with served(tmp_path) as address:
        changes = {"url": f"{address}/{path.name}", "hf_hub_id": None, "mean": (0.1, 0.2, 0.3)}
        configs = timm.models._registry._model_pretrained_cfgs
        monkeypatch.setitem(configs, name, dataclasses.replace(configs[name], **changes))
        model = MSUN.from_backbone(f"timm/{name}", (32, 64), num_classes=3, weights="DEFAULT")
    assert model.spec["normalisation"]["mean"] == [0.1, 0.2, 0.3]
    assert torch.equal(model.unified.get_submodule("layer3.0.conv1").weight, state["layer3.0.conv1.weight"])


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_come_from_a_file(tmp_path, suffix):
    torch.manual_seed(1)
    state = RECIPES["resnet_lite"].build(4).state_dict()
    path = tmp_path / f"mine.{suffix}"
    if suffix == "pth":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        safetensors.torch.save_file(state, path)
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=4, weights=str(path))
    assert torch.equal(model.unified.fc.weight, state["fc.weight"])


def test_weights_come_from_a_vanilla_run():
    vanilla = MSUN.from_pretrained("lite-vanilla")
    model = MSUN.from_backbone("resnet_lite", (16, 64, 112), num_classes=10, weights="lite-vanilla").eval()
    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(model(images), vanilla(images))


class Hostile:
    def __reduce__(self):
        return (print, ("executed",))


def test_files_of_another_kind_are_refused_by_name(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    for content, message in (
        ({"layer": torch.zeros(2)}, "weights of another network: .*: expected"),
        ({"state_dict": 3}, "expected the state of a network"),
        ([Hostile()], "expected a file of weights"),
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            MSUN.vanilla("resnet_lite", weights=str(path))
    path.write_bytes(b"hello")
    with pytest.raises(CheckpointError, match=r"weights\.pth: expected a file of weights"):
        MSUN.vanilla("resnet_lite", weights=str(path))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arch", "weights", "message"),
    [
        ("resnet_lite", "DEFAULT", "resnet_lite has none published"),
        ("resnet50", "IMAGENET21K", "expected one of IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, a file"),
        ("resnet50", "no/such/file.pth", "a file or a Vanilla run, got 'no/such/file.pth'"),
        ("resnet50", "lite-vanilla", "expected a Vanilla run of resnet50, got resnet_lite"),
        (
            "resnet_lite",
            "lite-msun",
            r"expected a Vanilla run of resnet_lite, got resnet_lite at scales \[16, 64, 112\]",
        ),
        ("timm/test_resnet", "IMAGENET1K_V1", "expected DEFAULT, a file or a Vanilla run"),
    ],
)
def test_weights_that_do_not_exist_or_fit_are_refused_in_words(arch, weights, message):
    with pytest.raises((UserError, CheckpointError), match=message):
        find_plain(arch, weights)


def test_a_model_of_ones_own_becomes_an_msun_that_starts_from_it(tmp_path):
    torch.manual_seed(0)
    own = torchvision.models.resnet18(num_classes=6).eval()
    model = MSUN.from_module(own, "layer1", (16, 32, 64)).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), own(images))
        assert model(torch.rand(2, 3, 20, 24)).shape == (2, 6)
        model.unified.fc.weight.zero_()
        assert own.fc.weight.any()  # a copy was taken
    kernel = model.subnets["16"].conv1.weight
    assert torch.equal(kernel, resample_kernel(own.conv1.weight, kernel.shape[-1]))
    assert model.spec["classes"] == 6
    model.save(tmp_path)
    for again in (MSUN.from_pretrained(tmp_path), MSUN.from_module(own, "layer1", (16, 32, 64)).load(tmp_path).eval()):
        with torch.no_grad():
            assert torch.equal(again(images), model(images))


def test_a_model_is_saved_for_the_hub_and_comes_back_from_it(tmp_path):
    """In a process of its own: the Hub's address is read once, when its client is imported."""
    torch.manual_seed(0)
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=3).eval()
    folder = tmp_path / "web" / "someone" / "model" / "resolve" / "main"
    model.save_pretrained(folder)
    assert {"model.json", "model.safetensors", "README.md"} <= {path.name for path in folder.iterdir()}
    shutil.copytree(folder, folder.parent / ("0" * 40))
    program = (
        "import sys, torch; from msun_lite import MSUN;"
        "model = MSUN.from_pretrained('someone/model', token=False, cache_dir=sys.argv[1]);"
        "model = MSUN.from_pretrained('someone/model', cache_dir=sys.argv[1], local_files_only=True);"
        "print(model(torch.ones(1, 3, 10, 10)).tolist())"
    )
    with served(tmp_path / "web") as address:
        env = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1", "PATH": ""}
        command = [sys.executable, "-c", program, str(tmp_path / "mine")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = model(torch.ones(1, 3, 10, 10))
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected)
    assert (tmp_path / "mine" / "models--someone--model").is_dir()


def test_a_path_into_an_existing_folder_is_not_sought_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("msun_lite.networks.pretrained.hf_hub_download", lambda *_, **__: pytest.fail("asked the Hub"))
    for source in ("runs/typo", "lite-typo", "a/b/c"):
        with pytest.raises(CheckpointError, match=f"{source}: expected a run folder"):
            MSUN.from_pretrained(source)


def test_training_starts_from_weights(tiny, tmp_path):
    from msun_lite.train.run import train

    vanilla = train(tiny(method="vanilla", epochs=1))
    folder = train(tiny(method="msun", epochs=1, lr=1e-9, weights=str(vanilla), out=str(tmp_path / "warm")))
    start, end = MSUN.from_pretrained(vanilla), MSUN.from_pretrained(folder)
    torch.testing.assert_close(end.unified.fc.weight, start.unified.fc.weight, atol=1e-5, rtol=0)
    assert end.spec["weights"]["source"] == str(vanilla)

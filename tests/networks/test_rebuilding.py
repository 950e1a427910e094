"""A network of one's own, once saved, is loaded wherever it can be built again; where not, one line says how."""

import sys

import pytest
import timm
import torch
import torchvision
from torch import nn

from msun_lite import MSUN
from msun_lite.networks.lite import ResNetLite
from msun_lite.networks.pretrained import is_downloaded
from msun_lite.transfer.run import with_new_classifier
from msun_lite.utils.errors import CheckpointError, UserError

NETS = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes=4, width=6, stride=2):
        super().__init__(
            nn.Conv2d(3, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
        )

class Fixed(Net):
    def __init__(self):
        super().__init__(5)

class Scaled(Net):
    def __init__(self, num_classes=4, by=1.0):
        super().__init__(num_classes)
        self.by = by

    def forward(self, images):
        return self.by * super().forward(images)

def wide(num_classes):
    return Net(num_classes, width=10)

def other(classes):
    return Net(classes)

def broken(num_classes):
    raise OSError("no disk")

def number(num_classes):
    return num_classes
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Return an importable module of networks."""
    (tmp_path / "own_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    import own_nets

    yield own_nets
    sys.modules.pop("own_nets", None)


def comes_back(network, split, folder, **options):
    """Save what from_module makes of a network, load it, and return what it was built by."""
    model = MSUN.from_module(network, split, (16, 32), **options).eval()
    model.save_pretrained(folder)
    again = MSUN.from_pretrained(folder)
    with torch.no_grad():
        for size in (16, 32):
            images = torch.rand(2, 3, size, size)
            assert torch.equal(again(images), model(images))
    assert again.description == model.description
    return again.spec["arch"]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_torchvisions_networks_are_known_by_name(name, tmp_path):
    network = torchvision.models.get_model(name, num_classes=5)
    assert comes_back(network, {"resnet18": "layer1"}.get(name, "features.3"), tmp_path) == name


def test_timms_networks_are_known_by_name(tmp_path):
    network = timm.create_model("test_resnet", num_classes=5)
    assert comes_back(network, "layer1", tmp_path).startswith("timm/test_resnet")


def test_a_class_is_called_with_the_number_of_classes_or_with_nothing(nets, tmp_path):
    assert comes_back(nets.Net(7), "2", tmp_path / "a") == "own_nets:Net"
    assert comes_back(nets.Fixed(), "2", tmp_path / "b") == "own_nets:Fixed"


def test_a_factory_may_be_named(nets, tmp_path):
    assert comes_back(nets.wide(3), "2", tmp_path, factory="own_nets:wide") == "own_nets:wide"


@pytest.mark.parametrize("module", ["msun_lite.backbones", "msun_lite.networks.backbones"])
def test_a_file_that_names_a_class_where_it_was_in_an_earlier_version_is_loaded(module, tmp_path):
    model = MSUN.from_module(ResNetLite(num_classes=5), "layer1", (8, 16)).eval()
    model.spec["arch"] = f"{module}:ResNetLite"
    tmp_path.joinpath("old").mkdir()
    model.save(tmp_path / "old")
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(MSUN.from_pretrained(tmp_path / "old")(images), model(images))


def test_looking_for_what_builds_a_network_draws_no_random_numbers(nets):
    network = nets.Net(7)
    state = torch.get_rng_state()
    MSUN.from_module(network, "2", (32, 64), factory="own_nets:Net")
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    MSUN.from_module(nn.Sequential(*network), "2", (32, 64))  # of which nothing else is built
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    "make", [lambda nets: nets.Net(4, width=9), lambda nets: nets.Net(stride=1), lambda nets: nets.Scaled(by=3.0)]
)
def test_what_its_class_alone_does_not_give_again_is_saved_and_says_how_it_is_loaded(nets, tmp_path, make):
    network = make(nets)
    model = MSUN.from_module(network, "2", (16, 32)).eval()
    model.save(tmp_path)
    message = r"model.json: .*of (Net|Scaled), which nothing builds again: expected from_module to be called again"
    with pytest.raises(CheckpointError, match=message):
        MSUN.from_pretrained(tmp_path)
    again = MSUN.from_module(network, "2", (16, 32)).load(tmp_path).eval()
    images = torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_a_class_of_a_notebook_says_so(nets, tmp_path, monkeypatch):
    monkeypatch.setattr(nets.Net, "__module__", "__main__")
    MSUN.from_module(nets.Net(), "2", (16, 32)).save(tmp_path)
    with pytest.raises(CheckpointError, match=r"of __main__\.Net, a class of a notebook or script, which nothing"):
        MSUN.from_pretrained(tmp_path)


def test_a_factory_of_another_network_is_refused(nets):
    with pytest.raises(UserError, match=r"factory: expected what .* own_nets:Net does not: 0.bias: expected \[10"):
        MSUN.from_module(nets.wide(4), "2", (16, 32), factory="own_nets:Net")


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("own_nets:nothing", "own_nets has no nothing"),
        ("no_such_module:Net", "expected a module that can be imported from here, got ModuleNotFoundError"),
        ("own_nets:other", r"expected what can be called with num_classes=N alone, got own_nets:other\(classes\)"),
        ("os:abort", r"expected what can be called with num_classes=N alone, got os:abort\(\)"),
        ("own_nets:broken", r"own_nets:broken\(num_classes=3\) failed: OSError: no disk"),
        ("own_nets:number", r"expected an nn.Module of own_nets:number\(num_classes=3\), got int"),
        ("own_nets:Fixed", "num_classes: expected 3 logits of own_nets:Fixed, got 5"),
        ("own nets:Net", "expected package.module:factory, got 'own nets:Net'"),
    ],
)
def test_a_factory_that_cannot_be_used_is_one_line(nets, arch, message):
    with pytest.raises(UserError, match=message):
        MSUN.from_backbone(arch, (16, 32), num_classes=3, split="2")


def test_a_factory_needs_a_layer_to_be_cut_at(nets):
    with pytest.raises(UserError, match="split: expected the last layer of f, as nothing says where own_nets:Net can"):
        MSUN.from_backbone("own_nets:Net", (16, 32), num_classes=3)


def test_a_model_of_the_hub_imports_nothing_unasked(nets, tmp_path):
    folder = tmp_path / "models--someone--model" / "snapshots" / "0123"
    MSUN.from_module(nets.Net(), "2", (16, 32)).save_pretrained(folder)
    sys.modules.pop("own_nets")
    assert is_downloaded(folder)
    with pytest.raises(CheckpointError, match="expected trust_remote_code=True to import and call own_nets:Net"):
        MSUN.from_pretrained(folder)
    assert "own_nets" not in sys.modules
    assert MSUN.from_pretrained(folder, trust_remote_code=True).spec["arch"] == "own_nets:Net"


@pytest.mark.parametrize("unify", ["largest", "none"])
def test_a_network_of_ones_own_takes_other_classes_in_a_transfer(nets, tmp_path, unify):
    model = MSUN.from_module(nets.Net(7), "2", (16, 32), unify=unify).eval()
    moved = with_new_classifier(model, ("cat", "dog", "cow"), "ceil")
    moved.save(tmp_path)
    again = MSUN.from_pretrained(tmp_path)
    images = torch.rand(2, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(again(images), moved(images))
    assert (again.spec["class_names"], again.routing, again(images).shape) == (["cat", "dog", "cow"], "ceil", (2, 3))
    assert torch.equal(again.subnets["16"].state_dict()["0.weight"], model.subnets["16"].state_dict()["0.weight"])

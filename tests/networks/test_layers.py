import pytest
import torch

from msun_lite import MSUN
from msun_lite.cka import capture_outputs
from msun_lite.networks.backbones import CUTTABLE, RECIPES
from msun_lite.networks.layers import layer_names, layer_path, stages
from msun_lite.networks.lite import ResNetLite
from msun_lite.utils.errors import UserError
from msun_lite.utils.modes import preserve_modes


@pytest.mark.parametrize("arch", RECIPES)
def test_every_recipe_names_five_stages_and_finer_layers_that_run(arch):
    with torch.device("meta"):
        model = MSUN.vanilla(arch, 224).eval()
        places = [layer_path(model, name, 224) for name in layer_names(model)]
        with capture_outputs(model, places, keep=lambda output: output.shape) as shapes:
            model(torch.empty(1, 3, 224, 224))
    assert set(shapes) == set(places)
    assert len(stages(model)) == 5
    assert set(stages(model)) <= set(layer_names(model))
    assert len(layer_names(model)) > 5
    order = [place for place in shapes if place in {layer_path(model, stage, 224) for stage in stages(model)}]
    assert order == [layer_path(model, stage, 224) for stage in stages(model)]
    sides = [shapes[place][-1] for place in order]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] >= 4 * sides[-1]


@pytest.mark.parametrize("arch", CUTTABLE)
def test_layers_are_found_in_the_subnet_or_in_the_unified_network(arch):
    with torch.device("meta"):
        model = MSUN.from_backbone(arch, (32, 128, 224)).eval()
        plain = MSUN.vanilla(arch, 224)
        assert layer_names(model) == layer_names(plain)
        for scale in model.scales:
            places = [layer_path(model, name, scale) for name in layer_names(model)]
            assert places[0].startswith(f"subnets.{scale}.")
            assert places[-1].startswith("unified.")
            with capture_outputs(model, places, keep=lambda output: output.shape) as shapes:
                model.forward_at(torch.empty(1, 3, scale, scale), scale)
            assert set(shapes) == set(places)


def test_with_nothing_shared_the_layers_are_those_of_the_scale():
    model = MSUN.from_backbone("resnet_lite", (8, 16), num_classes=5, unify="none").eval()
    assert layer_names(model) == layer_names(MSUN.vanilla("resnet_lite", 16))
    assert layer_path(model, "layer4.0", 8) == "unified.8.layer4.0"
    with capture_outputs(model, ["unified.8.layer4.0"]) as features:
        model.forward_at(torch.rand(1, 3, 8, 8), 8)
    assert features["unified.8.layer4.0"].shape[1] == 256


def test_timm_says_where_its_models_stages_end():
    model = MSUN.vanilla("timm/convnext_atto", 64, 10)
    assert stages(model) == layer_names(model)
    assert len(stages(model)) == 4


def test_an_unknown_layer_or_network_is_refused():
    model = MSUN.vanilla("resnet_lite", 16, 10)
    with pytest.raises(UserError, match="none called 'conv9', did you mean conv1"):
        layer_path(model, "conv9", 16)
    with torch.device("meta"):
        uncut = MSUN.vanilla("alexnet", 64, 10)
    uncut.spec["arch"] = "MyNet"
    with pytest.raises(UserError, match="MyNet"):
        stages(uncut)


def test_every_module_gets_its_mode_back():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout()).train()
    network[0].eval()

    def fail():
        with preserve_modes(network):
            network.eval()[0].train()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in network.modules()] == [True, False, True]


@pytest.mark.parametrize("unify", ["largest", "none"])
def test_the_stages_of_a_network_of_ones_own_are_the_last_layers_of_each_size(unify):
    model = MSUN.from_module(ResNetLite(5), "layer1", (32, 64), unify=unify, norm="shared")
    assert stages(model) == layer_names(model) == ("relu", "layer1", "layer2", "layer3", "layer4")
    assert all(layer_path(model, stage, 32) for stage in stages(model))

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from msun_lite import MSUN
from msun_lite.data import decode
from msun_lite.export import main
from msun_lite.live import (
    Shown,
    component,
    find_photographs,
    square_at,
    title_networks,
    write_networks,
    write_page,
)
from msun_lite.live.page import ROOM, RUNTIME
from msun_lite.networks import Exported
from msun_lite.runtime import ExportedModel, read_image
from msun_lite.scales import resize
from msun_lite.utils.errors import UserError

pytest.importorskip("onnxruntime")

ASSETS = {path.name for path in (ROOM / "assets").glob("live*")}


def make():
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", (8, 32), num_classes=5, class_names=list("abcde")).eval()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    networks = [Shown("one", "First", make(), 0.875), Shown("two", "Second & last", make(), 0.875)]
    return write_page(networks, tmp_path_factory.mktemp("page") / "page", find_photographs())


def test_a_page_holds_what_it_needs_and_nothing_else(page):
    found = {path.name for path in page.iterdir()}
    assert found == ASSETS | {"index.html", "live.json", "networks", "onnxruntime", "photographs"}
    for name in ("one", "two"):
        files = {path.name for path in (page / "networks" / name).iterdir()}
        assert files == {"scale-8.onnx", "scale-32.onnx", "weights.bin"}
    about = json.loads((page / "live.json").read_text())
    assert (about["smallest"], about["largest"], about["ticks"]) == (8, 32, [8, 32])
    for network in about["networks"]:
        for name, length in network["files"].items():
            assert (page / "networks" / network["name"] / name).stat().st_size == length
        assert [row["scale"] for row in network["serving"]] == [8, 32]
        assert network["classes"] == list("abcde")
    assert {one["name"] for one in about["photographs"]} == {path.name for path in (page / "photographs").iterdir()}


def test_a_page_says_all_before_any_script_runs(page):
    text = (page / "index.html").read_text()
    assert text.count('<section class="ml-card') == 2
    assert "Second &amp; last" in text
    assert "<noscript>" in text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!www\.flickr|commons\.wikimedia)', text)


def test_every_photograph_has_a_credit_and_none_lies_in_the_repository():
    photographs = find_photographs()
    assert {one.name for one in photographs} >= {"hopper.jpg"}
    for one in photographs:
        assert one.credit
        assert one.source.startswith("https://")
        assert not one.file.is_relative_to(Path(__file__).parents[2] / "msun_lite")


def test_the_runtime_is_that_of_the_named_version():
    record = json.loads((RUNTIME / "versions.json").read_text())
    files = {path.name: path for path in RUNTIME.iterdir() if path.name != "versions.json"}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == record["files"]
    assert all(entry["licence"] for entry in record["packages"].values())
    assert "LICENSE" in files


@torch.no_grad()
def test_the_square_is_the_one_that_an_exported_model_looks_at(tmp_path):
    exported = ExportedModel(make().export(tmp_path / "exported", "onnx", 0.875))
    for photograph in find_photographs():
        expected = torch.from_numpy(exported.square(read_image(photograph.file)).copy()).permute(2, 0, 1).float()
        found = square_at(decode(photograph.file), 0.875, 32, 32)[0]
        assert (found - expected).abs().max() <= 1.5  # Pillow rounds twice
        smaller = resize(found[None], 8)
        torch.testing.assert_close(square_at(decode(photograph.file), 0.875, 32, 8), smaller)


def test_one_more_component_needs_networks_and_photographs_alone(page, tmp_path):
    networks = [Shown("one", "First", make(), 0.875)]
    more = write_networks(networks, tmp_path / "more", find_photographs())
    assert {path.name for path in more.iterdir()} == {"live.json", "networks", "photographs"}
    text = component(networks, [], "live", "more/")
    assert '<msun-live from="more/">' in text
    assert all((page / name).is_file() for name in re.findall(r'"live/(.*?)"', text))


def test_titles_tell_networks_of_one_method_apart():
    named = [("a", "Vanilla"), ("b", "MSUN"), ("c", "MSUN")]
    assert title_networks(named) == ["Vanilla", "MSUN (b)", "MSUN (c)"]


def test_what_a_page_cannot_be_written_of_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="page: expected networks of different names, got 'a' twice"):
        write_page([Shown("a", "A", make(), 1.0), Shown("a", "B", make(), 1.0)], tmp_path / "new")
    with pytest.raises(UserError, match="weights: expected one of shared, half, got 'apart'"):
        write_page([Shown("a", "A", make(), 1.0)], tmp_path / "new", weights="apart")
    with pytest.raises(UserError, match="exists already"):
        write_page([Shown("a", "A", make(), 1.0)], tmp_path)
    with pytest.raises(UserError, match="crop_ratio"):
        write_page([Shown("a", "A", make(), 1.5)], tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_page_of_several_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        make().save(name)
    assert main(["mine", "yours", "--page", "page", "--crop_ratio", "0.5"]) == 0
    assert capsys.readouterr().out.startswith("page: index.html, live")
    about = json.loads((tmp_path / "page" / "live.json").read_text())
    assert [network["title"] for network in about["networks"]] == ["MSUN (mine)", "MSUN (yours)"]
    assert {network["crop_ratio"] for network in about["networks"]} == {0.5}
    for words, message in (
        (["mine", "--page", "page"], "page: exists already, expected a new folder"),
        (["mine", "mine", "--page", "new"], "page: expected networks of different names, got 'mine' twice"),
        (["mine", "nothing", "--page", "new"], "nothing: expected "),
        (["mine", "--page", "new", "--out", "other"], "the following arguments are required: out or page, one of them"),
        (["mine", "yours", "--out", "new"], "run: expected one with --out, several with --page alone, got mine, yours"),
        (["mine", "--page", "new", "--format", "onnx"], "format: expected none for a page, got onnx"),
        (["mine", "--page", "new", "--weights", "apart"], "weights: expected one of shared, half, got 'apart'"),
        (["mine", "--page", "mine/model.json/new"], "mine/model.json/new: expected a folder that can be written to"),
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "page", "yours"]


@torch.no_grad()
def test_the_command_exports_graphs_with_shared_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    model = make()
    model.save("run")
    assert main(["run", "--out", "exported", "--format", "onnx", "--weights", "shared"]) == 0
    images = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(Exported("exported")(images), model(images), atol=1e-4, rtol=1e-4)

import re
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from msun_lite import chapters
from msun_lite.chapter_figures import answer_figure
from msun_lite.chapters import METHODS, Chapter, analyses, glue, photographs, photographs_by_seed
from msun_lite.config import make_config
from msun_lite.errors import UserError
from msun_lite.scales import ROUTINGS, resize
from msun_lite.train import train


@pytest.fixture(scope="module")
def chapter():
    return Chapter()


def test_a_chapter_has_the_three_networks_and_their_records(chapter):
    assert tuple(chapter.models) == tuple(chapter.records) == METHODS
    for method, model in chapter.models.items():
        assert not model.training
        assert chapter.records[method]["method"] == method
    assert chapter.scales == chapter.models["msun"].scales
    assert chapter.sizes == chapter.records["msun"]["sizes"]
    assert len(chapter.class_names) == 10


def test_its_images_are_balanced_always_the_same_and_to_be_looked_at(chapter):
    sample = chapter.images(20)
    assert sample.images.shape == (20, 3, chapter.largest, chapter.largest)
    assert sample.labels.bincount().tolist() == [2] * 10
    assert torch.equal(sample.images, chapter.images(20).images)
    assert not torch.equal(sample.images, chapter.images(20, seed=1).images)
    picture = sample.picture(0, 8)
    assert picture.shape == (8, 8, 3)
    assert 0 <= picture.min() < picture.max() <= 1


def test_of_more_classes_than_there_is_room_for_some_are_left_out_evenly(chapter):
    sample = chapter.images(20, each=5)
    assert sample.labels.tolist() == [0, 2, 5, 7] * 5
    assert torch.equal(chapter.images(20, each=2).images, chapter.images(20).images)
    assert len(chapter.images(10_000).labels) == chapters.SCENES


def test_a_chapter_knows_whether_it_runs_on_what_the_book_is_built_with(chapter, tiny, tmp_path):
    assert chapter.default
    assert not Chapter("scenes", "quick-vanilla").default
    train(tiny(epochs=1, out=str(tmp_path / "msun")))
    assert not Chapter("scenes", tmp_path / "msun").default


@torch.no_grad()
def test_probabilities_are_those_of_the_network_for_the_small_image(chapter):
    sample = chapter.images(5)
    found = chapter.probabilities("msun", sample.images, 12)
    expected = chapter.models["msun"](resize(sample.images, 12)).softmax(1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(5))


def test_a_run_folder_brings_the_runs_of_other_methods_beside_it(tiny, tmp_path):
    for method in ("vanilla", "msun"):
        train(tiny(method=method, epochs=1, out=str(tmp_path / method)))
    for run in (tmp_path / "msun", tmp_path):
        chapter = Chapter("scenes", run)
        assert list(chapter.models) == ["vanilla", "msun"]
        assert chapter.scales == (8, 16)
        assert (chapter.config.method, chapter.config.constraint) == ("msun", "pair")
    assert Chapter("scenes", tmp_path / "vanilla").config.method == "vanilla"
    for method in ("vanilla", "msun"):
        shutil.move(tmp_path / method, tmp_path / f"quick-{method}-seed3")
    assert list(Chapter("scenes", tmp_path / "quick-msun-seed3").models) == ["vanilla", "msun"]
    shutil.move(tmp_path / "quick-msun-seed3", tmp_path / "mine")
    assert list(Chapter("scenes", tmp_path / "mine").models) == ["msun"]


def test_a_method_that_a_chapter_needs_and_has_no_run_of_is_named_in_one_line(tiny, tmp_path):
    train(tiny(epochs=1, out=str(tmp_path / "msun")))
    chapter = Chapter("scenes", tmp_path / "msun")
    expected = f"RUN: expected a run by vanilla beside {tmp_path / 'msun'}: there is none in {tmp_path / 'vanilla'}"
    with pytest.raises(UserError, match=re.escape(expected)):
        chapter.models["vanilla"]
    with pytest.raises(UserError, match="expected a run by mst"):
        chapter.records["mst"]
    assert "mst" not in chapter.models
    with pytest.raises(KeyError):
        chapter.models["nonsense"]
    shutil.move(tmp_path / "msun", tmp_path / "mine")
    with pytest.raises(UserError, match="mine is not called by its method, msun"):
        Chapter("scenes", tmp_path / "mine").models["vanilla"]


@pytest.mark.parametrize("place", ["", "book"])
def test_a_folder_is_found_as_seen_from_the_checkout_and_from_the_book(tiny, tmp_path, monkeypatch, place):
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    (checkout / "book").mkdir(parents=True)
    elsewhere.mkdir()
    train(tiny(epochs=1, out=str(checkout / place / "runs" / "msun")))
    monkeypatch.setattr(chapters, "CHECKOUT", checkout)
    monkeypatch.chdir(elsewhere)
    assert list(Chapter("scenes", "runs/msun").models) == ["msun"]


def test_downloaded_photographs_are_those_of_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "checkout" / "book").mkdir(parents=True)
    monkeypatch.setattr(chapters, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "checkout" / "book")
    config = make_config("lite")
    assert chapters._config(config, "imagenette").data_root == str(tmp_path / "checkout" / "data")
    (tmp_path / "checkout" / "book" / "data").mkdir()
    assert chapters._config(config, "imagenette").data_root == "data"


def test_data_of_other_classes_and_unknown_runs_are_refused():
    with pytest.raises(UserError, match="DATA: expected the classes that lite-msun was trained on, n01440764"):
        Chapter("scenes", "lite-msun")
    with pytest.raises(UserError, match="nothing: expected a run folder"):
        Chapter("scenes", "nothing")


def test_the_photographs_records_and_analyses_are_there_for_every_method():
    records, arrays = analyses()
    for method in METHODS:
        assert photographs()[method]["data"]["name"] == "imagenette"
        assert tuple(photographs()[method]["routings"]) == ROUTINGS
        assert photographs_by_seed(method)[0]["mean_top1"] == photographs()[method]["mean_top1"]
        assert records[method]["method"] == method
        assert "pca_points" in arrays[method]


@pytest.mark.parametrize(("classes", "rows"), [(10, 10), (1000, 10)])
def test_a_table_of_answers_shows_the_classes_that_are_named_most_often(classes, rows):
    shares = np.zeros((2, classes))
    shares[0, 3], shares[0, 7], shares[1, classes - 1] = 60, 40, 100
    axes, _ = answer_figure(shares, [8, 16], [f"class {number}" for number in range(classes)]).axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == rows
    assert {"class 3", "class 7", f"class {classes - 1}"} <= set(shown)
    assert ("991 others" in shown) == (classes > rows)
    assert np.allclose(axes.images[0].get_array().sum(0), 100)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Return a folder of images of twelve classes, and a folder of runs on it by the three methods, hardly trained."""
    folder = tmp_path_factory.mktemp("own")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("val", 5)):
        for label in range(12):
            place = folder / "photos" / split / f"class{label:02}"
            place.mkdir(parents=True)
            colour = 80 * torch.tensor([label % 3, label // 3 % 2, label // 6]) + 40
            for index in range(count):
                pixels = colour + torch.randint(0, 50, (20, 24, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(place / f"{index}.png")
    options = {"scales": [8, 16], "sizes": [8, 12, 16], "batch_size": 12, "precision": "fp32", "device": "cpu"}
    for method in METHODS:
        place = {"data": str(folder / "photos"), "out": str(folder / "runs" / method)}
        train(make_config("quick", method=method, epochs=1, **options, **place))
    return folder / "photos", folder / "runs" / "msun"


@pytest.mark.parametrize("name", ["01_scale_collapse", "04_loss", "08_gradcam_pca", "09_transfer"])
def test_a_chapter_runs_with_a_readers_own_data_and_run(own, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    monkeypatch.setattr(chapters, "set_matplotlib_formats", lambda *_: None)
    monkeypatch.setenv("MSUN_LITE_PROGRESS", "off")
    data, run = map(str, own)
    book = nbformat.read(Path(__file__).parent.parent / "book" / f"{name}.ipynb", as_version=4)
    first, switch, *rest = [cell.source for cell in book.cells if cell.cell_type == "code"]
    assert "git clone" in first
    assert switch.startswith("DATA = ")
    names = {"DATA": data, "RUN": run}
    for source in rest:
        exec(compile(source, name, "exec"), names)
    assert names["chapter"].class_names[0] == "class00"


def test_glue_does_nothing_outside_of_the_books_build(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "myst_nb", None)
    glue("anything", 1)

import shutil

import pytest
import torch

from msun_lite.chapters import METHODS, Chapter, analyses, glue, photographs
from msun_lite.errors import UserError
from msun_lite.scales import resize
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
    chapter = Chapter("scenes", tmp_path / "msun")
    assert list(chapter.models) == ["vanilla", "msun"]
    assert chapter.scales == (8, 16)
    shutil.move(tmp_path / "msun", tmp_path / "mine")
    assert list(Chapter("scenes", tmp_path / "mine").models) == ["msun"]


def test_data_of_other_classes_and_unknown_runs_are_refused():
    with pytest.raises(UserError, match="DATA: expected the classes that lite-msun was trained on, n01440764"):
        Chapter("scenes", "lite-msun")
    with pytest.raises(UserError, match="nothing: expected a run folder"):
        Chapter("scenes", "nothing")


def test_the_photographs_records_and_analyses_are_there_for_every_method():
    records, arrays = analyses()
    for method in METHODS:
        assert photographs()[method]["data"]["name"] == "imagenette"
        assert records[method]["method"] == method
        assert "pca_points" in arrays[method]


def test_glue_does_nothing_outside_of_the_books_build(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "myst_nb", None)
    glue("anything", 1)

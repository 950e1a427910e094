import ast
import json
import re
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from msun_lite.book import lab
from msun_lite.book.image_figures import answer_figure
from msun_lite.book.lab import COMPARED, Chapter, glue, skipping
from msun_lite.book.published import analyses, photographs, photographs_by_seed
from msun_lite.book.skipping import assigned_names
from msun_lite.config import make_config
from msun_lite.networks.msun import MSUN
from msun_lite.results import ROUTINGS
from msun_lite.scales import resize
from msun_lite.train.run import train
from msun_lite.utils.errors import DataError, UserError


@pytest.fixture(scope="module")
def chapter():
    return Chapter()


def test_a_chapter_has_the_three_networks_and_their_records(chapter):
    assert tuple(chapter.models) == tuple(chapter.records) == COMPARED
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
    picture = sample.picture(0, 8)
    assert picture.shape == (8, 8, 3)
    assert 0 <= picture.min() < picture.max() <= 1


def test_of_more_classes_than_there_is_room_for_some_are_left_out_evenly(chapter):
    sample = chapter.images(20, each=5)
    assert sample.labels.tolist() == [0, 2, 5, 7] * 5
    assert torch.equal(chapter.images(20, each=2).images, chapter.images(20).images)
    assert len(chapter.images(10_000).labels) == lab.SCENES


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


def test_the_best_model_of_a_run_can_be_looked_at_though_it_has_no_record(tiny, tmp_path):
    train(tiny(epochs=1, eval_epochs=1, out=str(tmp_path / "msun")))
    train(tiny(epochs=1, method="vanilla", out=str(tmp_path / "vanilla")))
    chapter = Chapter("scenes", tmp_path / "msun" / "best")
    assert list(chapter.models) == ["vanilla", "msun"]
    assert list(chapter.records) == ["vanilla"]
    with pytest.raises(UserError, match="expected the results of a finished run, there is no summary.json in .*best"):
        chapter.records["msun"]


def test_a_model_alone_is_looked_at_on_the_chapters_data(tmp_path):
    MSUN.from_pretrained("quick-msun").save_pretrained(tmp_path / "mine")
    chapter = Chapter("scenes", tmp_path / "mine")
    assert (list(chapter.models), chapter.scales, chapter.sizes) == (["msun"], (8, 32, 56), list(range(8, 57, 4)))
    with pytest.raises(UserError, match="expected the results of a finished run, there is no summary.json in .*mine"):
        chapter.records["msun"]


def test_a_run_beside_it_that_knows_other_classes_or_sizes_does_not_belong_to_a_run(tiny, photos, tmp_path):
    train(tiny(epochs=1, out=str(tmp_path / "msun")))
    train(tiny(epochs=1, method="vanilla", scales=[8, 12], out=str(tmp_path / "vanilla")))
    train(tiny(epochs=1, method="mst", data=str(photos), out=str(tmp_path / "mst")))
    chapter = Chapter("scenes", tmp_path / "msun")
    assert list(chapter.models) == list(chapter.records) == ["msun"]
    with pytest.raises(UserError, match="that in .*vanilla has other classes, or another largest scale"):
        chapter.models["vanilla"]


def test_images_are_as_large_as_the_largest_scale_also_if_a_run_was_measured_above_it(tiny):
    chapter = Chapter("scenes", train(tiny(epochs=1, sizes=[8, 12, 24])))
    assert chapter.sizes == [8, 12, 16]
    assert chapter.images(4).images.shape == (4, 3, 16, 16)


def test_a_run_of_one_scale_and_size_is_looked_at_in_the_parts_of_the_presets(tiny, photos, shards):
    run = train(tiny(epochs=1, method="vanilla", scales=[14], sizes=[14], data=str(photos)))
    chapter = Chapter(f"wds:{shards}", run)
    assert chapter.sizes == [2, 8, 14]
    assert chapter.scales == (2, 8, 14)
    assert chapter.models["vanilla"].scales == (14,)
    assert chapter.images(4).images.shape == (4, 3, 14, 14)


@pytest.mark.parametrize("place", ["", "book"])
def test_a_folder_is_found_as_seen_from_the_checkout_and_from_the_book(tiny, tmp_path, monkeypatch, place):
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    (checkout / "book").mkdir(parents=True)
    elsewhere.mkdir()
    train(tiny(epochs=1, out=str(checkout / place / "runs" / "msun")))
    monkeypatch.setattr(lab, "CHECKOUT", checkout)
    monkeypatch.chdir(elsewhere)
    assert list(Chapter("scenes", "runs/msun").models) == ["msun"]


def test_downloaded_photographs_are_those_of_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "checkout" / "book").mkdir(parents=True)
    monkeypatch.setattr(lab, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "checkout" / "book")
    config = make_config("lite")
    assert lab._config(config, "imagenette").data_root == str(tmp_path / "checkout" / "data")
    (tmp_path / "checkout" / "book" / "data").mkdir()
    assert lab._config(config, "imagenette").data_root == "data"


def test_data_of_other_classes_and_unknown_runs_are_refused():
    with pytest.raises(UserError, match="DATA: expected the classes that lite-msun was trained on, n01440764"):
        Chapter("scenes", "lite-msun")
    for nothing in ("nothing", "runs/nothing", "/no/such/folder"):
        with pytest.raises(
            UserError, match=f"RUN: {nothing}: expected a run folder, as seen from .*, or a shipped name"
        ):
            Chapter("scenes", nothing)
    with pytest.raises(UserError, match=r"did you mean quick-msun\?"):
        Chapter("scenes", "quick-msum")


def test_data_that_a_chapter_cannot_show_is_refused_in_one_line(tiny, photos):
    run = train(tiny(epochs=1, data=str(photos)))
    spec = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({name: spec[name] for name in spec if name != "class_names"}))
    with pytest.raises(UserError, match="DATA: expected the classes .* was trained on: scenes: .*2 classes .*, got 10"):
        Chapter("scenes", run)
    first, *others = sorted((photos / "val").rglob("*.png"))
    first.write_bytes(b"no image")
    with pytest.raises(DataError, match="1 unreadable image.* to evaluate, expected none: .*0.png"):
        Chapter(photos, run).images(6)
    for path in (*others[:2], others[-1]):
        path.unlink()
    with pytest.raises(UserError, match="DATA: expected 4 validation images or more, got 3"):
        Chapter(photos, run)


def test_the_photographs_records_and_analyses_are_there_for_every_method():
    records, arrays = analyses()
    for method in COMPARED:
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


def photographs_of(folder, classes, train_images, val_images):
    """Make a folder of images of some classes, so many of each for training and for validation; return it."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", train_images), ("val", val_images)):
        for label in range(classes):
            place = folder / split / f"class{label:02}"
            place.mkdir(parents=True)
            colour = 80 * torch.tensor([label % 3, label // 3 % 2, label // 6]) + 40
            for index in range(count):
                pixels = colour + torch.randint(0, 50, (20, 24, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(place / f"{index}.png")
    return folder


def trained_by(method, data, out, **options):
    """Return the folder of a run on some images, hardly trained."""
    common = {"batch_size": 12, "epochs": 1, "precision": "fp32", "device": "cpu", "data": str(data)}
    return train(make_config("quick", method=method, out=str(out / method), **common, **options))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Return a folder of images of twelve classes, and a folder of runs on it by the three methods."""
    folder = tmp_path_factory.mktemp("own")
    data = photographs_of(folder / "photos", classes=12, train_images=6, val_images=5)
    for method in COMPARED:
        trained_by(method, data, folder / "runs", scales=[8, 16], sizes=[8, 12, 16])
    return data, folder / "runs" / "msun"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Return ten validation images of two classes, and runs measured at two sizes, MSUN's with lite-plus's options."""
    folder = tmp_path_factory.mktemp("few")
    data = photographs_of(folder / "photos", classes=2, train_images=12, val_images=5)
    beyond = {"norm": "per_scale", "random_sizes": True, "distil": 1.0, "teacher": "larger", "constraint": "none"}
    for method in COMPARED:
        options = beyond if method == "msun" else {}
        trained_by(method, data, folder / "runs", scales=[8, 12, 16], sizes=[8, 16], **options)
    return data, folder / "runs" / "msun"


@pytest.fixture
def alone(few, tmp_path):
    """Return a function that gives the few images and the run of one method with no other beside it."""

    def copied(method):
        shutil.copytree(few[1].with_name(method), tmp_path / "mine")
        return few[0], tmp_path / "mine"

    return copied


def builds_on(cells):
    """Return for each cell which cells gave the names that it uses; -1 stands for the one that begins the chapter."""
    giver, found = {"chapter": -1}, []
    for place, source in enumerate(cells):
        tree = ast.parse(source)
        names, given = [node for node in ast.walk(tree) if isinstance(node, ast.Name)], assigned_names(tree)
        own = given | {name.id for name in names if isinstance(name.ctx, ast.Store)}
        own |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        found.append({giver[name] for name in {name.id for name in names} - own if name in giver})
        giver |= dict.fromkeys(given, place)
    return found


def of_the_reader(cells):
    """Return the cells on which the reader's data and run have a bearing, and those that these build on, in order."""
    sources, kept = builds_on(cells), {-1}
    for place in range(len(cells)):
        kept |= {place} if sources[place] & kept else set()
    for place in reversed(range(len(cells))):
        kept |= sources[place] if place in kept else set()
    return [source for place, source in enumerate(cells) if place in kept]


@pytest.fixture
def run_chapter(monkeypatch):
    """Return a function that runs the reader's part of a chapter as a notebook does, and returns its names."""
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    monkeypatch.setattr(lab, "set_matplotlib_formats", lambda *_: None)
    monkeypatch.setenv("MSUN_LITE_PROGRESS", "off")

    def run(name, data, run):
        book = nbformat.read(Path(__file__).parents[2] / "book" / f"{name}.ipynb", as_version=4)
        first, switch, begin, *rest = [cell.source for cell in book.cells if cell.cell_type == "code"]
        assert "git clone" in first
        assert switch.startswith("DATA = ")
        names = {"DATA": str(data), "RUN": str(run)}
        exec(compile(begin, name, "exec"), names)
        skip = skipping(names["chapter"], names)
        for source in of_the_reader(rest):
            exec(compile("".join(skip(source.splitlines(keepends=True))), name, "exec"), names)
        return names

    return run


@pytest.mark.parametrize(
    "name", ["01_scale_collapse", "04_loss", "08_gradcam_pca", "09_transfer", "11_rivals", "12_pretrained"]
)
def test_a_chapter_runs_with_a_readers_own_data_and_run(own, run_chapter, name):
    assert run_chapter(name, *own)["chapter"].class_names[0] == "class00"


@pytest.mark.parametrize("name", ["05_training", "06_multi_scale_testing", "07_ablations", "10_paper", "11_rivals"])
def test_a_chapter_runs_with_few_images_few_sizes_and_options_beyond_the_paper(few, run_chapter, capsys, name):
    names = run_chapter(name, *few)
    assert names["chapter"].sizes == [8, 16]
    assert len(names["sample"].labels) == 10 if name != "05_training" else names["count"] == 24
    assert "skipped" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "method", "lacks"),
    [
        ("01_scale_collapse", "msun", "vanilla"),
        ("02_cka", "msun", "vanilla"),
        ("08_gradcam_pca", "mst", "vanilla"),
        ("06_multi_scale_testing", "vanilla", "msun"),
        ("07_ablations", "msun", "vanilla"),
        ("11_rivals", "msun", "vanilla"),
        ("12_pretrained", "msun", "vanilla"),
    ],
)
def test_a_chapter_goes_on_without_what_a_run_by_one_method_cannot_show(
    alone, run_chapter, capsys, name, method, lacks
):
    assert list(run_chapter(name, *alone(method))["chapter"].models) == [method]
    assert f"skipped: RUN: expected a run by {lacks} beside" in capsys.readouterr().out


def test_glue_does_nothing_outside_of_the_books_build(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "myst_nb", None)
    glue("anything", 1)

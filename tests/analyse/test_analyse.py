import json
import shutil

import numpy as np
import pytest
import torch

from msun_lite import MSUN
from msun_lite.analyse import run as analyse
from msun_lite.analyse.__main__ import main
from msun_lite.analyse.figures import analysis_figures
from msun_lite.analyse.options import STUDIES
from msun_lite.analyse.record import Analysis
from msun_lite.analyse.studies import (
    Images,
    cka_study,
    gradcam_study,
    pca_study,
    resizing_study,
    summary,
    through_jpeg,
)
from msun_lite.cka import linear_cka
from msun_lite.data.loaders import eval_loader
from msun_lite.data.sources import MemorySource
from msun_lite.explain import agreement, grad_cam
from msun_lite.networks.backbones import LITE, RECIPES
from msun_lite.networks.layers import penultimate
from msun_lite.scales import RESAMPLINGS, resize
from msun_lite.train.run import train

CPU = torch.device("cpu")
NORMALISATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def some_images(count=10, side=16, classes=10, batch=5):
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(count)]
    source = MemorySource(pixels, [index % classes for index in range(count)])
    return Images(eval_loader(source, side, 1.0, batch, workers=0), CPU, NORMALISATION)


@pytest.fixture(scope="module")
def msun():
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", (8, 16), num_classes=10).eval()


@torch.no_grad()
def test_cka_of_a_stage_is_that_of_its_features_by_the_subnet_that_serves_each_size(msun):
    images = some_images(batch=10)
    record, arrays = cka_study(msun, images, [8, 12, 16])
    (batch, _), layer = next(iter(images)), record["layers"].index("layer1.0")
    at_16 = msun.subnets["16"](batch)
    small = {size: resize(batch, size) for size in (8, 12)}
    fed = {
        ("native", "8"): msun.subnets["8"](small[8]),
        ("native", "12"): msun.subnets["8"](resize(small[12], 8)),
        ("upsampled", "12"): msun.subnets["16"](resize(small[12], 16)),
        ("subnet 8", "12"): msun.subnets["8"](resize(small[12], 8)),
    }
    for (feeding, size), features in fed.items():
        for estimator, unbiased in (("biased", False), ("unbiased", True)):
            expected = linear_cka(features, at_16, unbiased).item()
            assert record["curves"][feeding][size][estimator][layer] == pytest.approx(expected, abs=2e-5)
            if feeding != "subnet 8":
                matrix = arrays[f"cka_{feeding}_{size}_{estimator}"]
                assert matrix[layer, layer] == pytest.approx(expected, abs=1e-5)
    assert "16" not in record["curves"]["native"], "the reference itself says nothing"
    assert record["layers"][0] == "image"


@torch.no_grad()
def test_native_feeding_of_a_plain_network_resizes_nothing():
    torch.manual_seed(0)
    vanilla, images = MSUN.vanilla("resnet_lite", 32, 10).eval(), some_images(side=32, batch=10)
    record, _ = cka_study(vanilla, images, [16, 32])
    batch, _ = next(iter(images))
    features = [vanilla.subnets["32"](resize(batch, size)) for size in (16, 32)]
    assert features[0].shape[-1] == 4
    layer = record["layers"].index("layer1.0")
    found = record["curves"]["native"]["16"]["unbiased"][layer]
    assert found == pytest.approx(linear_cka(*features, unbiased=True).item(), abs=2e-5)


@pytest.mark.parametrize("arch", [name for name in RECIPES if name not in LITE])
def test_each_network_of_table_i_has_its_curve_for_both_feedings(arch):
    torch.manual_seed(0)
    size, largest = 48, 96
    vanilla = MSUN.vanilla(arch, largest, 10).eval()
    record, _ = cka_study(vanilla, some_images(4, largest, batch=4), [size, largest])
    assert len(record["stages"]) == 5
    for feeding in ("native", "upsampled"):
        if feeding == "native" and arch in ("alexnet", "inception_v3"):  # as in Table I, where they are left out
            assert str(size) in record["native_refused"]
            assert record["curves"]["native"] == {}
            continue
        values = record["curves"][feeding][str(size)]["unbiased"]
        assert len(values) == len(record["layers"])
        assert all(np.isfinite(values))
        assert values[0] > 0.9, "the images themselves"


@pytest.fixture(scope="module")
def larger():
    """Return a network whose last map has more than one pixel, to pay attention with."""
    torch.manual_seed(0)
    return MSUN.from_backbone("resnet_lite", (16, 64), num_classes=10).eval()


def test_attention_at_the_largest_size_agrees_with_itself_and_not_with_another_images(larger):
    record, arrays = gradcam_study(larger, some_images(side=64), [16, 64], None, None)
    own = record["agreement"]["own"]
    assert own["64"]["correlation"]["mean"] == 1
    assert own["64"]["correlation"]["images"] >= 5
    assert own["16"]["correlation"]["mean"] < 1
    assert record["another_image"]["own"]["64"]["correlation"]["mean"] < 1
    assert record["layer"] == "layer4.0"
    assert list(record["agreement"]) == ["own"]
    assert arrays["gradcam_maps"].shape == (10, 2, 28, 28)
    assert arrays["gradcam_mean"].shape == (2, 28, 28)


def test_attention_is_compared_with_another_networks_at_the_largest_size(larger):
    torch.manual_seed(1)
    images, vanilla = some_images(side=64), MSUN.vanilla("resnet_lite", 64, 10).eval()
    record, _ = gradcam_study(larger, images, [16, 64], None, vanilla)
    pairs = [(grad_cam(larger, x, y, 16), grad_cam(vanilla, x, y, 64)) for x, y in images]
    expected = torch.cat([agreement(*pair)[0] for pair in pairs]).numpy()
    assert record["agreement"]["reference"]["16"]["correlation"] == summary(expected)


@torch.no_grad()
def test_the_feature_space_is_that_of_the_classifiers_input(msun):
    images = some_images(classes=4)
    record, arrays = pca_study(msun, images, [8, 16])
    assert record["sizes"]["16"]["displacement"]["mean"] == 0
    assert record["sizes"]["8"]["displacement"]["mean"] > 0
    with penultimate(msun) as kept:
        for batch, _ in images:
            msun(batch)
    features = torch.cat(kept)
    distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
    labels = torch.arange(10) % 4
    expected = 100 * (labels[distances.argmin(1)] == labels).float().mean().item()
    assert record["sizes"]["16"]["neighbour_accuracy"]["mean"] == pytest.approx(expected)
    assert arrays["pca_points"].shape == (2, 10, 2)


def test_without_a_size_change_no_way_of_resizing_matters(msun):
    record, _ = resizing_study(msun, some_images(), [8, 16])
    assert set(record["top1"]) == {*RESAMPLINGS, "jpeg"}
    assert len({record["top1"][way]["16"] for way in RESAMPLINGS}) == 1


def test_jpeg_keeps_a_smooth_image_and_blurs_a_noisy_one():
    ramp = torch.linspace(-1, 1, 32).expand(2, 3, 32, 32).contiguous()
    assert (through_jpeg(ramp, NORMALISATION) - ramp).abs().mean() < 0.05
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (through_jpeg(noise, NORMALISATION) - noise).abs().mean() > 0.3


def test_a_summary_counts_what_has_no_value():
    found = summary(np.array([1.0, 3.0, np.nan]))
    assert (found["mean"], found["images"], found["undefined"]) == (2, 2, 1)
    assert summary(np.array([np.nan])) == {"images": 0, "undefined": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a tiny finished run."""
    from msun_lite.config import make_config
    from tests.conftest import TINY

    return train(make_config("quick", **{**TINY, "epochs": 1, "out": str(tmp_path_factory.mktemp("runs") / "run")}))


@pytest.fixture
def run(trained, tmp_path):
    """Return a copy of the tiny run, for a test of its own."""
    return shutil.copytree(trained, tmp_path / "run")


def test_the_command_writes_numbers_arrays_and_pictures_into_the_run_folder(run, capsys):
    assert main([str(run), "--images", "16"]) == 0
    record, arrays = Analysis(run).read(), Analysis(run).arrays()
    assert [name for name in record if name in STUDIES] == list(STUDIES)
    for study in STUDIES:
        assert record[study]["settings"]["images"] == 16
        assert record[study]["command"] == f"python -m msun_lite.analyse {run} --images 16"
        assert record[study]["env"]["device"].startswith("cpu")
    assert {name.split("_")[0] for name in arrays} == {"cka", "gradcam", "pca"}
    drawn = {path.stem for path in run.glob("*.png")}
    assert drawn == {*analysis_figures({"msun": record}, {"msun": arrays}), "attention-maps", "curves"}
    assert {"cka-stages", "cka-heatmap-upsampled", "attention", "feature-space", "resizing"} <= drawn


def test_accuracy_of_all_images_antialiased_is_what_evaluate_says(run):
    assert main([str(run), "--what", "resizing"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert Analysis(run).read()["resizing"]["top1"]["antialiased"] == summary["top1"]


def test_a_second_call_adds_a_study_and_resuming_leaves_out_what_is_there(run, capsys):
    assert main([str(run), "--what", "pca", "--images", "16"]) == 0
    before = Analysis(run).read()["pca"]
    assert main([str(run), "--what", "pca,resizing", "--images", "16", "--resume"]) == 0
    assert "pca: there already" in capsys.readouterr().out
    assert Analysis(run).read()["pca"] == before
    assert "resizing" in Analysis(run).read()
    assert main([str(run), "--what", "pca", "--images", "12", "--resume"]) == 0
    assert Analysis(run).read()["pca"]["settings"]["images"] == 12


def test_a_later_call_with_fewer_images_leaves_the_maps_of_an_earlier_one(run):
    assert main([str(run), "--what", "gradcam", "--images", "16"]) == 0
    kept = len(Analysis(run).arrays()["gradcam_maps"])
    assert main([str(run), "--what", "resizing", "--images", "4"]) == 0
    assert len(Analysis(run).arrays()["gradcam_maps"]) == kept > 4


def test_several_processes_are_refused(run, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([str(run)]) == 2
    assert "WORLD_SIZE: analyse runs in one process, got 2" in capsys.readouterr().err


def test_an_interruption_keeps_the_studies_that_are_done(run, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(analyse, "pca_study", interrupt)
    assert main([str(run), "--images", "16"]) == 130
    assert [name for name in Analysis(run).read() if name in STUDIES] == ["cka", "gradcam"]


def test_shipped_weights_are_analysed_outside_of_the_package(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    assert main(["lite-vanilla", "--what", "pca", "--data", str(photos), "--sizes", "16,112"]) == 0
    assert Analysis(tmp_path / "runs" / "lite-vanilla").read()["run"] == "lite-vanilla"


def test_a_plain_cnn_with_trained_weights_is_analysed_without_a_run(tmp_path, photos, capsys):
    torch.manual_seed(0)
    torch.save(RECIPES["alexnet"].build(7).state_dict(), tmp_path / "alexnet.pth")
    words = [
        "--arch",
        "alexnet",
        "--weights",
        str(tmp_path / "alexnet.pth"),
        "--num_classes",
        "7",
        "--grid",
        "imagenette",
    ]
    out = tmp_path / "out"
    arguments = [*words, "--data", str(photos), "--sizes", "32,128,224", "--out", str(out)]
    assert main([*arguments, "--what", "cka"]) == 0
    record = Analysis(out).read()
    assert (record["method"], record["arch"]) == ("vanilla", "alexnet")
    assert list(record["cka"]["curves"]["upsampled"]) == ["32", "128"]
    assert list(record["cka"]["native_refused"]) == ["32"]
    assert (out / "cka-stages.png").exists()
    assert main([*arguments, "--what", "gradcam"]) == 2
    assert "expected 7 classes as the model has, got 2" in capsys.readouterr().err


def test_what_was_found_is_printed_as_tables(run, capsys):
    assert main([str(run), "--images", "16"]) == 0
    printed = capsys.readouterr().out
    for part in ("CKA with 16 px, images fed upsampled", "no map", "displacement", "bilinear (the paper's)"):
        assert part in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--what", "cka,magic"], "what: expected some of cka, gradcam, pca, resizing, with commas, got 'magic'"),
        (["--images", "3"], "images: expected 4 to 20, as many as there are, got 3"),
        (["--images", "21"], "images: expected 4 to 20"),
        (["--layer", "layer9", "--what", "gradcam"], "layer: resnet_lite has none called 'layer9'"),
        (["--reference", "nothing", "--what", "gradcam"], "nothing: expected a run folder"),
        (
            ["--reference", "lite-vanilla", "--what", "gradcam"],
            "scenes: expected the model's classes, such as 'n01440764'",
        ),
        (["--layer", "fc"], "layer: expected one that gives maps, fc gives [1, 10]"),
        (["--out", "/dev/null/x"], "/dev/null/x: expected a folder that can be written to, got: Not a directory"),
    ],
)
def test_what_cannot_work_ends_with_one_line(run, capsys, arguments, message):
    assert main([str(run), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {message}")
    assert not (run / "analysis.json").exists()


def test_a_reference_for_images_normalised_otherwise_is_refused_before_any_work(run, tmp_path, monkeypatch, capsys):
    reference = MSUN.from_pretrained(run)
    reference.spec = {**reference.spec, "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (tmp_path / "other").mkdir()
    reference.save(tmp_path / "other")
    monkeypatch.setattr(analyse, "load_data", None)
    assert main([str(run), "--what", "gradcam", "--reference", str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: reference: expected a network for images normalised by {'mean': [0.485, ")
    assert error.endswith(f"got {tmp_path / 'other'}, by {reference.spec['normalisation']}")


def test_studies_are_made_in_full_precision(run, monkeypatch):
    real, seen, before = resizing_study, [], torch.backends.cudnn.conv.fp32_precision

    def study(*arguments):
        seen.append(torch.backends.cudnn.conv.fp32_precision)
        return real(*arguments)

    monkeypatch.setattr(analyse, "resizing_study", study)
    assert main([str(run), "--what", "resizing", "--images", "8"]) == 0
    assert seen == ["ieee"]
    assert torch.backends.cudnn.conv.fp32_precision == before


def test_the_analysis_of_other_weights_is_not_mixed_in(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(run), "--what", "resizing", "--images", "8", "--out", str(out)]) == 0
    model = MSUN.from_pretrained(run)
    with torch.no_grad():
        model.unified.fc.bias += 1
    model.save(run)
    assert main([str(run), "--what", "pca", "--images", "8", "--out", str(out)]) == 2
    assert "holds the analysis of other weights" in capsys.readouterr().err


def test_batches_are_even_and_never_too_small_for_cka():
    for count in (*range(4, 1200), 10_001, 50_000, 100_001, 250_251):
        size = analyse._batch_size(count)
        assert size <= analyse.BATCH
        assert count % size == 0 or count % size >= 4, count

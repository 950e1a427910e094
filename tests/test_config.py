import dataclasses
import re
import subprocess
import sys

import pytest
import yaml

from msun_lite import cost, reproduce
from msun_lite.ablate import __main__ as ablate
from msun_lite.ablate.options import ABLATED
from msun_lite.analyse import __main__ as analyse
from msun_lite.config import PRESETS, TrainConfig, command_line, make_config, make_parser, read_config
from msun_lite.evaluate import __main__ as evaluate
from msun_lite.methods import COMPARED
from msun_lite.networks.pretrained import SHIPPED
from msun_lite.train import __main__ as train
from msun_lite.transfer import __main__ as transfer
from msun_lite.transfer.options import TransferConfig
from msun_lite.utils.cli import dump_yaml, parse
from msun_lite.utils.errors import UserError

BAD = {
    "unknown option": (["--epocs", "3"], "unknown option --epocs, did you mean --epochs?"),
    "abbreviated option": (["--epoch", "3"], "unknown option --epoch, did you mean --epochs?"),
    "wrong type": (["--epochs", "three"], "epochs: expected int, got 'three'"),
    "wrong optional type": (["--clip_norm", "a"], "clip_norm: expected float, got 'a'"),
    "wrong list": (["--scales", "8,x"], "scales: expected"),
    "unknown method": (["--method", "msn"], "method: expected one of vanilla, mst, msun, rs, got 'msn'"),
    "unknown preset": (["--preset", "tiny"], "preset: unknown preset 'tiny', expected one of"),
    "unknown arch": (["--arch", "resnet51"], "arch: unknown architecture 'resnet51'"),
    "blocks": (["--blocks", "4"], "blocks: expected one of 0, 1, 2, 3"),
    "unsorted scales": (["--scales", "32,8"], "scales: expected rising numbers without repeats, got [32, 8]"),
    "repeated scales": (["--scales", "8,8"], "scales: expected rising numbers without repeats, got [8, 8]"),
    "one scale": (["--scales", "8"], "scales: expected at least 2, got [8]"),
    "sizes": (["--sizes", "16,8"], "sizes: expected rising positive numbers"),
    "one image a batch": (["--batch_size", "1"], "batch_size: expected at least 2, got 1"),
    "huge seed": (["--seed", "99999999999999999999"], "seed: expected less than"),
    "negative seed": (["--scenes_seed", "-1"], "scenes_seed: expected at least 0, got -1"),
    "constraint": (["--constraint", "soft"], "constraint: expected one of sum, pair, weight, none, got 'soft'"),
    "one view": (["--method", "vanilla", "--constraint", "pair"], "constraint: expected none for vanilla, which sees"),
    "uncut": (
        ["--method", "mst", "--arch", "alexnet", "--constraint", "pair"],
        "constraint: expected none for mst with alexnet, of which nothing says where it is cut, got 'pair'",
    ),
    "teacher": (["--teacher", "smaller"], "teacher: expected one of all, larger, got 'smaller'"),
    "negative weight": (["--distil", "-1"], "distil: expected at least 0, got -1"),
    "nothing shared": (["--unify", "none", "--norm", "per_scale"], "norm: expected shared where unify is none"),
    "one batch": (["--unify", "none", "--joint"], "joint: expected unify largest and norm shared beside it, got none"),
    "stem": (["--stems", "big"], "stems: expected one of coarse, fine, got 'big'"),
    "no epochs": (["--epochs", "0"], "epochs: expected more than 0, got 0"),
    "warm-up": (
        ["--epochs", "2", "--warmup_epochs", "3"],
        "warmup_epochs: expected at most as many as epochs, 2, got 3.0",
    ),
    "smoothing": (["--label_smoothing", "1"], "label_smoothing: expected less than 1"),
    "momentum": (["--optimizer", "adamw", "--momentum", "1"], "momentum: expected less than 1"),
    "crop": (["--crop_min", "1.5"], "crop_min: expected at most 1"),
    "device": (["--device", "gpu"], "device: expected auto, cpu or a device of this machine, got 'gpu'"),
    "missing config": (["--config", "nowhere.yaml"], "nowhere.yaml: expected a YAML file"),
    "missing data": (["--data", "nowhere"], "nowhere: no such data folder"),
    "nothing to resume": (["--resume"], "expected a run to resume"),
    "mistyped with dashes": (["--batch-sise", "8"], "unknown option --batch-sise, did you mean --batch_size?"),
    "variable that is not set": (["--data", ""], "data: expected something, got ''"),
    "empty list": (["--sizes", ""], "sizes: expected whole numbers such as 32,48,64, got ''"),
    "unlike any option": (["--nothing"], "unknown option --nothing"),
    "folder as preset": (["--preset", "tests"], "preset: unknown preset 'tests', expected one of"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", [train, reproduce])
def test_bad_input_is_one_line_and_exit_code_2(name, command, tmp_path, capsys):
    words, message = BAD[name]
    if command is reproduce and ("--method" in words or name == "nothing to resume"):
        pytest.skip("not an option of this command")
    small = ["--scenes_train", "20", "--scenes_val", "10", "--out", str(tmp_path / "run")]
    assert command.main([*small, *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_real_process_exits_2_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "msun_lite.train", "--epochs", "three"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: epochs: expected int, got 'three'\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["epocs: 3", "- 1", "a: [", "epochs: three"])
def test_a_bad_config_file_is_one_line_and_exit_code_2(tmp_path, capsys, content):
    path = tmp_path / "options.yaml"
    path.write_text(content)
    assert train.main(["--config", str(path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


NULLS = {train: "epochs", reproduce: "scales", ablate: "lr", transfer: "mode", cost: "arch", evaluate: "workers"}
NULLS[analyse] = "what"


@pytest.mark.parametrize("command", NULLS)
def test_a_file_cannot_give_none_to_an_option_that_has_a_value(command, tmp_path, capsys):
    path, name = tmp_path / "options.yaml", NULLS[command]
    path.write_text(f"{name}: null\n")
    assert command.main(["--config", str(path), *(["--table", "6"] if command is ablate else [])]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name}: expected ")
    assert error.endswith("got 'None'\n")


def test_python_and_a_stored_configuration_cannot_either(tmp_path):
    with pytest.raises(UserError, match="epochs: expected int, got 'None'"):
        make_config("quick", epochs=None)
    path = tmp_path / "config.yaml"
    path.write_text("sizes: null\nclip_norm: null\n")
    with pytest.raises(UserError, match=r"config\.yaml: sizes: expected whole numbers such as 32,48,64, got 'None'"):
        read_config(path)
    assert make_config("quick", clip_norm=None).clip_norm is None


def test_an_option_that_must_be_given_is_named(capsys):
    assert ablate.main([]) == 2
    assert capsys.readouterr().err == "error: the following arguments are required: table\n"


@pytest.mark.parametrize("preset", [path.stem for path in PRESETS.glob("*.yaml")])
def test_presets_are_valid_and_share_one_shape(preset):
    config = make_config(preset)
    small, medium, large = config.scales
    assert len(config.sizes) == 13
    assert (config.sizes[0], config.sizes[-1]) == (small, large)
    assert medium == large * 4 // 7


@pytest.mark.parametrize(("module", "options"), [(train, True), (evaluate, False), (reproduce, True), (ablate, True)])
def test_help_explains_every_option(module, options, capsys):
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--print_config" in text
    if options:
        hidden = {reproduce: {"method", "resume"}, ablate: set(ABLATED)}.get(module, set())
        for field in dataclasses.fields(TrainConfig):
            assert bool(re.search(rf"--{field.name}\b", text)) == (field.name not in hidden)
            spelt = rf"--{field.name} \S+ (--{field.name}\+ \S+ )?"
            explained = re.search(rf"{spelt}[^-].{{15,}}? \((required|type):", text)
            assert bool(explained) == (field.name not in hidden), field.name


def _parse(*words):
    options = parse(make_parser("test", "test"), list(words))
    options.pop("config", None)
    return TrainConfig(**options.as_dict())


def _files(folder, *contents):
    """Write YAML files and return the words that name them by --config."""
    words = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.yaml"
        path.write_text(content)
        words += ["--config", str(path)]
    return words


LITE = "preset: lite\nepochs: 7\nlr: 0.3\n"


@pytest.mark.parametrize(
    ("before", "files", "after", "expected"),
    [
        ((), (LITE,), ("--lr", "0.2"), ("lite", [16, 64, 112], 7, 0.2)),
        (("--lr", "0.2"), (LITE,), (), ("lite", [16, 64, 112], 7, 0.2)),
        (("--preset", "quick"), (LITE,), (), ("quick", [8, 32, 56], 7, 0.3)),
        ((), (LITE,), ("--preset=quick",), ("quick", [8, 32, 56], 7, 0.3)),
        ((), (LITE, "preset: quick\nlr: 0.2"), (), ("quick", [8, 32, 56], 7, 0.2)),
        ((), ("lr: 0.2", LITE), (), ("lite", [16, 64, 112], 7, 0.3)),
        (("--preset", "lite"), (), ("--preset", "quick", "--epochs", "7", "--lr", "1"), ("quick", [8, 32, 56], 7, 1.0)),
    ],
)
def test_the_command_line_wins_over_the_files_and_they_over_the_preset(tmp_path, before, files, after, expected):
    config = _parse(*before, *_files(tmp_path, *files), *after)
    assert (config.preset, config.scales, config.epochs, config.lr) == expected


def test_a_file_can_say_which_run_goes_on(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    stored = make_config("quick", out=str(folder), epochs=5, max_minutes=1.0)
    (folder / "config.yaml").write_text(dump_yaml(stored))
    wanted = dataclasses.replace(stored, resume=True, max_minutes=None)
    assert _parse("--out", str(folder), "--resume") == wanted
    assert _parse(*_files(tmp_path, f"out: {folder}\nresume: true\n")) == wanted
    assert _parse("--resume", *_files(tmp_path, f"out: {folder}\nresume: false\n")) == wanted
    repeated = _parse("--resume", "--config", str(folder / "config.yaml"))
    assert repeated == dataclasses.replace(wanted, max_minutes=1.0)


@pytest.mark.parametrize("command", [train, reproduce, cost, evaluate, analyse, transfer])
def test_what_print_config_prints_reads_back_equal(command, tmp_path, capsys):
    words = {
        train: ["--preset", "lite", "--scales", "16,32"],
        reproduce: ["--preset", "lite"],
        cost: ["--sizes", "32,48"],
        evaluate: ["lite-msun", "--sizes", "8,32"],
        analyse: ["lite-msun", "--sizes", "8,32"],
        transfer: ["--run", "lite-msun", "--size", "32"],
    }
    path, printed = tmp_path / "options.yaml", []
    for given in (words[command], ["--config", str(path)]):
        with pytest.raises(SystemExit):
            command.main([*given, "--print_config"])
        text = capsys.readouterr().out
        path.write_text(text)
        printed.append(yaml.safe_load(text))
    assert printed[0] == printed[1]
    assert printed[0].get("run", "lite-msun") == "lite-msun"


def test_a_positional_of_the_command_line_wins_over_the_files(tmp_path, capsys):
    for words, run in (((), "nothing-here"), (("nothing-there",), "nothing-there")):
        assert evaluate.main([*_files(tmp_path, "run: nothing-here\nsizes: [8, 32]\n"), *words]) == 2
        assert capsys.readouterr().err.startswith(f"error: {run}: expected a run folder")


def test_switches_and_lists_have_a_short_form():
    config = _parse("--resume", "--scales", "8,16,24", "--flip=false")
    assert (config.resume, config.scales, config.flip) == (True, [8, 16, 24], False)
    assert _parse("--scales=8,24").scales == [8, 24]


def test_a_written_configuration_reads_back_equal(tmp_path):
    for method in COMPARED:
        config = make_config("lite", method=method, clip_norm=1.0, seed=3)
        path = tmp_path / "config.yaml"
        path.write_text(dump_yaml(config))
        assert _parse("--config", str(path)) == config
        assert yaml.safe_load(path.read_text())["out"] == f"runs/lite-{method}-seed3"


def test_the_constraint_is_what_the_method_needs_unless_it_is_given():
    resolved = {method: make_config("quick", method=method).constraint for method in COMPARED}
    assert resolved == {"vanilla": "none", "mst": "none", "msun": "pair"}
    assert make_config("quick", method="mst", constraint="pair").constraint == "pair"
    assert yaml.safe_load(dump_yaml(make_config("quick", method="mst")))["constraint"] == "none"


@pytest.mark.parametrize(
    "name", [path.parent.name for path in SHIPPED.glob("*/config.yaml") if "adapted" not in path.parent.name]
)
def test_shipped_configurations_say_the_constraint_they_were_trained_with(name):
    stored = yaml.safe_load((SHIPPED / name / "config.yaml").read_text())
    constrained = stored["method"] == "msun" and name != "lite-plus"
    assert stored["constraint"] == ("pair" if constrained else "none")


def test_the_options_of_a_transfer_are_not_those_of_a_run(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(TransferConfig(run="lite-msun", dataset="scenes")))
    with pytest.raises(
        UserError, match=r"config\.yaml: expected the options of a training run, got those of a transfer"
    ):
        read_config(path)


def test_a_mistyped_option_in_python_is_named():
    with pytest.raises(UserError, match="did you mean epochs"):
        make_config("quick", epochz=3)


def test_a_run_that_was_begun_with_a_longer_warm_up_can_still_be_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("epochs: 1\nwarmup_epochs: 2\n")
    assert read_config(path).warmup_epochs == 2


def test_options_may_be_spelt_with_dashes():
    config = _parse("--batch-size", "16", "--scenes-seed=3", "--random-sizes", "--out", "runs/my-run")
    assert (config.batch_size, config.scenes_seed, config.random_sizes, config.out) == (16, 3, True, "runs/my-run")


def test_a_file_of_options_can_be_a_preset(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("preset: lite\nepochs: 3\nlr: 1e-3\n")
    config = _parse("--preset", "mine.yaml", "--seed", "2", "--epochs", "4")
    assert config == dataclasses.replace(
        make_config("lite", seed=2, epochs=4, lr=1e-3), preset="mine.yaml", out="runs/mine-msun-seed2"
    )
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    (tmp_path / "mine.yaml").write_text("epocs: 3\n")
    assert train.main(["--preset", "mine.yaml"]) == 2
    assert capsys.readouterr().err == "error: mine.yaml: unknown option 'epocs', did you mean epochs?\n"
    (tmp_path / "mine.yaml").write_text("preset: mine.yaml\n")
    assert train.main(["--preset", "mine.yaml"]) == 2
    assert "mine.yaml: preset: expected one of finetune, " in capsys.readouterr().err
    (tmp_path / "mine.yaml").unlink()
    assert read_config(tmp_path / "config.yaml") == config, "a run is read without the file it began from"
    repeated = command_line(config).split()[3:]
    assert dataclasses.asdict(_parse(*repeated)) == dataclasses.asdict(config) | {
        "preset": "quick",
        "out": "runs/quick-msun-seed2",
    }


def test_vanilla_needs_one_scale_alone():
    assert make_config("quick", method="vanilla", scales=[16]).scales == [16]
    with pytest.raises(UserError, match="scales: expected at least 1, got"):
        make_config("quick", method="vanilla", scales=[])


LONG = "x" * 300


@pytest.mark.parametrize("command", [train, reproduce, ablate, transfer, analyse])
@pytest.mark.parametrize("out", [LONG, f"new/{LONG}/run", "FILE", "FILE/run", "/proc/nothing"])
def test_a_folder_that_cannot_be_made_is_named_in_one_line_before_any_work(command, out, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    words = {ablate: ["--table", "6"], transfer: ["lite-msun", "--dataset", "scenes"], analyse: ["lite-msun"]}
    if command is analyse:
        words[analyse] += ["--what", "cka"]
    assert command.main([*words.get(command, []), "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {out}")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


@pytest.mark.parametrize("out", [LONG, "nowhere/a.json", "FILE/a.json", "/proc/a.json", "."])
def test_a_file_that_cannot_be_made_is_named_in_one_line_before_any_work(out, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    for command, words in ((cost, ["--arch", "resnet_lite"]), (evaluate, ["lite-msun", "--data", "nowhere"])):
        assert command.main([*words, "--json", out]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {out}: expected a file in an existing folder, got")
        assert error.count("\n") == 1

"""The whole way of an ImageNet run with one photograph for each of the 1,000 classes, on a CPU.

    python experiments/rehearse_imagenet.py imagenet_one_each.tar --out runs/1k --json book/results/rehearsal.json

The archive has class folders `train/WNID/`. Its photographs are packed into archives of the official layout, as
training and as validation images; from there on all is what a real run does: `prepare_imagenet.py`, `make_shards.py`,
the preset `imagenet` with ResNet-50 at 32, 128 and 224 px, from the class folders and from shards, stopped by SIGTERM,
resumed, measured. One of ten shards is trained on, and one measured: the accuracies mean nothing.
"""

import gzip
import io
import json
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
from scipy.io import savemat

from msun_lite.results.run_folder import RunFolder
from msun_lite.train.checkpoint import load_checkpoint
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import UserError, one_line_errors
from msun_lite.utils.files import read_json, write_json

SCRIPTS = Path(__file__).resolve().parent.parent / "data_scripts"
TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
SHARD = 100
"""Images in a shard, and so in the run."""
OPTIONS = "--preset imagenet --epochs 1 --batch_size 10 --lr_batch_size 10 --sizes 32,128,224 --warmup_epochs 0"


def pack(members: dict[str, bytes]) -> bytes:
    """Return a tar archive of {name: content}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def make_archives(source: Path, folder: Path) -> int:
    """Write three archives of the official layout from one of class folders; return the number of classes."""
    folder.mkdir(parents=True)
    with tarfile.open(source) as archive:
        files = [member for member in archive if member.isfile() and "/train/" in member.name]
        photographs = {member.name.split("/")[-2]: archive.extractfile(member).read() for member in files}
    wnids = sorted(photographs)
    train = {f"{wnid}.tar": pack({f"{wnid}_1.JPEG": photographs[wnid]}) for wnid in wnids}
    (folder / TRAIN).write_bytes(pack(train))
    val = {f"ILSVRC2012_val_{number:08d}.JPEG": photographs[wnid] for number, wnid in enumerate(wnids, 1)}
    (folder / VAL).write_bytes(pack(val))
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    synsets = np.array([(number, wnid, 0) for number, wnid in enumerate(wnids, 1)], dtype=fields)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets[:, None]})
    truth = "".join(f"{number}\n" for number in range(1, len(wnids) + 1)).encode()
    top = "ILSVRC2012_devkit_t12/data"
    devkit = {f"{top}/meta.mat": meta.getvalue(), f"{top}/ILSVRC2012_validation_ground_truth.txt": truth}
    (folder / DEVKIT).write_bytes(gzip.compress(pack(devkit)))
    return len(wnids)


def call(*words: str) -> float:
    """Run `python WORDS`, which must succeed; return the seconds it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True)
    return round(time.perf_counter() - start, 1)


def train(run: RunFolder, data: str, stop_at: int, finish: bool) -> dict:
    """Train until `stop_at` steps are done, send SIGTERM, resume, and stop again or go on to the end."""
    first = [sys.executable, "-m", "msun_lite.train", *shlex.split(OPTIONS), "--data", data, "--out", str(run.path)]
    process = subprocess.Popen([*first, "--checkpoint_minutes", "1e-6"])  # so that the step can be read from outside
    while process.poll() is None and not (
        run.checkpoint.exists() and load_checkpoint(run.checkpoint)["step"] >= stop_at
    ):
        time.sleep(0.5)
    asked = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    if process.wait() != 0:
        raise UserError(f"{run.path}: the training ended with {process.returncode}")
    seconds = round(time.perf_counter() - asked, 1)
    stopped = load_checkpoint(run.checkpoint)["step"]
    limit = [] if finish else ["--max_minutes", "1e-6"]
    call("-m", "msun_lite.train", "--out", str(run.path), "--resume", *limit)
    resumed = load_checkpoint(run.checkpoint)["step"]
    return {"stopped_at_step": stopped, "seconds_from_sigterm_to_exit": seconds, "then_went_on_to_step": resumed}


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = OneLineParser(description="Rehearse an ImageNet run with one photograph a class.")
    parser.add_argument("source", type=str, help="Tar with train/WNID/ class folders.")
    parser.add_argument("--out", type=str, required=True, help="New folder for archives, images and runs.")
    parser.add_argument("--json", type=str, required=True, help="File for the record.")
    options = parse(parser, argv)
    out = Path(options.out)
    if out.exists():
        raise UserError(f"{out}: exists already, expected a new folder")
    classes = make_archives(Path(options.source), out / "archives")
    counts = f"{classes},{classes},{classes}"
    prepare = ("prepare_imagenet.py", str(out / "archives"), str(out / "in1k"), "--skip_md5", "--expect", counts)
    shard = ("make_shards.py", str(out / "in1k"), str(out / "shards"), "--images_per_shard", str(SHARD))
    record = {
        "classes": classes,
        "prepare_seconds": call(str(SCRIPTS / prepare[0]), *prepare[1:]),
        "shard_seconds": call(str(SCRIPTS / shard[0]), *shard[1:]),
        "check_seconds": call(str(SCRIPTS / shard[0]), "--check", str(out / "shards")),
    }
    shards = f"wds:{out / 'shards'}/{{train,val}}-000000.tar"
    record["class_folders"] = train(RunFolder(out / "run-folders"), str(out / "in1k"), stop_at=1, finish=False)
    run = RunFolder(out / "run-shards")
    record["shards"] = train(run, shards, stop_at=3, finish=True)
    call("-m", "msun_lite.evaluate", str(run.path), "--json", str(out / "evaluated.json"))
    summary, evaluated = read_json(run.summary), read_json(out / "evaluated.json")
    if summary["top1"] != evaluated["top1"]:
        raise UserError(
            f"{run.path}: measured {summary['top1']} at the end of the run, and {evaluated['top1']} after it"
        )
    record |= {name: summary[name] for name in ("command", "params", "seconds", "evaluation_seconds", "data")}
    print(json.dumps(record, indent=2))
    write_json(Path(options.json), record | {"env": summary["env"]})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a trained network sees on photographs: the likeliest classes of each, and which subnet answered.

    python -m msun_lite.predict lite-plus photo.jpg
    python -m msun_lite.predict runs/mine photos more/*.png --top 3 --csv answers.csv

Every image is looked at in its own size. It is cropped to the same central square as in evaluation. Where the square is
larger than the network's largest scale it is made as large as that; where it is smaller it stays as it is. The routing
then chooses the subnet by its side. Images that cannot be read are named, and the others are answered.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("predict"))


import csv
import glob
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jsonargparse import Namespace

from msun_lite.data import FileSource, images_below, skipped_files
from msun_lite.evaluate import answers, crop_ratio_of, find_model
from msun_lite.networks import MSUN, class_names
from msun_lite.utils.devices import pick_device, use_threads
from msun_lite.utils.distributed import refuse_several
from msun_lite.utils.environment import environment
from msun_lite.utils.errors import DataError, printable, within
from msun_lite.utils.files import atomic_write, check_output, write_json
from msun_lite.utils.progress import note, progress

TOP = 5
"""Classes that are named of an image, if there are so many."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prediction:
    """What a network answers to one image; of an unreadable one, only `file` and `error`."""

    file: str
    width: int | None = None
    """Of the upright image, in pixels; so is the height."""
    height: int | None = None
    size: int | None = None
    """Side in pixels of the square that the network looks at, which the routing goes by."""
    scale: int | None = None
    """Whose subnet answers."""
    classes: tuple[str, ...] = ()
    """The likeliest first."""
    confidences: tuple[float, ...] = ()
    """Their probabilities, by the softmax of the logits."""
    error: str | None = None
    """Why the image cannot be read."""

    def line(self) -> str:
        """Return the answer in words: `a.jpg (24 px, subnet of 16 px): church 95.2 %, parachute 3.1 %`."""
        pairs = zip(self.classes, self.confidences, strict=True)
        named = ", ".join(f"{name} {100 * share:.1f} %" for name, share in pairs)
        return f"{self.file} ({self.size} px, subnet of {self.scale} px): {named}"


def predict(
    model: MSUN,
    files: Sequence[str | Path],
    top: int = TOP,
    crop_ratio: float = 0.875,
    device: torch.device = CPU,
    workers: int = 0,
) -> Iterator[Prediction]:
    """Yield the answer to each image file, in their order; about a thousand are in memory at most.

    Args:
        model: ready for evaluation, on `device`. Classes are named as in its description, by their numbers if it
            knows none.
        files: images of any size, format and colour mode that `decode` reads.
        top: how many classes to name.
        crop_ratio: side of the central square that is looked at, as a part of the image's shorter side.
        device: where the model is.
        workers: processes that read the images.
    """
    files, names = [str(file) for file in files], class_names(model.spec)
    found = answers(model, FileSource([(file, -1) for file in files]), crop_ratio, device, workers)
    for file, answer in zip(files, found, strict=True):
        if answer.error:
            yield Prediction(file, error=answer.error)
            continue
        shares, labels = answer.logits.softmax(0).topk(top)
        classes = tuple(names[label] for label in labels.tolist())
        about = answer.width, answer.height, answer.size, model.router.scale(answer.size)
        yield Prediction(file, *about, classes, tuple(shares.tolist()))


def find_files(given: Sequence[str]) -> tuple[list[str], str]:
    """Return the image files that names of files, folders and patterns stand for, each once, and what was left out.

    Raises:
        DataError: for a name that stands for nothing, or a folder without images.
    """
    found: dict[str, None] = {}
    skipped: Counter[str] = Counter()
    for name in given:
        paths = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        if not paths:
            raise DataError(printable(f"{name}: expected an image, a folder of images or a pattern, found nothing"))
        for path in paths:
            inside = images_below(Path(path), skipped) if Path(path).is_dir() else [path]
            if not inside:
                raise DataError(printable(f"{path}: expected images in the folder, found none"))
            found |= dict.fromkeys(inside)
    return list(found), skipped_files(skipped)


@contextmanager
def csv_file(path: Path, top: int) -> Iterator[Callable[[Prediction], object]]:
    """Open a table of answers, a line an image, which is there once it is whole; give what writes a line."""
    ranks = range(1, top + 1)
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="", write_through=True)
        writer = csv.writer(text)
        about = ("file", "width", "height", "size", "scale", "error")
        writer.writerow([*about, *(f"{name}_{rank}" for rank in ranks for name in ("class", "confidence"))])

        def write(answer: Prediction) -> None:
            pairs = zip(answer.classes, answer.confidences, strict=True)
            cells = [cell for name, share in pairs for cell in (name, f"{share:.6f}")]
            writer.writerow([*(getattr(answer, name) for name in about), *(cells or [None] * 2 * top)])

        yield write
        text.detach()


def run(options: Namespace, command: str) -> None:
    """Answer to the images that the options of the command name."""
    refuse_several("predict")
    check_output(options.csv)
    check_output(options.json)
    ratio = crop_ratio_of(find_model(options.run), options.crop_ratio)
    files, left_out = find_files(options.images)
    use_threads(options.threads)
    device = pick_device(options.device)
    model = MSUN.from_pretrained(options.run).to(device, memory_format=torch.channels_last)
    top = min(TOP, model.spec["classes"]) if options.top is None else options.top
    within("top", top, least=1, most=model.spec["classes"])
    if left_out:
        note(left_out)
    found = predict(model, files, top, ratio, device, options.workers)
    unreadable, kept = [], []
    with ExitStack() as stack:
        write = stack.enter_context(csv_file(Path(options.csv), top)) if options.csv else None
        for answer in progress(found, total=len(files), desc="images", unit="image", leave=False):
            if answer.error:
                unreadable.append(answer.error)
            elif not (options.csv or options.json):
                note(answer.line())
            if write:
                write(answer)
            if options.json:
                kept.append({name: value for name, value in asdict(answer).items() if value not in (None, ())})
    if options.json:
        about = {"run": options.run, "crop_ratio": ratio, "images": kept, "command": command}
        write_json(Path(options.json), about | {"env": environment(device, "fp32")})
    for path in filter(None, (options.csv, options.json)):
        note(f"{path}: {len(files) - len(unreadable):,} images")
    if unreadable:
        shown = "; ".join(unreadable[:3]) + ("; ..." if len(unreadable) > 3 else "")
        raise DataError(f"{len(unreadable):,} of {len(files):,} images cannot be read, the others are done: {shown}")


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("predict", argv)

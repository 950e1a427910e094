"""Make a set of images of mixed sizes of one of large images, to measure networks with `--sizes own`.

    msun-lite data mixed_sizes data/imagenette data/imagenette-mixed
    msun-lite data mixed_sizes photos photos-mixed --least 32 --most 512 --seed 1

Each image of val/ is made smaller, antialiased, to a shorter side drawn from --least to --most, log-uniformly: as many
images from 20 to 40 px as from 40 to 80. None is made larger than it is. They are kept as PNG, without further loss.
The same folder and seed give the same pixels. OUT appears once it is whole.
"""

import math
import sys
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import resize, to_pil_image

from msun_lite.data.class_folders import read_class_folder
from msun_lite.data.images import UnreadableImage, decode
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import DataError, UserError, one_line_errors, printable, within
from msun_lite.utils.files import whole_folder
from msun_lite.utils.progress import note, progress


def mix(folder: Path, out: Path, least: int, most: int, seed: int) -> int:
    """Write the images of a class folder at drawn sizes into a new folder, and return how many there are.

    Raises:
        DataError: if there are no class folders, or an image cannot be read.
    """
    found = read_class_folder(folder)
    drawn = torch.rand(len(found.samples), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    low, high = math.log(least), math.log(most)
    for (path, label), share in zip(progress(found.samples, desc="images"), drawn, strict=True):
        try:
            image = decode(path)
        except UnreadableImage as error:
            raise DataError(str(error)) from None
        side = round(math.exp(low + share * (high - low)))
        if side < min(image.shape[1:]):
            image = resize(image, [side], antialias=True)
        target = out / found.classes[label]
        target.mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(target / f"{Path(path).stem}.png")
    return len(found.samples)


@one_line_errors
def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command; `prog` is what it was called by, the script itself by default."""
    parser = OneLineParser(prog=prog, description="Make a set of images of mixed sizes.")
    parser.add_argument("folder", type=str, help="Folder with val/, which has a folder of images for each class.")
    parser.add_argument("out", type=str, help="New folder.")
    parser.add_argument("--least", type=int, default=16, help="Smallest shorter side in pixels.")
    parser.add_argument("--most", type=int, default=224, help="Largest.")
    parser.add_argument("--seed", type=int, default=0, help="Of the sizes.")
    options = parse(parser, argv)
    within("least", options.least, least=1)
    within("most", options.most, least=options.least)
    out = Path(options.out)
    if out.exists():
        raise UserError(printable(f"{out}: expected a new folder, it is there already"))
    with whole_folder(out) as made:
        count = mix(Path(options.folder) / "val", made / "val", options.least, options.most, options.seed)
    note(f"{out}: {count:,} images with shorter sides from {options.least} to {options.most} px")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Put the data sets of Table III where `msun-lite transfer --dataset NAME` finds them.

msun-lite data get_transfer                                    # what there is, how large, by which licence
msun-lite data get_transfer cifar10                            # download, verify, unpack
msun-lite data get_transfer stanford_cars --source FOLDER_OR_URL   # the official files from elsewhere

Interrupted, the same command goes on, in the middle of a file too. A set that is there already is checked.
"""

import sys
from pathlib import Path

from tabulate import tabulate

from msun_lite.transfer.public_sets import SETS, fetch_set
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.progress import note, show


def listing(root: Path) -> str:
    """Return the data sets as a table, and which of them are in the data folder."""
    rows = [
        [
            name,
            about.title,
            f"{about.size} px",
            about.classes,
            about.train,
            about.test,
            about.licence,
            about.source,
            "yes" if (root / name).is_dir() else "by hand" if about.by_hand else "",
        ]
        for name, about in SETS.items()
    ]
    return tabulate(rows, ["name", "Table III", "size", "classes", "train", "test", "licence", "source", f"in {root}"])


@one_line_errors
def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command; `prog` is what it was called by, the script itself by default."""
    parser = OneLineParser(prog=prog, description="Put a data set of Table III into the data folder.")
    parser.add_argument("dataset", type=str | None, nargs="?", default=None, help=f"One of {', '.join(SETS)}.")
    source_help = "Folder or address with the official files, in place of their official addresses."
    parser.add_argument("--source", type=str | None, default=None, help=source_help)
    parser.add_argument("--data_root", type=str, default="data", help="Folder of data sets.")
    options = parse(parser, argv)
    root = Path(options.data_root)
    if options.dataset is None:
        show(listing(root))
        return 0
    folder, about = fetch_set(options.dataset, root, options.source), SETS[options.dataset]
    note(f"{folder}: {about.train} training and {about.test} test images of {about.classes} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

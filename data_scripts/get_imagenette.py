"""Put Imagenette where `--data imagenette` finds it.

msun-lite data get_imagenette                               # download (326 MB, checksummed)
msun-lite data get_imagenette --source imagenette2-320.tgz  # a local archive or its address
msun-lite data get_imagenette --source FOLDER_OF_TARS
"""

import sys
from pathlib import Path

from msun_lite.data.imagenette import get_imagenette, imagenette_folder
from msun_lite.utils.cli import OneLineParser, parse
from msun_lite.utils.errors import one_line_errors
from msun_lite.utils.progress import note


@one_line_errors
def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command; `prog` is what it was called by, the script itself by default."""
    parser = OneLineParser(prog=prog, description="Put Imagenette where --data imagenette finds it.")
    parser.add_argument("--source", type=str | None, default=None, help="Archive, its address, or a folder of tars.")
    parser.add_argument("--data_root", type=str, default="data", help="Folder of data sets.")
    options = parse(parser, argv)
    root = Path(options.data_root)
    folder = get_imagenette(root, options.source) if options.source else imagenette_folder(root)
    counts = {split: sum(1 for _ in (folder / split).rglob("*.JPEG")) for split in ("train", "val")}
    note(f"{folder}: {counts['train']} training and {counts['val']} validation images")
    return 0


if __name__ == "__main__":
    sys.exit(main())

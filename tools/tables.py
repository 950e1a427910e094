"""Write what is published of the records: the README's tables, the figures and the pages of records.

python tools/tables.py            # after tools/publish.py has added or changed a record
python tools/tables.py --check    # exit code 1 if anything published differs from the records
"""

import argparse
import re
import sys
from pathlib import Path

from tabulate import tabulate

from msun_lite.ablate.compared import ALL_TESTED
from msun_lite.ablate.run import stem
from msun_lite.ablate.tables import rows_markdown, table_markdown
from msun_lite.analyse.figures import analysis_figures
from msun_lite.analyse.options import STUDIES
from msun_lite.analyse.tables import attention_table, cka_table, resizing_table, space_table
from msun_lite.book.published import (
    FOLDERS,
    GRIDS,
    ablations,
    analyses,
    beyond,
    comparison,
    records,
    results,
    transfers,
)
from msun_lite.results.figures import accuracy_figure, claims_figure, rivals_figure, save_figure
from msun_lite.results.names import NAMES, RESAMPLING_NAMES
from msun_lite.results.records import read_measurement, read_summary
from msun_lite.results.routings import all_routings
from msun_lite.results.tables import accuracy_table, subnet_table
from msun_lite.results.words import describe_seeds
from msun_lite.transfer.table import transfer_markdown, transfer_record, transfer_rows
from msun_lite.utils.files import read_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = results()

ACCURACIES = ("summary.json", "native.json", "native-averages-size.json", *ALL_TESTED)
"""Files of a run folder that say what was measured of it."""

RIVAL_SIZES = (16, 32, 64, 88, 112)
"""The sizes that the README shows of the rivals."""


def readme(text: str) -> str:
    """Return the README with the tables between its markers written anew."""
    text = _replace(text, "beyond", accuracy_table(beyond(), "github"))
    text = _replace(text, "rivals", rows_markdown(comparison("rivals"), RIVAL_SIZES))
    text = _replace(text, "transfer", transfer_rows(transfer_record(transfers().values())))
    for grid in GRIDS:
        named = {NAMES[method]: record for method, record in records(grid).items()}
        shipped = read_summary(RESULTS / grid / "msun-seed0" / "summary.json")
        for name, table in (
            (grid, accuracy_table(named, "github")),
            (f"{grid}-subnets", subnet_table(shipped | {"routings": all_routings(shipped)}, "github")),
        ):
            text = _replace(text, name, table)
    return text


def _replace(text: str, name: str, table: str) -> str:
    """Return `text` with `table` between the markers of that name."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    text, found = re.subn(pattern, lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"README.md: expected the markers of the table {name} once, found {found}")
    return text


def index() -> str:
    """Return the index of all records as Markdown."""
    rows = []
    for path in sorted(path for name in ACCURACIES for path in RESULTS.rglob(name)):
        r = read_summary(path) if path.name == "summary.json" else read_measurement(path)
        name = (path.parent if path.name == "summary.json" else path).relative_to(RESULTS).as_posix()
        data = f"{r['data']['name']} {r['data']['fingerprint']}"
        device = f"{r['env']['device']}, {r['env']['precision']}"
        rows.append(
            [f"[{name}]({name})", f"{r['mean_top1']:.2f}", f"`{r['command']}`", r["env"]["commit"][:10], data, device]
        )
    header = ["record", "mean top-1 %", "command", "commit", "data", "device"]
    table = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    note = (
        "Written by `python tools/tables.py`. One folder a run, with `summary.json` and `metrics.jsonl`. `native.json` "
        "is the same network on small images as they are, not upsampled first; `averages-size.json` is it with "
        "BatchNorm averages of each size, `native-averages-size.json` both; `antialias-true.json` and "
        "`antialias-false.json` are it on images made small otherwise than in its training. Transfers to other data "
        "sets are in [transfer](transfer)."
    )
    return f"# Records\n\n{note}\n\n{table}\n\n## Other measurements\n\n{_other_measurements()}\n"


def _other_measurements() -> str:
    """Return a table of the records that are no run's: analyses, counts, what was timed."""
    rows = []
    for path in sorted(RESULTS.rglob("*.json")):
        if path.name in ACCURACIES or path.parent == RESULTS / "transfer":
            continue
        record, name = read_json(path), path.relative_to(RESULTS).as_posix()
        studies = [record[study] for study in STUDIES if study in record] or [record]  # an analysis is of several
        made = {(one["command"], one["env"]["commit"], one["env"]["device"]): None for one in studies}
        rows += [[f"[{name}]({name})", f"`{command}`", at[:10], device] for command, at, device in made]
    return tabulate(rows, ["record", "command", "commit", "device"], tablefmt="github", disable_numparse=True)


def transfer_page() -> str:
    """Return Table III of our transfers and the index of their records, as Markdown."""
    found = transfers()
    rows = [
        [f"[{name}]({name}.json)", f"{r['top1']:.2f}", f"`{r['command']}`", r["env"]["commit"][:10]]
        for name, r in found.items()
    ]
    first = next(iter(found.values()))
    devices = sorted({f"{r['env']['device']}, {r['env']['precision']}" for r in found.values()})
    index = tabulate(rows, ["record", "top-1 %", "command", "commit"], tablefmt="github", disable_numparse=True)
    return (
        "# Transfers: the layout of Table III\n\n"
        "Written by `python tools/tables.py`. A part of CIFAR-10 (`cifar10_10k`) and of DTD (`dtd10`) stand beside the "
        "paper's numbers on the whole sets, for networks of another size: compare differences, not accuracies.\n\n"
        f"{transfer_markdown(transfer_record(found.values()))}\n"
        f"## Records\n\nMade on {'; '.join(devices)}, torch {first['env']['torch']}.\n\n{index}\n"
    )


def pages() -> dict[Path, str]:
    """Return the pages that are written of the records alone: {path: text}."""
    tables = {RESULTS / "ablate" / f"{stem(name)}.md": table_markdown(record) for name, record in ablations().items()}
    return {
        RESULTS / "README.md": index(),
        RESULTS / "architectures.md": architectures(),
        RESULTS / "lite" / "analysis.md": analysis(),
        RESULTS / "transfer" / "README.md": transfer_page(),
        **{RESULTS / folder / f"{table}.md": table_markdown(comparison(table)) for table, folder in FOLDERS.items()},
        **tables,
    }


EXPLANATIONS = {
    "resnet50": "f1 agrees. f2 is printed between the two maps that a stride more or less gives: 32x32 (-2.8 %) and "
    "64x64 (+16.9 %, the stem of the authors' experiments).",
    "densenet121": "The same at f2: 16x16 after the first transition (-16 %) or 32x32 (+34 %), and nothing in between.",
    "vgg16_bn": "The printed f1 and f2 are dearer than any choice of strides in conv1 to conv3 allows at maps near the "
    "largest scale's: at 32 px, with every pooling given up, f1 is 27 % below. About 2.4e10 is missing in both; the "
    "text does not say where it is. At f2 the authors' experiments gave up the third pooling, which is `coarse` here.",
    "mobilenet_v2": "f1 agrees to 0.04 %, with a 1x1 kernel and the strides of features 0, 2 and 4 given up. f2 is "
    "again between one stride (of feature 4: -4.6 %) and another (of feature 0: +28 %, the authors' experiments).",
}


def architectures() -> str:
    """Return the page about the architectures that were tried, and what they cost beside the paper's figures."""
    record = read_json(RESULTS / "architectures.json")
    served = [row for row in record["networks"] if "refused" not in row]
    refused = [row for row in record["networks"] if "refused" in row]
    able = tabulate(
        [
            [
                row["arch"],
                *(f"{row[name] / 1e6:.2f}" for name in ("vanilla_params", "params")),
                *(f"{row['flops'][str(scale)] / 1e9:.2f}" for scale in record["scales"]),
                *(f"{100 * row[name] / row['vanilla_flops']:.0f} %" for name in ("mean_flops", "mean_flops_native")),
            ]
            for row in served
        ],
        ["network", "Vanilla M", "MSUN M", "f1", "f2", "f3", "mean", "mean, native"],
        tablefmt="github",
        disable_numparse=True,
    )
    vanilla = tabulate(
        [
            [row["arch"], f"{row['vanilla_params'] / 1e6:.2f}", f"{row['vanilla_flops'] / 1e9:.2f}", row["refused"]]
            for row in refused
        ],
        ["network", "parameters M", "GFLOPs", "why it is no MSUN"],
        tablefmt="github",
        disable_numparse=True,
    )
    return f"""# Architectures

Written by `python tools/tables.py` from [`architectures.json`](architectures.json) and [`cost/`](cost).

Each network was built, and run on images of 32, 100 and 224 px, with fresh weights. MSUNs have one stage in every
subnet and scales 32, 128 and 224; columns f1 to f3 are GFLOPs (2 x multiply-adds) of an image through f_i and g; the
means are over 13 sizes from 32 to 224 px, nearest routing, in percent of Vanilla's FLOPs, with features resized to the
largest scale's shape (as in the paper) and with `--unify native`.

{able}

These can be trained and measured as Vanilla at every size, but not become an MSUN:

{vanilla}

## Beside Table IV

FLOPs of each subnet with g, in the paper's unit, 8 x (multiply-adds + outputs of BatchNorm), which meets the largest
scale's figure within 0.1 % for all four networks. `coarse` and `fine` are the two rules for stems; `coarse` is the
default. The paper's means are nearer to routing by `ceil` than to its Eq. 6, `nearest`.

{_beside_the_paper()}

{chr(10).join(f"* **{name}**: {text}" for name, text in EXPLANATIONS.items())}
"""


def _beside_the_paper() -> str:
    rows = []
    for arch in EXPLANATIONS:
        by_rule = [read_json(RESULTS / "cost" / f"{arch}-{rule}.json") for rule in ("coarse", "fine")]
        for number, scale in enumerate(by_rule[0]["subnets"], start=1):
            entries = [record["subnets"][scale] for record in by_rule]
            ours = [f"{e['paper_unit']:.3e} ({e['difference_percent']:+.2f} %)" for e in entries]
            rows.append([arch, f"f{number}", f"{entries[0]['paper']:.3g}", *ours])
        for routing in ("nearest", "ceil"):
            entries = [record["routings"][routing] for record in by_rule]
            ours = [f"{e['paper_unit']:.3e} ({e['difference_percent']:+.2f} %)" for e in entries]
            rows.append([arch, f"mean, {routing}", f"{entries[0]['paper']:.3g}", *ours])
    return tabulate(rows, ["network", "", "paper", "coarse", "fine"], tablefmt="github", disable_numparse=True)


def analysis() -> str:
    """Return the page about why the shipped networks fail or hold at small sizes: analysis.md.in, filled."""
    records, _ = analyses()
    named = {NAMES[method]: record for method, record in records.items()}
    vanilla = records["vanilla"]
    cka, gradcam = vanilla["cka"], vanilla["gradcam"]
    few, largest = [16, 32, 64], cka["reference"]
    nothing = gradcam["agreement"]["own"][str(few[0])]["correlation"]["undefined"]
    return (
        (ROOT / "tools" / "analysis.md.in")
        .read_text(encoding="utf-8")
        .format(
            images=cka["settings"]["images"],
            largest=largest,
            small=few[0],
            middle=few[-1],
            batch=cka["batch"],
            cka_used=cka_table(named, few, "used", "unbiased", "github"),
            cka="\n\n".join(
                f"Images fed {feeding}, {estimator}:\n\n{cka_table(named, few, feeding, estimator, 'github')}"
                for feeding in ("native", "upsampled")
                for estimator in ("unbiased", "biased")
            ),
            losses=_losses_table(cka, few),
            first_sizes=" and ".join(size for size in cka["curves"]["native"] if _first_loses_most(cka, size)),
            bias=f"{max(_biases(records)):.2f}",
            layer=gradcam["layer"],
            top_area=f"{gradcam['top_area']:.0%}",
            attention=attention_table(named, [*few, largest], "github"),
            no_map=f"{100 * nothing / gradcam['settings']['images']:.0f} %",
            dimensions=vanilla["pca"]["dimensions"],
            space=space_table(named, [*few, largest], "github"),
            quality=vanilla["resizing"]["jpeg_quality"],
            resizing=resizing_table(named, [*few, 96, largest], "github"),
            falls=_falls_table(vanilla["resizing"]["top1"], few, largest),
            batchnorm=_batchnorm_table(),
        )
    )


def _losses_table(cka: dict, sizes: list[int]) -> str:
    rows = [
        [feeding, f"{size}", *(f"{loss:.2f}" for loss in _losses(cka, feeding, str(size)))]
        for feeding in ("native", "upsampled")
        for size in sizes
    ]
    return _github(["fed", "px", *(f"F{number}" for number in range(1, 1 + len(cka["stages"])))], rows)


def _first_loses_most(cka: dict, size: str) -> bool:
    losses = _losses(cka, "native", size)
    return max(losses) == losses[0]


def _falls_table(top1: dict, sizes: list[int], largest: int) -> str:
    rows = [
        [RESAMPLING_NAMES[way], *(f"{row[str(largest)] - row[str(size)]:.1f}" for size in sizes)]
        for way, row in top1.items()
        if way in ("antialiased", "bilinear", "nearest")
    ]
    return _github(["made small by", *(f"{size} px" for size in sizes)], rows)


def _batchnorm_table() -> str:
    found = read_json(RESULTS / "lite" / "batchnorm.json")["top1"]
    sizes = list(next(iter(found.values())))
    rows = [
        [name, which, *(f"{row[size][which]:.1f}" for size in sizes)]
        for name, row in found.items()
        for which in ("mixed", "own")
    ]
    return _github(["network", "averages", *(f"{size} px" for size in sizes)], rows)


def _github(header: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, header, tablefmt="github", disable_numparse=True, stralign="right")


def _losses(cka: dict, feeding: str, size: str) -> list[float]:
    """Return how much similarity each stage loses, from the image on."""
    curve = cka["curves"][feeding][size]["unbiased"]
    values = [curve[cka["layers"].index(layer)] for layer in ("image", *cka["stages"])]
    return [before - after for before, after in zip(values, values[1:], strict=False)]


def _biases(records: dict[str, dict]) -> list[float]:
    """Return by how much the biased CKA is above the unbiased one, over all networks, feedings, sizes and layers."""
    return [
        biased - unbiased
        for record in records.values()
        for curves in record["cka"]["curves"].values()
        for curve in curves.values()
        for biased, unbiased in zip(curve["biased"], curve["unbiased"], strict=True)
    ]


def draw() -> None:
    """Draw the figures of every set of runs, and those of the analyses."""
    for name, figure in analysis_figures(*analyses()).items():
        save_figure(figure, RESULTS / "lite" / name)
    for name, record in ablations().items():
        if record["claims"]:
            save_figure(claims_figure(record["claims"]), RESULTS / "ablate" / stem(name))
    for table, folder in FOLDERS.items():
        compared = comparison(table)
        save_figure(claims_figure(compared["claims"]), RESULTS / folder / table)
        save_figure(rivals_figure(compared["rows"]), RESULTS / folder / f"{table}-cost")
    for grid, data in GRIDS.items():
        runs = records(grid)
        first = runs["vanilla"]
        seeds = describe_seeds({NAMES[method]: record["seeds"] for method, record in runs.items()})
        title = f"{data}, {first['arch']}, {first['data']['val']} validation images, {seeds}"
        save_figure(accuracy_figure(runs, title), RESULTS / grid / "accuracy")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write tables, figures and the index from the records.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 if something differs")
    check = parser.parse_args().check
    written = {ROOT / "README.md": readme((ROOT / "README.md").read_text(encoding="utf-8")), **pages()}
    if check:
        stale = [
            str(path.relative_to(ROOT))
            for path, text in written.items()
            if not path.exists() or path.read_text(encoding="utf-8") != text
        ]
        print(f"differs from the records: {', '.join(stale)}" if stale else "everything agrees with the records")
        return 1 if stale else 0
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What an analysis found, as tables."""

from collections.abc import Sequence

from msun_lite.analyse.options import STUDIES
from msun_lite.results import RESAMPLING_NAMES, styled_table

AGREEMENTS = ("correlation", "overlap")


def cka_table(
    analyses: dict[str, dict], sizes: Sequence[int], feeding: str, estimator: str, style: str = "simple"
) -> str:
    """Return CKA with the largest scale stage by stage, one row a network and size (Eq. 2, Fig. 2).

    Args:
        analyses: name of the network -> its analysis.json.
        sizes: which sizes, in pixels.
        feeding: `native`, `upsampled`, or `used`, see `resolve_feeding`.
        estimator: `biased` (Eq. 1) or `unbiased`.
        style: a tabulate format.
    """
    rows = []
    for name, record in analyses.items():
        found = record["cka"]
        positions = [found["layers"].index(layer) for layer in ("image", *found["stages"])]
        for size in sizes:
            if curve := found["curves"][resolve_feeding(record, feeding)].get(str(size)):
                rows.append([name, f"{size}", *(f"{curve[estimator][position]:.3f}" for position in positions)])
    stages = [f"F{number}" for number in range(1, len(positions))]
    return styled_table(["network", "px", "image", *stages], rows, style)


def resolve_feeding(analysis: dict, feeding: str) -> str:
    """Return the feeding, or for `used` the one that a network is used with: native for an MSUN, else upsampled."""
    if feeding != "used":
        return feeding
    return "native" if analysis["method"] == "msun" else "upsampled"


def attention_table(analyses: dict[str, dict], sizes: Sequence[int], style: str = "simple") -> str:
    """Return how far attention agrees with that at the largest size, mean and standard deviation over images.

    Correlation and overlap with the network's own attention; after a stroke, with its attention to another image, which
    is what agreement there is by chance; the same with the reference's, if there is one. `no map` counts the images for
    which nothing speaks for the class at that size: they have no attention to compare.
    """
    rows = []
    for name, record in analyses.items():
        found = record["gradcam"]
        for size in sizes:
            entries = {whose: found["agreement"][whose][str(size)] for whose in found["agreement"]}
            cells = [
                f"{_mean_and_std(entry[way])} / {_mean(found['another_image'][whose][str(size)][way])}"
                for whose, entry in entries.items()
                for way in AGREEMENTS
            ]
            rows.append([name, f"{size}", *cells, f"{entries['own']['correlation']['undefined']}"])
    against = [f"{way}, {whose}" for whose in found["agreement"] for way in AGREEMENTS]
    return styled_table(["network", "px", *against, "no map"], rows, style)


def space_table(analyses: dict[str, dict], sizes: Sequence[int], style: str = "simple") -> str:
    """Return the numbers of the feature space: silhouettes, neighbours' classes in percent, displacements."""
    rows = []
    for name, record in analyses.items():
        for size in sizes:
            found = record["pca"]["sizes"][str(size)]
            shares = (found[way] for way in ("neighbour_accuracy", "neighbour_accuracy_at_largest"))
            neighbours = [f"{share['mean']:.1f} ± {share['standard_error']:.1f}" for share in shares]
            rows.append(
                [name, f"{size}", _mean_and_std(found["silhouette"]), *neighbours, _mean_and_std(found["displacement"])]
            )
    header = ["network", "px", "silhouette", "neighbours %", "neighbours at the largest size %", "displacement"]
    return styled_table(header, rows, style)


def resizing_table(analyses: dict[str, dict], sizes: Sequence[int], style: str = "simple") -> str:
    """Return top-1 accuracy in percent for every way of making images small."""
    rows = [
        [name, RESAMPLING_NAMES[way], *(f"{row[str(size)]:.1f}" for size in sizes)]
        for name, record in analyses.items()
        for way, row in record["resizing"]["top1"].items()
    ]
    return styled_table(["network", "made small by", *(f"{size} px" for size in sizes)], rows, style)


def _mean(entry: dict) -> str:
    return f"{entry['mean']:.2f}" if "mean" in entry else "none"


def _mean_and_std(entry: dict) -> str:
    return f"{entry['mean']:.2f} ± {entry['std']:.2f}" if "mean" in entry else "none"


def report(record: dict) -> str:
    """Return what an analysis found as tables for the terminal, at three of its sizes."""
    network, parts = {record["run"]: record}, []
    sizes = {study: record[study]["settings"]["sizes"] for study in STUDIES if study in record}
    shown = {study: list(dict.fromkeys((some[0], some[len(some) // 2], some[-1]))) for study, some in sizes.items()}
    if "cka" in record:
        for feeding in ("native", "upsampled"):
            title = f"CKA with {record['cka']['reference']} px, images fed {feeding}, unbiased"
            parts.append(f"{title}\n{cka_table(network, shown['cka'], feeding, 'unbiased')}")
    if "gradcam" in record:
        parts.append(f"Grad-CAM, agreement with the largest size\n{attention_table(network, shown['gradcam'])}")
    if "pca" in record:
        parts.append(f"feature space\n{space_table(network, shown['pca'])}")
    if "resizing" in record:
        parts.append(f"top-1 accuracy\n{resizing_table(network, shown['resizing'])}")
    return "\n\n".join(parts)

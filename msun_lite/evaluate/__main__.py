"""Accuracy at every size, through every subnet and under every routing rule.

    python -m msun_lite.evaluate runs/quick-msun-seed0
    python -m msun_lite.evaluate lite-msun --data imagenette --routing ceil --json result.json
    python -m msun_lite.evaluate --arch timm/resnet50 --data IMAGENET      # published weights, as Vanilla
    python -m msun_lite.evaluate --arch efficientnet_lite0 --data FOLDER   # ImageNet weights from pip, some classes
    python -m msun_lite.evaluate lite-vanilla --feeding native             # images fed at their own size
    python -m msun_lite.evaluate lite-msun --antialias false               # images made small as the authors made them
    python -m msun_lite.evaluate lite-msun --data photos --sizes own       # each image at its own size, as in use
    python -m msun_lite.evaluate lite-mst --averages size                  # BatchNorm's averages of each size

The protocol: centre crop at the largest scale (or at the largest size, if that is above it), resize to the
size under test (this is the small image), then to the scale of the subnet that serves it, or to the largest
scale for Vanilla and MST. With `--feeding native` a plain CNN gets the small image as it is, as in the starred columns
of Table I.
"""

import sys

from msun_lite.commands import start

if __name__ == "__main__":  # here, as help and errors in options need not wait for the imports below
    sys.exit(start("evaluate"))


from pathlib import Path

from jsonargparse import Namespace

from msun_lite.evaluate.accuracy import FEEDINGS, among_words, evaluate
from msun_lite.evaluate.options import OWN
from msun_lite.evaluate.own_size import evaluate_own, own_size_table
from msun_lite.evaluate.report import Report
from msun_lite.evaluate.subjects import find_config, find_subject
from msun_lite.networks import refuse_existing
from msun_lite.results import ORACLE, ROUTINGS, accuracy_table, check_folder, subnet_table
from msun_lite.scales import check_routing
from msun_lite.utils.distributed import World, join
from msun_lite.utils.errors import UserError, one_of, within
from msun_lite.utils.files import check_output, write_json
from msun_lite.utils.progress import note, show


def run(options: Namespace, command: str) -> None:
    """Measure what the options of the command say; write the record, print it."""
    with join() as world:
        config = find_config(options, world)
        routing = options.routing or config.routing
        check_routing(routing, config.scales, ROUTINGS)
        one_of("feeding", options.feeding, FEEDINGS)
        within("averages_images", options.averages_images, least=2)
        if options.batch_size is not None:
            within("batch_size", options.batch_size, least=1)
        check_output(options.json)
        report = _report(options, world)
        if options.sizes == OWN:
            _refuse_with_own(options, world)
        subject = find_subject(options, config, world)
        if options.antialias is not None:
            subject.model.antialias = options.antialias
        averages = options.averages, options.averages_images
        if options.sizes == OWN:
            how = options.feeding, *averages, report, options.among
            measured = evaluate_own(subject.model, subject.config, routing, *how)
        else:
            how = options.feeding, options.batch_size, *averages, report, options.among
            measured = evaluate(subject.model, subject.config, routing, world, *how)
        if world.first:
            _show({"run": subject.name, **measured, "command": command}, options.json)
            if report is not None:
                note(f"report: {report.folder / 'report.md'}")


def _refuse_with_own(options: Namespace, world: World) -> None:
    """Raise a `UserError` for what cannot be had of images at their own size."""
    if options.routing == ORACLE:
        raise UserError("routing: expected a rule that goes by the size with --sizes own, got oracle")
    if options.batch_size is not None:
        raise UserError(f"batch_size: expected none with --sizes own, which batches by size, got {options.batch_size}")
    if world.size > 1:
        raise UserError(f"sizes: expected one process for own, got {world.size}")


def _report(options: Namespace, world: World) -> Report | None:
    """Return the report that the options ask for, if they do.

    Raises:
        UserError: if it is there already or cannot be made, or for what there can be no report of.
    """
    if options.report is None:
        return None
    if options.routing == ORACLE:
        raise UserError("routing: expected a rule that goes by the size with --report, got oracle")
    if world.size > 1:
        raise UserError(f"report: expected one process, got {world.size}")
    folder = Path(options.report)
    refuse_existing(folder)
    check_folder(folder)
    return Report(folder, options.arch or options.run)


def _show(record: dict, path: str | None) -> None:
    """Write a record, then print it: a terminal may be in the way, and the result is not to be lost by it."""
    if path:
        write_json(Path(path), record)
    show(_title(record))
    if record["sizes"] == OWN:
        show(own_size_table(record, Path(record["run"]).name))
        return
    show(accuracy_table({Path(record["run"]).name: record}))
    for size, why in record["refused"].items():
        note(f"{size} px cannot be fed as they are: {why}")
    if len(record["per_subnet"]) > 1:
        show(subnet_table(record))


def _title(record: dict) -> str:
    """Return what was measured, in a line."""
    data, env, averages = record["data"], record["env"], record.get("averages")
    said = [f"{data['val']:,} images of {data['classes']} classes{among_words(record)}", f"routing {record['routing']}"]
    if record["feeding"] == "native":
        said.append("fed native")
    if averages:
        of = "training crops" if averages["of"] == "size" else averages["of"]
        said.append(f"averages of each size from {averages['images']:,} images of {of}")
    return f"{record['run']} on {data['name']}: {', '.join(said)} ({env['device']}, {env['precision']})"


def main(argv: list[str] | None = None) -> int:
    """Run the command as the command line, or `argv`, says."""
    return start("evaluate", argv)

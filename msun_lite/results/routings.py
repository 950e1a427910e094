"""Which subnet serves each size under each routing rule, and what accuracy and cost follow."""

from msun_lite.results.records import Accuracy, Routed
from msun_lite.scales import SIZE_ROUTINGS, route

ORACLE = "oracle"
"""The rule that needs the labels: it exists in evaluation only."""

ROUTINGS = (*SIZE_ROUTINGS, ORACLE)
"""All routing rules that go by a name alone."""

PerSubnet = dict[int, dict[int, float]]
"""scale -> size -> top-1 accuracy in percent."""


def serving_scales(per_subnet: PerSubnet, routing: str) -> dict[int, int]:
    """Return {size: scale that serves it}; `oracle` takes the most accurate subnet at each size."""
    scales = sorted(per_subnet)
    sizes = next(iter(per_subnet.values()))
    if routing == ORACLE:
        return {size: max(scales, key=lambda scale: (per_subnet[scale][size], -scale)) for size in sizes}
    return {size: route(size, scales, routing) for size in sizes}


def read_per_subnet(record: Accuracy) -> PerSubnet:
    """Return the accuracy of each subnet at each size, as a record has them."""
    return {
        int(scale): {int(size): value for size, value in row.items()} for scale, row in record["per_subnet"].items()
    }


def all_routings(record: Accuracy) -> dict[str, Routed]:
    """Return `routings` of a summary.json with every rule there is today.

    A rule that the record was made before follows from its `per_subnet`, which is rounded to two decimals.
    """
    per_subnet = read_per_subnet(record)
    found = record["routings"].values()
    spent = {scale: one["flops"][size] for one in found for size, scale in one["scale"].items()}
    costs = {scale: dict.fromkeys(row, spent[scale]) for scale, row in per_subnet.items() if scale in spent}
    return {
        rule: record["routings"].get(rule) or routing_record(per_subnet, costs, rule)
        for rule in ROUTINGS
        if rule in record["routings"] or costs.keys() == per_subnet.keys()
    }


def routing_record(per_subnet: PerSubnet, costs: dict[int, dict[int, int]], routing: str) -> Routed:
    """Return what a record says of one routing rule: accuracy, cost and the scale that serves, at each size."""
    served = serving_scales(per_subnet, routing)
    top1 = {size: per_subnet[scale][size] for size, scale in served.items()}
    spent = {size: costs[scale][size] for size, scale in served.items()}
    return {
        "top1": by_size(top1),
        "mean_top1": round(sum(top1.values()) / len(top1), 2),
        "flops": {str(size): cost for size, cost in spent.items()},
        "mean_flops": round(sum(spent.values()) / len(spent)),
        "scale": {str(size): scale for size, scale in served.items()},
    }


def by_size(row: dict[int, float]) -> dict[str, float]:
    """Return accuracies by size as records have them: the sizes as text, two decimals."""
    return {str(size): round(accuracy, 2) for size, accuracy in row.items()}

"""Cutting a recordable CNN into f, the layers up to one, and g, all that comes after it."""

import copy

from torch import fx, nn

from msun_lite.networks.tracing import check_cuttable, shape_read, trace
from msun_lite.shapes import _maps, _nothing_computed
from msun_lite.utils.errors import UserError


def cut(cnn: nn.Module, split: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Split `cnn` after its layer `split` into f (up to that layer) and g (the rest).

    g(f(x)) equals cnn(x), in training as in evaluation; all three share their layers. What the forward may take besides
    x keeps its default.

    Raises:
        UserError: if there is no such layer, if it runs more than once, if anything leads around it from the
            images to the logits, if the forward's course cannot be recorded, or if it is another in training than in
            evaluation; or as `check_cuttable` does.
    """
    if not split or split not in dict(cnn.named_modules()):
        top = ", ".join(name for name, _ in cnn.named_children())
        raise UserError(f"split: expected the name of a layer, such as one of {top}, got {split!r}")
    check_cuttable(cnn, split)
    graph = trace(cnn, split)
    ends = [node for node in graph.nodes if node.op == "call_module" and node.target == split]
    if len(ends) != 1:
        raise UserError(f"split: expected {split} to run once in a forward, got {len(ends)} times")
    logits = next(node for node in graph.nodes if node.op == "output")
    needed = _needed(logits, stop=ends[0])
    if any(node.op == "placeholder" for node in needed):
        expected = "expected a layer that all of the network passes through"
        raise UserError(f"split: {expected}, got {split}{shape_read(needed)}")
    lower, upper = fx.Graph(), fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in _in_order(graph, _needed(ends[0]) | {ends[0]}):
        copied[node] = lower.node_copy(node, copied.__getitem__)
    lower.output(copied[ends[0]])
    copied = {ends[0]: upper.placeholder("features")}
    for node in _in_order(graph, needed | {logits}):
        copied[node] = upper.node_copy(node, copied.__getitem__)
    return fx.GraphModule(cnn, lower, "Lower"), fx.GraphModule(cnn, upper, "Upper")


def _needed(node: fx.Node, stop: fx.Node | None = None) -> set[fx.Node]:
    """Return all nodes that `node` follows from, not looking beyond `stop`."""
    found, todo = set(), list(node.all_input_nodes)
    while todo:
        node = todo.pop()
        if node is not stop and node not in found:
            found.add(node)
            todo += node.all_input_nodes
    return found


def _in_order(graph: fx.Graph, nodes: set[fx.Node]) -> list[fx.Node]:
    return [node for node in graph.nodes if node in nodes]


def keep_features(g: fx.GraphModule, f: nn.Module, scale: int) -> fx.GraphModule:
    """Return g, which from now on leaves the maps that f gives it for images of `scale` as they are.

    If it starts with a layer that works in place, it gets a copy of them to work on.
    """
    maps = _maps(f, scale).repeat(2, 1, 1, 1)  # two images, as BatchNorm may need in training
    version = maps._version
    try:
        with _nothing_computed():
            copy.deepcopy(g).to("meta").train()(maps)  # in training, for dropout may work in place too
        overwritten = maps._version != version
    except Exception:  # some networks cannot train on the device meta, where a copy is sure to be right
        overwritten = True
    if overwritten:
        features = next(iter(g.graph.nodes))
        with g.graph.inserting_after(features):
            copied = g.graph.call_method("clone", (features,))
        features.replace_all_uses_with(copied, lambda user: user is not copied)
        g.recompile()
    return g

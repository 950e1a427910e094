"""Recording what a network's forward does, in training and in evaluation, so that it can be cut in two."""

import copy
import operator
from collections.abc import Callable
from itertools import zip_longest

from torch import fx, nn
from torch.fx.node import map_arg

from msun_lite.errors import UserError, first_line


class _Tracer(fx.Tracer):
    """Records what a network's forward does to images, looking only into the modules that contain the layer `split`."""

    def __init__(self, split: str):
        super().__init__()
        self.split = split

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return not self.split.startswith(name + ".")

    def create_args_for_root(self, root_fn: Callable, is_module: bool, concrete_args: object = None) -> tuple:
        """Return the forward and what it is called with: images alone, as all else that it may take has a default."""
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]


def record(cnn: nn.Module, split: str) -> fx.Graph:
    """Return the course of a network's forward in training, which is that in evaluation where `self.training` is False.

    A recording knows what the forward read from `self.training`, for a dropout or so, as the value that it had then:
    where the two modes differ in a value, the graph asks which one it runs in.

    Args:
        split: name of a layer: only the modules that contain it are looked into.

    Raises:
        UserError: if the forward cannot be recorded, or if the modes differ in more than values.
    """
    modes = [(module, module.training) for module in cnn.modules()]
    twin = copy.deepcopy(cnn)  # so that constants, which a recording leaves in the network, get the same names in both
    try:
        twin.eval()
        cnn.train()
        evaluation, training = _Tracer(split).trace(twin), _Tracer(split).trace(cnn)
    except Exception as error:  # whatever a network's forward may do with a placeholder
        raise UserError(f"split: the forward of {type(cnn).__name__} cannot be recorded: {first_line(error)}") from None
    finally:
        for module, mode in modes:
            module.training = mode
    if not _follow_mode(training, evaluation):
        expected = "expected a forward that takes the same course in training and in evaluation"
        raise UserError(f"split: {expected}, that of {type(cnn).__name__} does not")
    return training


def _follow_mode(training: fx.Graph, evaluation: fx.Graph) -> bool:
    """Let values in the graph of training be those of evaluation in that mode; return False for other differences."""
    twins: dict[fx.Node, fx.Node] = {}
    for node, other in zip_longest(list(training.nodes), evaluation.nodes):
        if node is None or other is None or _call(node) != _call(other):
            return False
        twins[other] = node
        args, kwargs = map_arg((other.args, other.kwargs), twins.__getitem__)
        node.args = tuple(_by_mode(node, *pair) for pair in zip(node.args, args, strict=True))
        node.kwargs = {name: _by_mode(node, value, kwargs[name]) for name, value in node.kwargs.items()}
    return True


def _call(node: fx.Node) -> tuple:
    """Return what a node calls, and with how many and which arguments."""
    return node.op, node.target, len(node.args), set(node.kwargs)


def _by_mode(node: fx.Node, training: object, evaluation: object) -> object:
    """Return an argument of a node: the one value that it has, or what chooses between two when the graph runs."""
    if training == evaluation:
        return training
    with node.graph.inserting_before(node):
        return node.graph.call_function(operator.getitem, ((evaluation, training), node.graph.get_attr("training")))

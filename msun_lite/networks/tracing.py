"""Recording what a network's forward does, in training and in evaluation, so that it can be cut in two."""

import copy
import operator
from collections.abc import Callable
from itertools import zip_longest

from torch import fx, nn
from torch.fx.node import map_arg
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from msun_lite.shapes import place_of
from msun_lite.utils.errors import UserError, first_line

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where a module keeps what runs before and after it."""

COMPUTED = {
    WeightNorm: ("those of the older weight_norm", "torch.nn.utils.remove_weight_norm"),
    SpectralNorm: ("those of the older spectral_norm", "torch.nn.utils.remove_spectral_norm"),
    BasePruningMethod: ("pruned ones", "torch.nn.utils.prune.remove"),
}
"""Hooks that compute weights before each forward -> what they are called, and what makes the weights plain ones."""


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


def trace(cnn: nn.Module, split: str) -> fx.Graph:
    """Return the course of a network's forward in training, which is that in evaluation where `self.training` is False.

    A trace knows what the forward read from `self.training`, for a dropout or so, as the value that it had then:
    where the two modes differ in a value, the graph asks which one it runs in.

    Args:
        split: name of a layer: only the modules that contain it are looked into.

    Raises:
        UserError: if the forward cannot be recorded, or if the modes differ in more than values.
    """
    modes = [(module, module.training) for module in cnn.modules()]
    twin = copy.deepcopy(cnn)  # so that constants, which a trace leaves in the network, get the same names in both
    try:
        twin.eval()
        cnn.train()
        evaluation, training = _Tracer(split).trace(twin), _Tracer(split).trace(cnn)
    except Exception as error:  # whatever a network's forward may do with a placeholder
        where = place_of(error, cnn, twin)
        remedy = f"expected this in a layer of its own, as only what contains {split} is recorded, or another split"
        what = f"the forward of {type(cnn).__name__} cannot be recorded{where}: {first_line(error)}"
        raise UserError(f"split: {what}; {remedy}") from None
    finally:
        for module, mode in modes:
            module.training = mode
    if not _follow_mode(training, evaluation):
        expected = "expected a forward that takes the same course in training and in evaluation"
        raise UserError(f"split: {expected}, that of {type(cnn).__name__} does not")
    return training


def shape_read(nodes: set[fx.Node]) -> str:
    """Return what to do if the nodes that lead around a layer read the images' shape; empty if they take more of them.

    Args:
        nodes: those that the logits follow from, the layer's own course left out.
    """
    users = [node for node in nodes if any(other.op == "placeholder" for other in node.all_input_nodes)]
    if not all(_reads_shape(node) for node in users):
        return ""
    return ", after which the shape of the images is used: read it from the features there"


def _reads_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and node.args[1] in ("shape", "ndim")


def check_cuttable(cnn: nn.Module, split: str) -> None:
    """Raise a `UserError` if a network does something beside its forward that would be lost when it is cut in two.

    That is what was put on modules which do not survive: the network itself, and those that contain the layer `split`.
    Weights that hooks compute, the older way of normalising and pruning them, cannot be copied.
    """
    for name, module in cnn.named_modules():
        _check_weights(name, module)
        if name and not split.startswith(name + "."):
            continue
        where = f"on {name}, inside of which it is cut" if name else "on the network itself, which is cut"
        if any(getattr(module, kind) for kind in HOOKS):
            remedy = "remove it, or register it on a layer inside, or on the MSUN"
            raise UserError(f"model: expected no hook {where}, got one: {remedy}")
        patched = "forward" in vars(module)
        if patched or not (type(module).__call__ is nn.Module.__call__ or isinstance(module, fx.GraphModule)):
            got = f"another {'forward' if patched else '__call__'} put on it"
            expected = f"expected a {type(module).__name__} as its class describes it, not yet wrapped or compiled"
            raise UserError(f"model: {expected}, got {got}")


def _check_weights(name: str, module: nn.Module) -> None:
    """Raise a `UserError` if hooks compute a layer's weights, which can be neither copied nor fitted."""
    for hook in module._forward_pre_hooks.values():
        for kind, (what, remedy) in COMPUTED.items():
            if isinstance(hook, kind):
                raise UserError(f"model: expected plain weights in {name}, got {what}: call {remedy} first")


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

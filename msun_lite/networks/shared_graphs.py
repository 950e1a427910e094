"""ONNX graphs of all scales of a model, whose weights lie once in one file beside them, and which give maps too.

    scale-16.onnx, scale-64.onnx, scale-112.onnx      # graphs alone, some 20 kB each
    weights.bin                                       # each weight once, whichever graphs have it

BatchNorms are kept apart from the convolutions before them: folded in, as is usual, one scale's BatchNorm would make
another scale's weights of those that the scales share. Runtimes fold them when they load a graph.
"""

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import nn

WEIGHTS_FILE = "weights.bin"
"""What the weights are in, beside the graphs."""

INLINE = 64
"""Values up to which a constant stays in its graph: shapes must, and a file of its own would be larger."""

ALIGNMENT = 16
"""Bytes that the start of each tensor in the file is a multiple of."""

FROM_MAP_TO_CLASSIFIER = ("Reshape", "Flatten", "Squeeze", "Identity")
"""What may stand between the mean of a map and the classifier: it moves no number."""


class SharedWeights:
    """A file of tensors in which what is written twice is stored once.

    Args:
        file: open for writing, empty.
        half: store all weights in half precision; else those alone that lose nothing by it.
    """

    def __init__(self, file: BinaryIO, half: bool):
        self._file, self._half = file, half
        self._places: dict[bytes, tuple[int, int]] = {}

    def store(self, values: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Write a tensor unless it is there; return it as it is stored, its offset and its length in bytes."""
        kept = self._as_kept(values)
        data = np.ascontiguousarray(kept).tobytes()
        digest = hashlib.sha256(str(kept.dtype).encode() + data).digest()
        if digest not in self._places:
            self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
            self._places[digest] = self._file.tell(), len(data)
            self._file.write(data)
        return kept, *self._places[digest]

    def _as_kept(self, values: np.ndarray) -> np.ndarray:
        if not is_weight(values):
            return values
        with np.errstate(over="ignore"):  # what is too large for it differs, and is kept or refused for that
            halved = values.astype(np.float16)
        return halved if self._half or np.array_equal(halved.astype(np.float32), values) else values


def is_weight(values: np.ndarray | torch.Tensor) -> bool:
    """Return whether a tensor is a weight, as those of layers are: BatchNorms and biases, of one axis, are small."""
    return values.ndim > 1 and values.dtype in (np.float32, torch.float32)


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Give a model in single precision the weights that half precision has for its own."""
    for tensor in model.parameters():
        if is_weight(tensor):
            tensor.copy_(tensor.half().float())


def finish(program: torch.onnx.ONNXProgram, path: Path, weights: SharedWeights) -> None:
    """Write an unoptimised graph to `path`, its maps added and its weights put into the shared file.

    The maps [B, classes, h, w] are a second output where the logits are a linear classifier of the means of a last
    map: the class-activation maps, without the bias, whose means over h and w are the logits without it.
    """
    import onnx_ir as ir  # here, as it comes with the extra `onnx`
    from onnxscript import optimizer

    optimizer.fold_constants(program.model, output_size_limit=1 << 16)
    optimizer.remove_unused_nodes(program.model)
    _add_maps(ir, program.model.graph)
    _share(ir, program.model.graph, path.with_name(WEIGHTS_FILE), weights)
    for part in (program.model, program.model.graph, *program.model.graph, *program.model.graph.initializers.values()):
        part.metadata_props.clear()  # where in Python each node is from: five sixths of the file
    ir.save(program.model, path)


def _add_maps(ir, graph) -> None:
    """Make class-activation maps an output of a graph, if it has them."""
    last = graph.outputs[0].producer()
    if last.op_type != "Gemm" or not last.attributes.get_int("transB", 0):
        return
    pooled = last.inputs[0].producer()
    while pooled is not None and pooled.op_type in FROM_MAP_TO_CLASSIFIER:
        pooled = pooled.inputs[0].producer()
    if pooled is None or not _is_mean_of_map(pooled):
        return
    features, classifier = pooled.inputs[0], last.inputs[1]
    shape = ir.Value(name="kernel_shape", const_value=ir.tensor([*classifier.shape, 1, 1], ir.DataType.INT64))
    graph.register_initializer(shape)
    kernel = ir.node("Reshape", [classifier, shape])
    maps = ir.node("Conv", [features, kernel.outputs[0]])
    kernel.outputs[0].name, maps.outputs[0].name = "classifier_kernel", "maps"
    maps.outputs[0].type = graph.outputs[0].type
    maps.outputs[0].shape = ir.Shape([graph.outputs[0].shape[0], classifier.shape[0], None, None])
    graph.extend([kernel, maps])
    graph.outputs.append(maps.outputs[0])


def _is_mean_of_map(node) -> bool:
    """Return whether a node gives the mean of each channel of a map [B, C, h, w]."""
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type != "ReduceMean" or node.inputs[0].shape is None or len(node.inputs[0].shape) != 4:
        return False
    axes = node.inputs[1].const_value
    return axes is not None and sorted(int(axis) % 4 for axis in axes.numpy()) == [2, 3]


def _share(ir, graph, place: Path, weights: SharedWeights) -> None:
    """Put the large constants of a graph into the shared file; what is in half precision there is widened in it."""
    for value in list(graph.initializers.values()):
        values = value.const_value.numpy()
        if values.size <= INLINE:
            continue
        kept, offset, length = weights.store(values)
        dtype = ir.DataType.from_numpy(kept.dtype)
        stored = ir.ExternalTensor(
            place.name, offset, length, dtype, shape=ir.Shape(kept.shape), name=value.name, base_dir=place.parent
        )
        if kept.dtype == values.dtype:
            value.const_value = stored
        else:
            _widen(ir, graph, value, stored)


def _widen(ir, graph, value, stored) -> None:
    """Replace a constant by one in half precision and its conversion."""
    name = value.name
    del graph.initializers[name]
    stored.name = f"{name}_half"
    half = ir.Value(name=stored.name, const_value=stored, shape=stored.shape, type=ir.TensorType(stored.dtype))
    graph.register_initializer(half)
    cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT.value})
    ir.convenience.replace_all_uses_with(value, cast.outputs[0])
    cast.outputs[0].name = name
    graph.insert_before(graph[0], cast)

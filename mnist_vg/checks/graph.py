"""Reading the graph of a traced function: where a tensor comes from, and where it goes."""

import tensorflow as tf
from tensorflow.python.framework.ops import get_gradient_function

_SHAPES_ONLY = {
    *("Cast", "ConcatV2", "ExpandDims", "Identity", "Pack", "Reshape", "Squeeze", "Transpose"),
}
"""Operations that give the values that they get, in another place or shape."""

_OF_SHAPES = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike", "NoOp", "Assert"}
"""Operations that ask for no value, so that their lack of a gradient cuts nothing off."""

_GRADIENT_OF_NONE = {"Ceil", "Floor", "Rint", "Round", "StopGradient"}
"""Operations with a gradient function that gives None."""


def last_operation(tensor: tf.Tensor) -> str:
    """The type of the operation that computes a tensor's values, behind changes of its shape."""
    if not tf.is_symbolic_tensor(tensor):
        return ""
    operation = tensor.op
    while operation.type in _SHAPES_ONLY and operation.inputs:
        operation = operation.inputs[0].op
    return operation.type


class Dependence:
    """Tells which tensors depend on any of some variables."""

    def __init__(self, variables):
        self._handles = {id(variable.value.handle) for variable in variables}
        self._known: dict[tuple[int, str], bool] = {}

    def of(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor depends on one of the variables."""
        if not tf.is_symbolic_tensor(tensor):
            return False
        graph = tensor.graph
        captured = {
            inner.op.name: id(outer) in self._handles
            for outer, inner in getattr(graph, "captures", ())
        }
        # Depth first, and an operation is known once all of its inputs are.
        waiting = [tensor.op]
        while waiting:
            operation = waiting[-1]
            key = id(graph), operation.name
            inputs = [value.op for value in operation.inputs]
            unknown = [op for op in inputs if (id(graph), op.name) not in self._known]
            if unknown and key not in self._known:
                waiting.extend(unknown)
                continue
            waiting.pop()
            self._known[key] = captured.get(operation.name, False) or any(
                self._known[id(graph), op.name] for op in inputs
            )
        return self._known[id(graph), tensor.op.name]


def cutting_operation(tensor: tf.Tensor) -> str:
    """The type of the operation after a tensor through which no gradient passes.

    Of several, the last one that was made: those before it are asides, such as the question
    whether a value is 0. Empty if there is none, so that nothing uses the tensor, or it leaves
    the graph.
    """
    if not tf.is_symbolic_tensor(tensor):
        return ""
    waiting, seen, found = [tensor], set(), []
    while waiting:
        for operation in waiting.pop().consumers():
            if operation.name in seen or operation.type in _OF_SHAPES:
                continue
            seen.add(operation.name)
            if _stops_gradients(operation):
                found.append(operation)
            else:
                waiting.extend(operation.outputs)
    order = {operation.name: place for place, operation in enumerate(tensor.graph.get_operations())}
    return max(found, key=lambda operation: order[operation.name]).type if found else ""


def _stops_gradients(operation):
    if operation.type in _GRADIENT_OF_NONE:
        return True
    if not any(o.dtype.is_floating or o.dtype.is_complex for o in operation.outputs):
        return True
    try:
        return get_gradient_function(operation) is None
    except LookupError:
        return True

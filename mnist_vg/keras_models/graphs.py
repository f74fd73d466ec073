"""What keeps a training step that is measured equal to one that is not, to the last bit."""

import tensorflow as tf
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.python.framework import op_def_registry


def draws_numbers() -> bool:
    """Whether the functions that are being traced draw random numbers from a state of their own.

    Those are operations with two seeds, such as `RandomStandardNormal` of
    `tf.random.normal`. Each traced function keeps its own place in their sequences.
    Keras' layers draw from variables instead, which all functions share.
    """
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        if _draws_in(graph):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def _draws_in(graph):
    return any({"seed", "seed2"} <= {a.name for a in kind.attr} for kind in kinds_of(graph))


def kinds_of(graph: tf.Graph) -> list[OpDef]:
    """The kinds of operations in a graph and in the functions that it calls."""
    kinds = {operation.type: operation.op_def for operation in graph.get_operations()}
    for function in graph._functions.values():
        definition = getattr(function, "cached_definition", None) or function.definition
        for node in definition.node_def:
            kinds.setdefault(node.op, op_def_registry.get(node.op))
    return [kind for kind in kinds.values() if kind is not None]


def multiplied_apart(gradients):
    """The gradients, with those that are products multiplied once more, out of Grappler's sight.

    Grappler, TensorFlow's graph optimizer, joins a chain of products of which nothing reads
    the parts, such as gradient and learning rate, and multiplies in another order
    (`MinimizeBroadcasts` in its `arithmetic_optimizer.cc`). A measure that reads such a
    gradient would change the order, and so the last bits of the update.
    """
    return [_apart(gradient) for gradient in gradients]


def _apart(tensor):
    if isinstance(tensor, tf.IndexedSlices):
        return tf.IndexedSlices(_apart(tensor.values), tensor.indices, tensor.dense_shape)
    product = tf.is_symbolic_tensor(tensor) and tensor.op.type == "Mul"
    return _multiply(*map(_apart, tensor.op.inputs)) if product else tensor


@tf.function(autograph=False, reduce_retracing=True, experimental_attributes={"_noinline": True})
def _multiply(left, right):
    return left * right

"""What keeps a training step that is measured equal to one that is not, to the last bit."""

import tensorflow as tf


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
    kinds = {operation.type: operation.op_def for operation in graph.get_operations()}
    arguments = [{argument.name for argument in kind.attr} for kind in kinds.values()]
    functions = graph._functions.values()
    return any({"seed", "seed2"} <= names for names in arguments) or any(
        _draws_in(function.graph) for function in functions
    )


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

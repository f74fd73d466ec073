"""What Keras makes in a model's first training step, made before it."""

import keras
import tensorflow as tf

from mnist_vg.keras_models.optimizers import appliers, has_own_train_step, unscaled


def build_before_first_step(model: keras.Model, iterator) -> None:
    """Make the variables that Keras would make while it traces a model's first training step.

    TensorFlow traces a function twice if it makes variables, and Keras' step makes those of the
    optimizer and of the metrics. Where it is not certain what Keras would make, that is left to
    Keras.

    Args:
        model: compiled.
        iterator: what `fit` passes to the model's training function.
    """
    if has_own_train_step(model) or not all(layer.built for layer in model._flatten_layers()):
        return
    _build_losses_and_metrics(model, iterator)
    optimizer = model.optimizer
    if not optimizer.built and _builds_alike(optimizer):
        with keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(model.trainable_variables)


def _builds_alike(optimizer):
    """Whether an optimizer's variables begin with the same values as those of a traced step."""
    inner = unscaled(optimizer)
    if appliers(optimizer) != [inner]:  # A MultiOptimizer
        return False
    # It sets its momentum to the weights, which is never run if it is traced.
    unlike = isinstance(inner, getattr(keras.optimizers, "ScheduleFreeAdamW", ()))
    # A class of the user's own may compute something, too.
    return not unlike and _is_keras(inner.build) and _is_keras(inner.apply)


def _build_losses_and_metrics(model, iterator):
    outputs, specs = _outputs_of(model), getattr(iterator, "element_spec", None)
    if outputs is None or specs is None:
        return
    if not (_is_keras(model.compute_loss) and _is_keras(model.compute_metrics)):
        return
    _, y, _ = keras.utils.unpack_x_y_sample_weight(specs)
    outputs = keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), outputs)
    if not _matched(y, outputs):
        return
    loss, metrics = model._compile_loss, model._compile_metrics
    if loss is not None and not loss.built:
        with keras.name_scope(loss.name):
            loss.build(y, outputs)
    if metrics is not None and not metrics.built:
        metrics.build(y, outputs)


def _matched(y, outputs):
    """Whether labels and outputs are alike in structure, and only their batches may vary.

    Otherwise Keras matches them itself, or finds out a size while it traces.
    """
    try:
        keras.tree.assert_same_structure(y, outputs)
    except (TypeError, ValueError):
        return False
    specs = keras.tree.flatten([y, outputs])
    return all(isinstance(spec, tf.TensorSpec) and _is_known(spec.shape) for spec in specs)


def _is_known(shape):
    return shape.rank is not None and shape[1:].is_fully_defined()


def _outputs_of(model):
    """What a model answers, in its own structure; None if only a call would tell."""
    if not _is_keras(model.call):
        return None
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def _is_keras(method):
    return method.__module__.split(".")[0] == "keras"

"""`GradientLogger` in trainings that are not one plain `fit`."""

import keras
import numpy as np
import pytest

from mnist_vg import GradientLogger, Run, UsageError

INPUTS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
TARGETS = INPUTS[:, :1]
CLASSES = (INPUTS[:, 0] > 0).astype(int)


def network(units=1, loss="mse", **first):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(5, "tanh", name="base", **first),
        keras.layers.Dense(units, name="head"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", loss, jit_compile=False)
    return model


class Thaw(keras.callbacks.Callback):
    """Makes the first layer trainable in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.get_layer("base").trainable = True
            self.model.compile("adam", "mse", jit_compile=False)
            self.model.make_train_function(force=True)


@pytest.mark.parametrize("every", [1, 2, "epoch"])
@pytest.mark.parametrize("thaw_first", [True, False])
def test_a_layer_that_is_thawed_during_a_fit_trains_and_is_recorded(tmp_path, every, thaw_first):
    def weights(*callbacks):
        model = network(trainable=False)
        options = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
        model.fit(INPUTS, TARGETS, callbacks=list(callbacks), **options)
        return model.get_weights()

    logger = GradientLogger(tmp_path / "run", every=every)
    logged = weights(*([Thaw(), logger] if thaw_first else [logger, Thaw()]))
    for plain, with_logger in zip(weights(Thaw()), logged, strict=True):
        np.testing.assert_array_equal(with_logger, plain)
    history = Run.load(tmp_path / "run").history
    # The new optimizer counts its five steps an epoch from 0.
    steps = {1: [*range(15)], 2: [0, 2, 4, 5, 7, 9, 11, 13], "epoch": [0, 5, 10]}[every]
    assert history["step"].tolist() == steps
    columns = dict(zip(history["layers"], history["gradient_mean_abs"].T, strict=True))
    assert np.isfinite(columns["head"]).all()
    assert np.isfinite(columns["base"]).tolist() == [step >= 5 for step in steps]
    assert (columns["base"][-2:] > 0).all()


def test_of_a_loss_that_is_not_reduced_the_mean_is_recorded(tmp_path):
    options = {"from_logits": True, "reduction": None}
    model = network(3, keras.losses.SparseCategoricalCrossentropy(**options))
    before = keras.ops.convert_to_numpy(model.compute_loss(y=CLASSES, y_pred=model(INPUTS)))
    logger = GradientLogger(tmp_path / "run", every=1)
    model.fit(INPUTS, CLASSES, batch_size=40, verbose=0, callbacks=[logger])
    [loss] = Run.load(tmp_path / "run").history["loss/train"]
    assert loss == pytest.approx(before.mean(), rel=1e-6)


def test_a_loop_of_train_on_batch_with_a_callback_list_is_recorded(tmp_path):
    def train(*callbacks):
        model = network()
        listed = keras.callbacks.CallbackList(list(callbacks), model=model)
        listed.on_train_begin()
        listed.on_epoch_begin(0)
        for batch in range(5):
            listed.on_train_batch_begin(batch)
            rows = slice(8 * batch, 8 * batch + 8)
            model.train_on_batch(INPUTS[rows], TARGETS[rows])
            listed.on_train_batch_end(batch)
        listed.on_epoch_end(0)
        listed.on_train_end()
        return model.get_weights()

    logged = train(GradientLogger(tmp_path / "run", every=2))
    for plain, with_logger in zip(train(), logged, strict=True):
        np.testing.assert_array_equal(with_logger, plain)
    run = Run.load(tmp_path / "run")
    assert (run.status, run.history["step"].tolist()) == ("finished", [0, 2, 4])
    assert (run.history["gradient_mean_abs"] > 0).all()


def test_a_model_of_keras_2_is_refused_in_a_line(tmp_path):
    class Sequential:
        """As `tf_keras` has it: not a model of Keras 3."""

    with pytest.raises(UsageError, match=r"^model: .*Sequential is not a Keras 3 model; .*$"):
        GradientLogger(tmp_path / "run").set_model(Sequential())
    assert not (tmp_path / "run").exists()

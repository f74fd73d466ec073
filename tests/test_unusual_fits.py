"""`GradientLogger` in trainings that are not one plain `fit`."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_vg import GradientLogger, Run, UsageError
from mnist_vg.errors import RunFailed
from mnist_vg.recording.keras_hooks import KerasHooks

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
def test_a_layer_that_is_thawed_during_a_fit_trains_and_is_recorded(
    tmp_path, capsys, every, thaw_first
):
    def weights(*callbacks):
        model = network(trainable=False)
        options = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
        model.fit(INPUTS, TARGETS, callbacks=list(callbacks), **options)
        return model.get_weights()

    logger = GradientLogger(tmp_path / "run", every=every)
    logged = weights(*([Thaw(), logger] if thaw_first else [logger, Thaw()]))
    for plain, with_logger in zip(weights(Thaw()), logged, strict=True):
        np.testing.assert_array_equal(with_logger, plain)
    run = Run.load(tmp_path / "run")
    history = run.history
    # The new optimizer counts its five steps an epoch from 0.
    steps = {1: [*range(15)], 2: [0, 2, 4, 5, 7, 9, 11, 13], "epoch": [0, 5, 10]}[every]
    assert history["step"].tolist() == steps
    assert list(history["layers"]) == ["base", "head"]
    # Records in which all layers get a gradient do not tell.
    states = [np.nan if step >= 5 else 2 for step in steps]
    np.testing.assert_array_equal(history["layer_state"][:, 0], states)
    assert [line for line in capsys.readouterr().out.splitlines() if "frozen" in line] == [
        "run: frozen: base"
    ]
    assert run.layer_marks == {}
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


def fitted(model, *callbacks, inputs=INPUTS, targets=TARGETS, **options):
    """Fit a model; return its weights."""
    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0} | options
    model.fit(inputs, targets, callbacks=list(callbacks), **options)
    return model.get_weights()


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


class Noise(keras.layers.Layer):
    """Adds numbers that `tf.random` draws, perhaps inside a branch."""

    def __init__(self, branch):
        super().__init__()
        self._branch = branch

    def call(self, inputs):
        def noisy():
            return inputs + tf.random.normal(tf.shape(inputs))

        return tf.cond(tf.size(inputs) > 0, noisy, lambda: inputs) if self._branch else noisy()


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("every", [3, "epoch"])
def test_a_model_that_draws_with_tf_random_draws_the_same_numbers(tmp_path, capsys, branch, every):
    def model():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(3, "tanh"), Noise(branch), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse", jit_compile=False)
        return model

    logged, plain = model(), model()
    logger = GradientLogger(tmp_path / "run", every=every)
    for _ in range(2):  # The second fit begins at step 10, which is not recorded with every=3.
        assert_equal(fitted(logged, logger), fitted(plain))
    steps = {3: [0, 3, 6, 9, 12, 15, 18], "epoch": [0, 5, 10, 15]}[every]
    assert Run.load(tmp_path / "run").history["step"].tolist() == steps
    assert "tf.random" not in capsys.readouterr().out
    # Another logger has another function, which draws from the start of the sequence.
    fitted(logged, GradientLogger(tmp_path / "run", every=every))
    assert "draws with tf.random, and may draw other numbers" in capsys.readouterr().out


def test_products_are_multiplied_in_the_same_order(tmp_path):
    # Gamma's gradient is a product, and so is the step along it.
    def model():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        optimizer = keras.optimizers.SGD(0.03, momentum=0.9, nesterov=True)
        model.compile(optimizer, "mse", jit_compile=False)
        return model

    logged = fitted(model(), GradientLogger(tmp_path / "run", every=1), epochs=6)
    assert_equal(logged, fitted(model(), epochs=6))


def test_each_part_of_a_multi_optimizer_is_recorded(tmp_path):
    def model():
        model = network()
        by_layer = {".*/base/.*": keras.optimizers.SGD(0.1, clipnorm=0.01)}
        adam = keras.optimizers.Adam(0.01)
        optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(adam, by_layer))
        model.compile(optimizer, "mse", jit_compile=False)
        return model

    logger = GradientLogger(tmp_path / "run", every=4, measures="full")
    assert_equal(fitted(model(), logger), fitted(model()))
    history = Run.load(tmp_path / "run").history
    assert history["step"].tolist() == [0, 4, 8]
    assert history["layers"].tolist() == ["base", "head"]
    twin = network()
    with tf.GradientTape() as tape:
        loss = keras.ops.mean((twin(INPUTS[:8]) - TARGETS[:8]) ** 2)
    kernels = [layer.kernel for layer in twin.layers]
    gradients = tape.gradient(loss, kernels)
    expected = [np.abs(gradient).mean() for gradient in gradients]
    np.testing.assert_allclose(history["gradient_mean_abs"][0], expected, rtol=1e-5)
    assert history["loss/train"][0] == pytest.approx(float(loss), rel=1e-5)
    assert history["gradient_clipped_norm"][0][0] <= 0.01 < history["gradient_norm"][0][0]
    assert np.isnan(history["gradient_clipped_norm"][0][1])
    norm = np.linalg.norm(kernels[1].numpy())
    # Adam's first step moves each weight by the learning rate.
    assert history["update_ratio"][0][1] == pytest.approx(0.01 * np.sqrt(5) / norm, rel=1e-3)


class Adversarial(keras.Model):
    """A generator and a critic, each with an optimizer; the critic is updated twice a step."""

    def __init__(self):
        super().__init__()
        self.critic = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)], name="critic")
        generator = [keras.Input((2,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(4)]
        self.generator = keras.Sequential(generator, name="generator")
        self.optimizers = {"critic": keras.optimizers.SGD(), "generator": keras.optimizers.Adam()}

    def update(self, name, inputs, real):
        variables = getattr(self, name).trainable_variables
        with tf.GradientTape() as tape:
            made = self.critic(self.generator(tf.random.normal([tf.shape(inputs)[0], 2])))
            loss = tf.reduce_mean(made) * (1.0 if name == "critic" else -1.0)
            loss -= tf.reduce_mean(self.critic(inputs)) if real else 0.0
        gradients = tape.gradient(loss, variables)
        self.optimizers[name].apply_gradients(zip(gradients, variables, strict=True))
        return loss

    def train_step(self, data):
        for _ in range(2):
            critic = self.update("critic", data[0], real=True)
        return {"critic_loss": critic, "generator_loss": self.update("generator", data[0], False)}


@pytest.mark.parametrize("every", [4, "epoch"])
def test_two_optimizers_share_one_record(tmp_path, every):
    def model():
        keras.utils.set_random_seed(0)
        model = Adversarial()
        model.compile(jit_compile=False)
        return model

    logger = GradientLogger(tmp_path / "run", every=every, measures="full")
    assert_equal(fitted(model(), logger), fitted(model()))
    history = Run.load(tmp_path / "run").history
    recorded = np.isfinite(history["gradient_mean_abs"])
    steps = {4: [0, 4, 8], "epoch": [0, 5]}[every]
    assert history["step"][recorded.all(axis=1)].tolist() == steps
    assert (recorded.any(axis=1) == recorded.all(axis=1)).all()
    layers = ["critic/dense", "generator/dense", "generator/dense_1"]
    assert sorted(history["layers"]) == layers
    assert history["activation_layers"].tolist() == ["generator/dense"]
    assert "gradient_flow/log10_first_to_last" not in history
    assert np.isfinite(history["critic_loss"]).all()
    assert np.isfinite(history["generator_loss"]).all()
    # The critic's loss is linear, so its step is the learning rate times its gradient.
    at, critic = history["step"].tolist().index(steps[-1]), list(history["layers"]).index(layers[0])
    moved = history["update_ratio"][at][critic] * history["weight_norm"][at][critic]
    assert moved == pytest.approx(0.01 * history["gradient_norm"][at][critic], rel=1e-3)


class OwnApply(keras.optimizers.Optimizer):
    """Gradient descent that does all of `apply` itself, and counts nothing."""

    def apply(self, gradients, trainable_variables=None):
        for gradient, variable in zip(gradients, trainable_variables, strict=True):
            variable.assign_sub(0.1 * gradient)


class Centred(keras.optimizers.SGD):
    """Gradient descent that changes the gradients before Keras applies them."""

    def apply(self, gradients, trainable_variables=None):
        centred = [gradient - tf.reduce_mean(gradient) for gradient in gradients]
        super().apply(centred, trainable_variables)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("kind", [OwnApply, Centred])
def test_an_optimizer_with_an_apply_of_its_own_is_recorded(tmp_path, kind, eager):
    def model():
        model = network()
        model.compile(kind(0.1), "mse", jit_compile=False, run_eagerly=eager)
        return model

    logger = GradientLogger(tmp_path / "run", every=1, measures="full")
    before = model().get_weights()[0]
    assert_equal(fitted(logged := model(), logger, epochs=1), fitted(model(), epochs=1))
    fitted(logged, logger, epochs=1)  # It goes on, also where the optimizer counts nothing.
    history = Run.load(tmp_path / "run").history
    assert history["step"].tolist() == [*range(10)]
    # Both move by 0.1 times the gradient that they apply.
    moved = history["update_ratio"] * history["weight_norm"]
    np.testing.assert_allclose(moved, 0.1 * history["gradient_norm"], rtol=1e-4)
    assert history["weight_norm"][0][0] == pytest.approx(np.linalg.norm(before), rel=1e-6)


def test_a_second_run_of_a_script_gets_a_folder_of_its_own(tmp_path, capsys):
    for _ in range(3):
        fitted(network(), GradientLogger(tmp_path / "run", every=5))
    folders = [tmp_path / name for name in ("run", "run-2", "run-3")]
    assert [Run.load(folder).status for folder in folders] == ["finished"] * 3
    assert [Run.load(folder).name for folder in folders] == ["run", "run-2", "run-3"]
    lines = [line for line in capsys.readouterr().out.splitlines() if "holds a run" in line]
    assert [f"goes to {folder} " in line for folder, line in zip(folders[1:], lines, strict=True)]
    fitted(network(), GradientLogger(tmp_path / "run", overwrite=True))
    assert not (tmp_path / "run-4").exists()


@pytest.mark.parametrize(
    ("epochs", "batch", "every"), [(2, 8, 1), (8, 1, 2), (40, 2, 5), ("unknown", 8, 200)]
)
def test_steps_between_records_follow_from_the_length_of_the_training(
    tmp_path, capsys, epochs, batch, every
):
    logger = GradientLogger(tmp_path / "run")
    if epochs == "unknown":
        data = tf.data.Dataset.from_tensor_slices((INPUTS, TARGETS)).batch(batch)
        network().fit(data.filter(lambda *_: True), verbose=0, callbacks=[logger])
    else:
        fitted(network(), logger, epochs=epochs, batch_size=batch)
    run = Run.load(tmp_path / "run")
    assert run.settings["every"] == every
    assert len(run.history["step"]) == {1: 10, 2: 160, 5: 160, 200: 1}[every]
    assert np.diff(run.history["step"]).tolist() == [every] * (len(run.history["step"]) - 1)
    first = capsys.readouterr().out.splitlines()[0]
    when = "at every step" if every == 1 else f"every {every} steps"
    assert first.startswith(f"run: gradients and weights of 2 layers are recorded {when} in ")


def test_metrics_stand_beside_the_gradients(tmp_path):
    model = network()
    model.compile("sgd", "mse", metrics=["mae"], jit_compile=False)
    logger = GradientLogger(tmp_path / "run", every=3)
    fit = model.fit(
        INPUTS,
        TARGETS,
        batch_size=8,
        epochs=2,
        verbose=0,
        shuffle=False,
        validation_data=(INPUTS[:16], TARGETS[:16]),
        callbacks=[logger],
    ).history
    run = Run.load(tmp_path / "run")
    history = run.history
    assert history["step"].tolist() == [0, 3, 4, 6, 9]
    # An epoch's metrics stand at its last step.
    for name in ("mae", "val_mae", "val_loss"):
        assert history[name][[2, 4]].tolist() == pytest.approx(fit[name])
    assert np.isfinite(history["mae"]).all()
    assert run.results["val_mae"] == pytest.approx(fit["val_mae"][-1])
    # The averages are those of the steps' losses, which a record of every step holds.
    fitted(network_of(model), GradientLogger(tmp_path / "all", every=1))
    losses = Run.load(tmp_path / "all").history["loss/train"]
    means = [losses[:1].mean(), losses[1:4].mean(), losses[4:7].mean(), losses[7:].mean()]
    recorded = history["loss/train_mean"]
    assert recorded[np.isfinite(recorded)].tolist() == pytest.approx(means, rel=1e-4)


def network_of(model):
    """The same network, not trained yet, with the same optimizer and loss."""
    twin = network()
    twin.compile(type(model.optimizer)(), "mse", jit_compile=False)
    return twin


class Remove(keras.callbacks.Callback):
    """Removes what a logger writes, after some steps."""

    def __init__(self, remove, folder):
        super().__init__()
        self._remove, self._folder = remove, folder

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2 and self._folder.exists():
            self._remove(self._folder)


def remove_events(folder):
    for path in folder.glob("events.*"):
        path.unlink()


@pytest.mark.parametrize("remove", [shutil.rmtree, remove_events])
def test_fit_outlives_its_log(tmp_path, capsys, remove):
    folder = tmp_path / "run"
    logger = GradientLogger(folder, every=1)
    assert_equal(fitted(network(), Remove(remove, folder), logger), fitted(network()))
    [line] = [line for line in capsys.readouterr().out.splitlines() if "fit goes on" in line]
    assert line.startswith("run: its log cannot be written: ")
    if remove is remove_events:
        assert Run.load(folder).status == "broken"
    strict = GradientLogger(folder, every=1, overwrite=True, strict=True)
    with pytest.raises(RunFailed, match=r"^run: its log cannot be written: .*$"):
        fitted(network(), Remove(remove, folder), strict)
    # The next fit has a log again.
    fitted(network(), logger)
    assert Run.load(logger.folder).status == "finished"


class Fail(keras.callbacks.Callback):
    """Ends a fit, behind the logger, before its third step."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


def test_a_callback_that_fails_behind_the_logger_leaves_no_logging_behind(tmp_path, monkeypatch):
    model = network()
    with pytest.raises(KeyboardInterrupt):
        fitted(model, GradientLogger(tmp_path / "run", every=1), Fail())
    left = model.train_function  # It gives its place back at the next call,
    monkeypatch.setattr(KerasHooks, "hooks", None)  # without a use of the hooks.
    weights = fitted(model)
    twin = network()
    with pytest.raises(KeyboardInterrupt):
        fitted(twin, Fail())
    assert_equal(weights, fitted(twin))
    assert model.train_function is left.replaces
    assert Run.load(tmp_path / "run").history["step"].tolist() == [0, 1]


class Pair(keras.Model):
    """Two networks with an optimizer each, both updated `updates` times a step."""

    def __init__(self, updates=1, **options):
        super().__init__()
        self.updates = updates
        self.one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)], name="one")
        self.two = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)], name="two")
        self.optimizers = [keras.optimizers.SGD(**options) for _ in range(2)]

    def train_step(self, data):
        for network, optimizer in [*zip((self.one, self.two), self.optimizers, strict=True)] * (
            self.updates
        ):
            variables = network.trainable_variables
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self.one(self.two(data[0])) ** 2)
            optimizer.apply(tape.gradient(loss, variables), variables)
        return {"gradients": loss, "step": loss}


def recorded_steps(folder):
    """The steps of a run's records, without rows that hold only metrics."""
    history = Run.load(folder).history
    return history["step"][np.isfinite(history["gradient_mean_abs"]).any(axis=1)].tolist()


def pair(steps_per_execution=1, **options):
    keras.utils.set_random_seed(0)
    model = Pair(**options)
    model.compile(jit_compile=False, steps_per_execution=steps_per_execution)
    return model


@pytest.mark.parametrize(
    ("options", "every", "steps"),
    [
        ({"updates": 2}, 3, [0, 3, 6, 9]),
        # Seven batches an epoch, so that an execution of five is one of two at its end.
        ({"steps_per_execution": 5}, 4, [0, 4, 8, 12]),
        # Updates come at every second step.
        ({"gradient_accumulation_steps": 2}, 4, [1, 5, 9, 13]),
        ({"gradient_accumulation_steps": 2}, "epoch", [1, 7]),
    ],
)
def test_steps_of_two_optimizers_are_those_of_train_step(tmp_path, options, every, steps):
    model = pair(**options)
    batches = 5 if every == 3 else 7
    inputs = INPUTS[: 4 * batches]
    fitted(
        model,
        GradientLogger(tmp_path / "run", every=every),
        inputs=inputs,
        targets=inputs[:, :1],
        batch_size=4,
    )
    assert recorded_steps(tmp_path / "run") == steps
    history = Run.load(tmp_path / "run").history
    assert {"metrics/step", "metrics/gradients"} <= set(history)
    assert "gradient_flow/log10_first_to_last" not in history
    assert history["gradients"].shape[2:] == (30, 3)


@pytest.mark.parametrize("layers", ["two", "one/"])
def test_layers_of_one_of_two_optimizers_are_recorded(tmp_path, layers):
    fitted(pair(), GradientLogger(tmp_path / "run", every=5, layers=layers))
    assert Run.load(tmp_path / "run").history["layers"].tolist() == [f"{layers.strip('/')}/dense"]
    with pytest.raises(UsageError, match="matches no layer"):
        fitted(pair(), GradientLogger(tmp_path / "run", layers="three"))


def test_each_model_goes_on_in_its_own_run(tmp_path):
    first, second = network(), network()
    for model in (first, second, first, second):
        fitted(model, GradientLogger(tmp_path / "run", every=5))
    steps = [Run.load(tmp_path / name).history["step"].tolist() for name in ("run", "run-2")]
    assert steps == [[0, 5, 10, 15]] * 2
    # A model that was loaded goes on in the newest run.
    second.save(tmp_path / "second.keras")
    loaded = keras.models.load_model(tmp_path / "second.keras")
    fitted(loaded, GradientLogger(tmp_path / "run", every=5))
    assert len(Run.load(tmp_path / "run-2").history["step"]) == 6


class Teaching(keras.Model):
    """A model with a compiled, frozen one inside, and a `train_step` that is a `tf.function`."""

    def __init__(self, teacher):
        super().__init__()
        self.teacher, self.student = teacher, keras.layers.Dense(1)

    def call(self, inputs):
        return self.student(inputs)

    @tf.function
    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(data[0]) - self.teacher(data[0])) ** 2)
        variables = self.student.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), trainable_variables=variables)
        return {"loss": loss}


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, OwnApply])
def test_a_model_inside_and_a_train_step_that_is_compiled_by_itself(tmp_path, optimizer):
    def model():
        fitted(teacher := network())
        teacher.trainable = False
        model = Teaching(teacher)
        model.compile(optimizer(0.1), jit_compile=False)
        return model

    logged, plain = model(), model()
    for name in ("first", "second"):
        logger = GradientLogger(tmp_path / name, every=4)
        assert_equal(fitted(logged, logger), fitted(plain))
    first = recorded_steps(tmp_path / "first")
    assert first == [0, 4, 8]
    fitted(logged)
    assert recorded_steps(tmp_path / "first") == first

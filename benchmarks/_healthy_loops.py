"""Healthy trainings whose losses are no yardstick, or which are loops of their own.

GANs, reinforcement learning, and a `Recorder` in a loop.
"""

import keras
import numpy as np
import tensorflow as tf
from _healthy_data import (
    compiled,
    digits,
    healthy,
    stack,
    table,
    tells_apart,
    train,
)
from _runs_log import Log, reached
from keras import layers as L
from keras import optimizers as O

CROSS_ENTROPY = keras.losses.BinaryCrossentropy(from_logits=True)


def network(inputs, outputs, width=32, activation="leaky_relu"):
    """Two hidden layers."""
    layers = (L.Dense(width, activation) for _ in range(2))
    return stack((inputs,), *layers, L.Dense(outputs))


def ring(rows):
    """Points around a circle of radius 1.5."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, rows)
    radius = 1.5 + rng.normal(size=rows) / 10
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).astype(np.float32)


def on_the_ring(generator) -> str:
    """How far made points are from the ring, in a case where they also go all round it."""
    noise = table(2000, 2)
    made = np.array(generator(noise))
    angles = np.histogram(np.arctan2(made[:, 1], made[:, 0]), bins=8, range=(-np.pi, np.pi))[0]
    reached("emptiest eighth of the ring", angles.min() / 2000, nothing=0, goal=0.02)
    away, nothing = (
        np.mean(np.abs(np.linalg.norm(points, axis=-1) - 1.5)) for points in (made, noise)
    )
    return reached("distance from the ring", away, nothing=nothing, goal=nothing / 2)


class Adversarial(keras.Model):
    """A generator and a discriminator with an optimizer each."""

    def __init__(self, rate=1e-3):
        super().__init__()
        self.generator, self.discriminator = network(2, 2), network(2, 1)
        self.optimizers = [O.Adam(rate, beta_1=0.5) for _ in range(2)]

    def update(self, optimizer, network, losses):
        """Update a network by a loss."""
        with tf.GradientTape() as tape:
            loss = losses()
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return loss

    def told(self, points, real):
        """The loss of the discriminator's answers on points."""
        logits = self.discriminator(points)
        return CROSS_ENTROPY(tf.fill(tf.shape(logits), float(real)), logits)

    def train_step(self, points):
        """An update of each."""
        noise = tf.random.normal([2, tf.shape(points)[0], 2])
        told = self.update(
            self.optimizers[0],
            self.discriminator,
            lambda: self.told(points, 1) + self.told(self.generator(noise[0]), 0),
        )
        fooled = self.update(
            self.optimizers[1], self.generator, lambda: self.told(self.generator(noise[1]), 1)
        )
        return {"discriminator_loss": told, "generator_loss": fooled}


@healthy
def gan(log: Log) -> str:
    """A GAN learns a ring; each loss ends near that of not telling real from made."""
    model = compiled(Adversarial(), None, None)
    train(model, ring(4096), None, log, epochs=20, batch_size=128)
    return on_the_ring(model.generator)


class Wasserstein(Adversarial):
    """The same with a critic and a gradient penalty."""

    def penalized(self, points, made):
        """The critic's loss with the penalty."""
        between = points + tf.random.uniform([tf.shape(points)[0], 1]) * (made - points)
        with tf.GradientTape() as tape:
            tape.watch(between)
            values = self.discriminator(between)
        norm = tf.norm(tape.gradient(values, between), axis=-1)
        apart = tf.reduce_mean(self.discriminator(made) - self.discriminator(points))
        return apart + 3.0 * tf.reduce_mean((norm - 1) ** 2)

    def train_step(self, points):
        """Three updates of the critic, and one of the generator."""
        for _ in range(3):
            made = self.generator(tf.random.normal(tf.shape(points)))
            told = self.update(
                self.optimizers[0],
                self.discriminator,
                lambda made=made: self.penalized(points, made),
            )
        noise = tf.random.normal(tf.shape(points))
        fooled = self.update(
            self.optimizers[1],
            self.generator,
            lambda: -tf.reduce_mean(self.discriminator(self.generator(noise))),
        )
        return {"critic_loss": told, "generator_loss": fooled}


@healthy
def wgan(log: Log) -> str:
    """A Wasserstein GAN with gradient penalty learns the ring; its losses have any sign."""
    model = compiled(Wasserstein(2e-3), None, None)
    train(model, ring(4096), None, log, epochs=25, batch_size=128)
    return on_the_ring(model.generator)


@healthy
def gan_of_two_recorders(log: Log) -> str:
    """A GAN in a loop; each of its networks has a run of its own."""
    model = Adversarial()
    runs = [log.recorder(model.discriminator, "discriminator", every=5)]
    runs.append(log.recorder(model.generator, "generator", every=5))

    def update(number, step, network, losses):
        with tf.GradientTape() as tape:
            loss = losses()
        variables = network.trainable_variables
        gradients = tape.gradient(loss, variables)
        runs[number].record(step, gradients, variables, loss=loss)
        model.optimizers[number].apply(gradients, variables)

    @tf.function
    def train_step(step, points):
        noise = tf.random.normal([2, 128, 2])
        update(
            0,
            step,
            model.discriminator,
            lambda: model.told(points, 1) + model.told(model.generator(noise[0]), 0),
        )
        update(1, step, model.generator, lambda: model.told(model.generator(noise[1]), 1))

    points = tf.constant(ring(4096))
    for step in tf.range(600, dtype=tf.int64):
        train_step(step, tf.gather(points, tf.random.uniform([128], 0, 4096, tf.int32)))
    for run in runs:
        run.finish()
    return on_the_ring(model.generator)


@healthy
def own_loop(log: Log) -> str:
    """A classifier in a `tf.function` with a `Recorder`."""
    x, y, new_x, new_y = digits(images=False)
    model = stack((64,), L.Dense(64, "relu"), L.Dense(10))
    optimizer, loss_function = (
        O.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    recorder = log.recorder(model, every=4)

    @tf.function
    def train_step(step, images, labels):
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        recorder.record(step, gradients, model.trainable_variables, loss=loss)
        optimizer.apply(gradients, model.trainable_variables)

    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(2000, seed=1).repeat().batch(32)
    with recorder:
        for step, (images, labels) in batches.take(400).enumerate():
            train_step(step, images, labels)
    return tells_apart(model, new_x, new_y)


class Corridor:
    """Many games at once of finding the way to the middle of a square of 7 x 7 places.

    A step costs 1, and a game ends after eight steps.
    """

    MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])

    def __init__(self, games, seed=0):
        self.rng = np.random.default_rng(seed)
        self.games = games

    def reset(self):
        """Begin anew."""
        self.place = self.rng.integers(-3, 4, (self.games, 2))
        return self.seen()

    def seen(self):
        """The place, of unit scale."""
        return (self.place / 2).astype(np.float32)

    def step(self, actions):
        """Walk; those that have arrived stay, at no cost."""
        away = (self.place != 0).any(axis=-1)
        moved = np.clip(self.place + self.MOVES[actions], -3, 3)
        self.place = np.where(away[:, None], moved, self.place)
        return self.seen(), -away.astype(np.float32)


STEPS = 8


def play(game, choose):
    """Play; what was seen, done and gained, `[steps, games]` each."""
    seen, done, gained = [game.reset()], [], []
    for _ in range(STEPS):
        done.append(choose(seen[-1]))
        now, gain = game.step(done[-1])
        seen.append(now)
        gained.append(gain)
    return np.array(seen), np.array(done), np.array(gained)


def drawn(logits):
    """Actions, drawn by their logits."""
    return tf.random.categorical(logits, 1)[:, 0].numpy()


def gains_most(policy) -> str:
    """What the likeliest actions gain in a game, where the shortest ways gain -3.4."""
    best, drawn_blindly = (
        play(Corridor(500, seed=1), choose)[2].sum(axis=0).mean()
        for choose in (
            lambda seen: np.argmax(policy(seen), axis=-1),
            lambda seen: drawn(np.zeros((len(seen), 4))),
        )
    )
    return reached("gain of a game", best, nothing=drawn_blindly, goal=-4.0)


@healthy
def policy_gradient(log: Log) -> str:
    """REINFORCE: actions that gained more than usual become likelier; the loss says nothing."""
    policy, optimizer = network(2, 4, activation="tanh"), O.Adam(1e-2)
    variables, game = policy.trainable_variables, Corridor(64)
    with log.recorder(policy) as recorder:
        for step in range(120):
            seen, done, gained = play(game, lambda seen: drawn(policy(seen)))
            later = np.cumsum(gained[::-1], axis=0)[::-1]
            better = later - later.mean(axis=1, keepdims=True)
            better = (better / (better.std() + 1e-6)).astype(np.float32)
            with tf.GradientTape() as tape:
                unlikely = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    done.reshape(-1), policy(seen[:-1].reshape(-1, 2))
                )
                loss = tf.reduce_mean(unlikely * better.reshape(-1))
            gradients = tape.gradient(loss, variables)
            recorder.record(step, gradients, variables, loss=loss)
            optimizer.apply(gradients, variables)
    return gains_most(policy)


class ActorAndCritic(keras.Model):
    """One body for actions and for the value of a place."""

    def __init__(self):
        super().__init__()
        self.body = stack((2,), L.Dense(32, "tanh"), L.Dense(32, "tanh"))
        self.actor, self.critic = L.Dense(4), L.Dense(1)

    def call(self, seen):
        """Logits and value."""
        body = self.body(seen)
        return self.actor(body), self.critic(body)[:, 0]


@healthy
def actor_critic(log: Log) -> str:
    """Actions that gained more than the critic expects become likelier."""
    model, optimizer, game = ActorAndCritic(), O.Adam(1e-2), Corridor(64)
    model(np.zeros((1, 2), np.float32))
    variables = model.trainable_variables
    with log.recorder(model) as recorder:
        for step in range(120):
            seen, done, gained = play(game, lambda seen: drawn(model(seen)[0]))
            later = (np.cumsum(gained[::-1], axis=0)[::-1] / STEPS).reshape(-1)
            with tf.GradientTape() as tape:
                logits, value = model(seen[:-1].reshape(-1, 2))
                better = tf.stop_gradient(later - value) * 4
                unlikely = tf.nn.sparse_softmax_cross_entropy_with_logits(done.reshape(-1), logits)
                chances = tf.nn.softmax(logits)
                entropy = -tf.reduce_sum(chances * tf.nn.log_softmax(logits), axis=-1)
                loss = tf.reduce_mean(unlikely * better + (later - value) ** 2 - entropy / 100)
            gradients = tape.gradient(loss, variables)
            recorder.record(step, gradients, variables, loss=loss)
            optimizer.apply(gradients, variables)
    return gains_most(lambda seen: model(seen)[0])


@healthy
def deep_q_network(log: Log) -> str:
    """Q-learning with a memory and a target network, whose targets change as it learns."""
    model, target = network(2, 4, activation="relu"), network(2, 4, activation="relu")
    target.set_weights(model.get_weights())
    optimizer, game, rng = O.Adam(3e-3), Corridor(16), np.random.default_rng(0)
    variables = model.trainable_variables

    @tf.function
    def update(step, before, done, gain, after, arrived):
        wanted = gain + 0.95 * tf.reduce_max(target(after), axis=-1) * (1 - arrived)
        with tf.GradientTape() as tape:
            value = tf.gather(model(before), done, batch_dims=1)
            loss = tf.reduce_mean(keras.losses.huber(wanted[:, None], value[:, None]))
        gradients = tape.gradient(loss, variables)
        recorder.record(step, gradients, variables, loss=loss)
        optimizer.apply(gradients, variables)

    def choose(seen):
        best = np.argmax(model(seen), axis=-1)
        return np.where(rng.uniform(size=len(seen)) < 0.3, rng.integers(0, 4, len(seen)), best)

    memory = []
    with log.recorder(model, every=4) as recorder:
        for step in range(800):
            if step % 10 == 0:
                seen, done, gained = play(game, choose)
                memory.append((seen[:-1], done, gained, seen[1:]))
                before, all_done, gain, after = (
                    np.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts])
                    for parts in zip(*memory, strict=True)
                )
            if step % 50 == 0:
                target.set_weights(model.get_weights())
            rows = rng.integers(0, len(before), 64)
            arrived = (after[rows] == 0).all(axis=-1).astype(np.float32)
            update(
                tf.constant(step, tf.int64),
                *(part[rows] for part in (before, all_done, gain, after)),
                arrived,
            )
    return gains_most(model)

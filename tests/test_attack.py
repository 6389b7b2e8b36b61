"""Attacks inside the certified radius, on real images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import logits_loss
from conftest import small_convnet
from conftest import smoothed

import keras_smoothing as ks


def l2_pgd(model, x, labels, radius, steps=40, draws=64):
    """Raises the loss of the soft smoothed classifier inside l2 balls.

    The gradient is that of -log of the mean probability over the draws, fresh
    at every step.
    """
    x = tf.constant(x)
    radius = tf.reshape(tf.constant(radius, "float32"), (-1, 1, 1, 1))
    labels = np.repeat(labels, draws)

    def norm(v):
        return tf.sqrt(tf.reduce_sum(v**2, axis=(1, 2, 3), keepdims=True))

    @tf.function
    def step(delta):
        with tf.GradientTape() as tape:
            tape.watch(delta)
            noisy = tf.repeat(x + delta, draws, axis=0)
            noisy += model.noise.stddev * tf.random.normal(tf.shape(noisy))
            p = tf.nn.softmax(model.base_model(noisy, training=False))
            p = tf.gather(p, labels, axis=1, batch_dims=1)
            p = tf.reduce_mean(tf.reshape(p, (-1, draws)), axis=1)
            loss = -tf.math.log(p + 1e-10)
        gradient = tape.gradient(loss, delta)
        delta += 0.1 * radius * gradient / (norm(gradient) + 1e-12)
        return delta * tf.minimum(1.0, radius / (norm(delta) + 1e-12))

    delta = tf.zeros_like(x)
    for _ in range(steps):
        delta = step(delta)
    assert (norm(delta) <= radius * (1 + 1e-5)).numpy().all()
    return (x + delta).numpy()


@pytest.mark.slow
def test_no_attack_inside_the_radius_changes_a_prediction(fashion_mnist):
    (x_train, y_train), (x, _) = fashion_mnist
    keras.utils.set_random_seed(0)
    model = smoothed(small_convnet((28, 28, 1)), sigma=0.25)
    model.compile("adam", logits_loss())
    model.fit(x_train, y_train, batch_size=128, epochs=3, verbose=0)
    result = model.certify(x, n=10_000, seed=0, verbose=0)
    certified = result.radius > 0
    x, labels = x[certified], result.prediction[certified]
    radius = result.radius[certified]
    assert len(x) > 45

    def changed(factor):
        attacked = l2_pgd(model, x, labels, factor * radius)
        now = model.classify(attacked, n=4_000, seed=1)
        return (now != labels) & (now != ks.ABSTAIN)

    assert not changed(0.95).any()
    # The attack is one: beyond the radius it succeeds.
    assert changed(4.0).mean() > 0.5

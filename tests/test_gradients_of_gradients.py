"""Derivatives of gradients through fixed points, as gradient penalties need."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_smoothing as ks
from keras_smoothing.equilibrium import Anderson
from keras_smoothing.equilibrium import Broyden
from keras_smoothing.equilibrium import FixedPointIteration
from keras_smoothing.equilibrium import Implicit
from keras_smoothing.equilibrium import OneStep
from keras_smoothing.equilibrium import Phantom
from keras_smoothing.equilibrium import Unrolled
from keras_smoothing.equilibrium import cells

TOL = 1e-6
PRECISE = FixedPointIteration(60, TOL)
SOLVERS = [PRECISE, Anderson(40, TOL), Broyden(20, TOL)]


def half_tanh(rule, solver):
    """z = tanh(z / 2 + x), as a function of x."""

    def solve(x):
        return rule.apply(
            lambda z: ops.tanh(0.5 * z + x), ops.zeros_like(x), solver
        ).value

    return solve


def derivatives(function, x, order):
    """The first `order` derivatives of a function of numbers apart."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        if order == 1:
            lower, last = [], function(x)
        else:
            lower = derivatives(function, x, order - 1)
            last = lower[-1]
    return [*lower, tape.gradient(last, x)]


def exact_derivatives(x):
    """Three of half_tanh, in float64."""
    x = np.asarray(x, "float64")
    z = np.zeros_like(x)
    for _ in range(200):
        z = np.tanh(z / 2 + x)
    # x = artanh z - z / 2, whose derivatives in z are a, b and c.
    slope = 1 - z**2
    a, b = 1 / slope - 0.5, 2 * z / slope**2
    c = 2 / slope**2 + 8 * z**2 / slope**3
    return [1 / a, -b / a**3, 3 * b**2 / a**5 - c / a**4]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_third_derivatives_are_exact(solver):
    x = [[0.3], [-0.1], [0.8]]
    found = derivatives(half_tanh(Implicit(), solver), tf.constant(x), 3)
    exact = exact_derivatives(x)
    np.testing.assert_allclose(exact[1][0], -3.06756, rtol=1e-5)
    # Each order solves with (I - J)^-1 once more, a factor of 2 at most, from
    # values of relative error TOL, and the terms of the third cancel in part.
    for order, (one, other) in enumerate(zip(found, exact, strict=True)):
        scale = TOL * 2.0 ** (order + 3)
        np.testing.assert_allclose(one, other, rtol=scale, atol=4 * scale)


@pytest.mark.parametrize("compiled", ["graph", "xla"])
def test_compiled_second_derivatives(compiled):
    x = tf.constant([[0.3]])
    function = half_tanh(Implicit(), PRECISE)

    @tf.function(jit_compile=compiled == "xla")
    def second(x):
        return derivatives(function, x, 2)[-1]

    np.testing.assert_allclose(second(x), exact_derivatives(x)[1], rtol=1e-5)


def test_second_derivatives_from_outside_of_a_graph_are_refused():
    function = tf.function(half_tanh(Implicit(), PRECISE))
    with pytest.raises(NotImplementedError, match="Expected: all tapes in"):
        derivatives(function, tf.constant([[0.3]]), 2)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rule", [Phantom(), OneStep()])
def test_approximate_gradients_have_none(rule, compiled):
    function = half_tanh(rule, PRECISE)
    if compiled:
        function = tf.function(function)
    x = tf.constant([[0.3]])
    message = f"Implicit.*Unrolled.*{type(rule).__name__}"
    with pytest.raises(NotImplementedError, match=message):
        derivatives(function, x, 2)
    # A tape that could be asked again is not.
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z = function(x)
    np.testing.assert_array_equal(tape.gradient(z, x), tape.gradient(z, x))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rule", [Implicit(), Phantom(), OneStep(), Unrolled()])
def test_forward_mode_is_right_or_refused(rule, compiled):
    function = half_tanh(rule, PRECISE)
    if compiled:
        function = tf.function(function)
    x = tf.constant([[0.3]])

    def forward():
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            z = function(x)
        return accumulator.jvp(z)

    if isinstance(rule, Unrolled):
        np.testing.assert_allclose(forward(), exact_derivatives(x)[0], 1e-5)
    else:
        with pytest.raises(NotImplementedError, match=r"Unrolled\(\)"):
            forward()


def penalty_gradients(layer, x):
    """Of the squared gradient of the output, with respect to x and weights."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = ops.sum(ops.square(ops.cast(layer(x), "float32")))
        slope = ops.cast(tape.gradient(loss, x), "float32")
        penalty = ops.sum(ops.square(slope))
    weights = [weight.value for weight in layer.trainable_variables]
    return outer.gradient(penalty, [x, *weights])


CELLS = {
    "dense": lambda **k: cells.DenseCell(5, **k),
    "contractive": lambda **k: cells.ContractiveDense(5, 0.6, **k),
    "monotone": lambda **k: cells.MonotoneDense(5, **k),
}


def relative_error(found, expected):
    def norm(arrays):
        return np.sqrt(sum(np.sum(np.square(a)) for a in arrays))

    found, expected = (
        [np.array(ops.cast(a, "float32")) for a in arrays]
        for arrays in (found, expected)
    )
    apart = [a - b for a, b in zip(found, expected, strict=True)]
    return norm(apart) / norm(expected)


@pytest.mark.parametrize("name", CELLS)
def test_penalties_have_the_gradient_of_many_steps(name):
    keras.utils.set_random_seed(0)
    cell = CELLS[name]()
    x = keras.random.normal((3, 4), seed=1)
    layers = [
        ks.layers.DeepEquilibrium(cell, solver, gradient)
        for solver, gradient in (
            (Anderson(60, TOL), Implicit()),
            (FixedPointIteration(120, 1e-7, iterate="last"), Unrolled()),
        )
    ]
    found, expected = (penalty_gradients(layer, x) for layer in layers)
    # Two solves after one another, each with (I - J)^-1 of norm up to 4.
    assert relative_error(found, expected) < 16 * 4 * TOL


def test_penalties_in_half_precision():
    keras.utils.set_random_seed(0)
    x = keras.random.normal((3, 4), seed=1)
    single, half = (
        ks.layers.DeepEquilibrium(CELLS["dense"](dtype=dtype), "anderson")
        for dtype in ("float32", "mixed_bfloat16")
    )
    single.build(x.shape)
    half.build(x.shape)
    half.set_weights(single.get_weights())
    found, expected = (penalty_gradients(layer, x) for layer in (half, single))
    # bfloat16 rounds to 2^-9, in a few products one after another.
    assert relative_error(found, expected) < 16 * 2.0**-9


class Penalized(keras.Model):
    """A network trained to have small gradients in its input."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x, training=None):
        return self.layer(x, training=training)

    def train_step(self, x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = ops.sum(self(x, training=True))
            penalty = ops.sum(ops.square(tape.gradient(loss, x)))
            penalty = penalty + sum(self.losses)
        weights = self.trainable_weights
        self.optimizer.apply(outer.gradient(penalty, weights), weights)
        return {"penalty": penalty}


def test_a_penalty_falls_in_fit():
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    layer = ks.layers.DeepEquilibrium(
        cells.DenseCell(5), FixedPointIteration(10), jacobian_weight=0.1
    )
    model = Penalized(layer)
    model.compile(keras.optimizers.Adam(0.05))
    monitor = ks.callbacks.SolverMonitor()
    history = model.fit(
        x, batch_size=32, epochs=20, callbacks=[monitor], verbose=0
    ).history["penalty"]
    assert history[-1] < 0.2 * history[0]


def test_a_source_without_a_gradient_has_none():
    x, scale = tf.constant([[0.3]]), tf.constant([[0.5]])
    with tf.GradientTape() as tape:
        tape.watch([x, scale])
        z = (
            Implicit()
            .apply(
                lambda z: ops.tanh(ops.stop_gradient(scale) * z + x), x, PRECISE
            )
            .value
        )
    of_x, of_scale = tape.gradient(z, [x, scale])
    np.testing.assert_allclose(of_x, exact_derivatives(x)[0], rtol=1e-5)
    assert of_scale is None

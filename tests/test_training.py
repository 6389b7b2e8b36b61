"""What a smoothed model is trained for."""

import warnings

import keras
import numpy as np
import pytest
from conftest import Constant
from conftest import Masked
from conftest import RootNorm
from conftest import logits_loss
from scipy import special
from scipy.stats import norm

import keras_smoothing as ks
from keras_smoothing import backend
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.training.losses import divergence

OBJECTIVES = {
    "gaussian": lambda: ks.training.GaussianAugmentation(),
    "stability": lambda: ks.training.Stability(gamma=2.0),
    "consistency": lambda: ks.training.Consistency(3, weight=7.0, eta=0.6),
    "smooth_adv": lambda: ks.training.SmoothAdv(0.4, num_steps=3, num_copies=2),
    "macer": lambda: ks.training.MACER(4, weight=5.0, gamma=6.0, beta=3.0),
}
with_each_objective = pytest.mark.parametrize("name", OBJECTIVES)
LAYERED = [name for name in OBJECTIVES if name != "gaussian"]
SIGMA = 0.3
CLASSES = 3


def data(examples=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(examples, 4)).astype("float32")
    return x, np.arange(examples) % CLASSES


def base_model(hidden=(), activation=None):
    return keras.Sequential(
        [
            keras.Input((4,)),
            *hidden,
            keras.layers.Dense(
                CLASSES, activation=activation, kernel_initializer="normal"
            ),
        ]
    )


def compiled(
    objective,
    base=None,
    loss=None,
    optimizer=None,
    seed=5,
    group=None,
    **kwargs,
):
    """A smoothed model, always with the same weights and draws."""
    if isinstance(objective, str):
        objective = OBJECTIVES[objective]()
    keras.utils.set_random_seed(5)
    model = ks.SmoothedModel(
        base if isinstance(base, keras.Model) else (base or base_model)(),
        ks.noise.Gaussian(SIGMA),
        seed=5,
        group=group,
    )
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        loss or logits_loss(),
        objective=objective,
        **kwargs,
    )
    return model


def copies_of(model, x, num_copies):
    """The noisy copies that the first step of `model` is going to see."""
    state = model.seed_generator.state
    before = np.array(state)
    copies = np.asarray(model.draw_noise(x, num_copies)(x), "float64")
    state.assign(before)
    return copies.reshape(num_copies, *x.shape)


class Reference:
    """Slow and plain: one linear layer, one example at a time, float64."""

    def __init__(self, model):
        layer = model.base_model.layers[-1]
        self.kernel, self.bias = (np.float64(w) for w in layer.get_weights())

    def p(self, x):
        return special.softmax(x @ self.kernel + self.bias)

    def gaussian(self, copies, x, label):
        return {"loss": -np.log(self.p(copies[0])[label])}

    def stability(self, copies, x, label, gamma=2.0):
        p, q = self.p(x), self.p(copies[0])
        return {
            "classification_loss": -np.log(p[label]),
            "stability_loss": gamma * np.sum(p * np.log(p / q)),
        }

    def consistency(self, copies, x, label, weight=7.0, eta=0.6):
        all_p = [self.p(copy) for copy in copies]
        mean = sum(all_p) / len(all_p)
        return {
            "classification_loss": np.mean([-np.log(p[label]) for p in all_p]),
            "consistency_loss": weight
            * np.mean([np.sum(mean * np.log(mean / p)) for p in all_p]),
            "entropy_loss": -eta * np.sum(mean * np.log(mean)),
        }

    def smooth_adv(self, copies, x, label, epsilon=0.4, steps=3):
        noise, delta = copies - x, np.zeros_like(x)
        for _ in range(steps):
            all_p = [self.p(x + delta + e) for e in noise]
            # Of -log of the mean: each copy counts by its share of the label.
            gradient = sum(
                p[label] * self.kernel @ (p - np.eye(CLASSES)[label])
                for p in all_p
            )
            step = gradient / np.linalg.norm(gradient)
            delta = delta + 2 * epsilon / steps * step
            delta *= min(1, epsilon / np.linalg.norm(delta))
            delta = np.clip(x + delta, 0, 1) - x
        return {
            "loss": np.mean(
                [-np.log(self.p(x + delta + e)[label]) for e in noise]
            )
        }

    def macer(self, copies, x, label, weight=5.0, gamma=6.0, beta=3.0):
        mean = np.mean([self.p(copy) for copy in copies], axis=0)
        sharp = np.mean(
            [
                special.softmax(beta * (copy @ self.kernel + self.bias))
                for copy in copies
            ],
            axis=0,
        )
        second, first = np.sort(sharp)[-2:]
        gap = norm.ppf(first) - norm.ppf(second)
        counts = sharp.argmax() == label and gap <= gamma
        return {
            "classification_loss": -np.log(mean[label]),
            "radius_loss": counts * weight * SIGMA / 2 * (gamma - gap),
        }


COPIES = dict(gaussian=1, stability=1, consistency=3, smooth_adv=2, macer=4)


@pytest.mark.parametrize("labels", ["sparse", "column", "one_hot"])
@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
@with_each_objective
def test_losses_equal_a_slow_reference(name, outputs, labels):
    x, y = data()
    from_logits = outputs == "logits"
    losses = keras.losses
    loss = losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    given = y if labels == "sparse" else y[:, np.newaxis]
    if labels == "one_hot":
        loss = losses.CategoricalCrossentropy(from_logits=from_logits)
        given = np.eye(CLASSES)[y]
    model = compiled(
        name,
        base_model(activation=None if from_logits else "softmax"),
        loss,
        run_eagerly=True,
    )
    weight = np.array([1, 2, 0, 0.5, 1, 3], "float32")
    copies = copies_of(model, x, COPIES[name])
    kernel, bias = model.base_model.layers[-1].get_weights()
    # Far enough apart that some examples are right and some are wrong.
    model.base_model.layers[-1].set_weights([6 * kernel, bias])
    reference = getattr(Reference(model), name)
    rows = [
        reference(copies[:, i], np.float64(x[i]), y[i]) for i in range(len(x))
    ]
    expected = {
        term: np.mean(
            [w * row[term] for w, row in zip(weight, rows, strict=True)]
        )
        for term in rows[0]
    }
    expected["loss"] = sum(expected.values())
    logs = model.train_on_batch(x, given, weight, return_dict=True)
    assert set(logs) == set(expected)
    for term, value in expected.items():
        np.testing.assert_allclose(logs[term], value, rtol=2e-4, err_msg=term)
    if name == "macer":
        assert 0 < sum(row["radius_loss"] > 0 for row in rows) < len(rows)


@pytest.mark.parametrize(
    "outputs,from_logits",
    [
        ([200.0, -200.0, 0.0], True),  # p is 1 and 0 in float32
        ([1.0, 1.0, 0.0], True),
        ([0.0, 0.0, 0.0], True),
        ([40.0, 0.0, 0.0], True),
        ([-1e4, 3e4, 0.0], True),
        ([1.0, 0.0, 0.0], False),
        ([0.5, 0.5, 0.0], False),
        ([1 - 1e-7, 1e-7, 1e-40], False),
    ],
)
@pytest.mark.parametrize("name", LAYERED)
def test_gradients_are_finite_at_every_clamp(name, outputs, from_logits):
    base = keras.Sequential([keras.Input((4,)), Constant(outputs)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model = compiled(name, base, loss, run_eagerly=True)
    x, y = data()
    logs = model.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(list(logs.values())).all(), logs
    assert np.isfinite(base.get_weights()[0]).all()


def test_ordinary_logits_have_the_plain_divergence():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=5.0, size=(2, 50, CLASSES)).astype("float32")

    def kl(logits):
        log_p, log_q = log_probabilities(logits, from_logits=True)
        return divergence(log_p, log_q)

    tensor = keras.ops.convert_to_tensor(logits)
    gradient = backend.input_gradient(kl, tensor)
    log_p, log_q = special.log_softmax(np.float64(logits), axis=-1)
    p, q = np.exp(log_p), np.exp(log_q)
    expected = np.sum(p * (log_p - log_q), axis=-1)
    # Logarithms down to -30 have errors of 2^-20; gradients add a few.
    np.testing.assert_allclose(kl(tensor), expected, atol=1e-5)
    of_p = p * (log_p - log_q - expected[:, np.newaxis])
    np.testing.assert_allclose(gradient, [of_p, q - p], atol=1e-5)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("name", LAYERED)
def test_a_masked_class_changes_nothing(name, one_hot):
    x, y = data()
    y = y % 2
    kind = "" if one_hot else "Sparse"
    kind = getattr(keras.losses, f"{kind}CategoricalCrossentropy")
    weights, losses = [], []
    for classes in (2, 3):

        def base(classes=classes):
            layers = [keras.layers.Dense(2, kernel_initializer="normal")]
            layers += [Masked()] * (classes - 2)
            return keras.Sequential([keras.Input((4,)), *layers])

        model = compiled(name, base, kind(from_logits=True))
        labels = np.eye(classes)[y] if one_hot else y
        logs = [
            model.train_on_batch(x, labels, return_dict=True) for _ in range(2)
        ]
        losses.append([list(log.values()) for log in logs])
        weights.append(model.get_weights()[0])
    # Terms are sums of numbers of the size of 1 to 10, some of which cancel.
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(*weights, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_masked_class_is_finite_in_every_precision(dtype, policy):
    keras.mixed_precision.set_global_policy(policy)
    x, y = data()
    for smoothing in (0.0, 0.1):
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=smoothing, dtype=dtype
        )
        dense = keras.layers.Dense(2)
        base = keras.Sequential([keras.Input((4,)), dense, Masked()])
        model = compiled("stability", base, loss, run_eagerly=True)
        logs = model.train_on_batch(x, np.eye(3)[y % 2], return_dict=True)
        assert np.isfinite(list(logs.values())).all(), logs
        assert np.isfinite(model.get_weights()[0]).all()


def test_a_gradient_that_is_nan_stops_no_attack():
    # Where noise leaves all numbers negative; elsewhere the norm is raised.
    def base():
        return keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.ReLU(),
                RootNorm(),
                keras.layers.Dense(CLASSES, kernel_initializer="ones"),
            ]
        )

    objective = ks.training.SmoothAdv(0.4, num_copies=8, bounds=None)
    model = compiled(objective, base)
    model.fit(np.zeros((6, 1), "float32"), data()[1], verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@with_each_objective
def test_probabilities_that_round_to_0_are_learned_from(name):
    # Keras's losses clip probabilities at 1e-7, and have no gradient there.
    logits = [0.0, 18.0, 0.0]
    base = keras.Sequential(
        [keras.Input((4,)), Constant(logits), keras.layers.Softmax()]
    )
    loss = keras.losses.SparseCategoricalCrossentropy()
    model = compiled(name, base, loss)
    model.train_on_batch(data()[0], np.zeros(6))
    assert base.get_weights()[0][0] > 0.05


def test_macer_meets_both_ends_of_the_gap():
    # From the tie to a gap that is large enough, and beyond.
    losses = []
    for margin in (0.0, 0.1, 30.0):
        base = keras.Sequential([keras.Input((4,)), Constant([margin, 0, -9])])
        model = compiled("macer", base, run_eagerly=True)
        x, _ = data()
        logs = model.train_on_batch(x, np.zeros(6), return_dict=True)
        losses.append(logs["radius_loss"])
        moved = np.abs(base.get_weights()[0] - [margin, 0, -9])
        assert (moved[0] > 1e-3) == (margin < 1)
    np.testing.assert_allclose(losses[0], 5.0 * SIGMA / 2 * 6.0, rtol=1e-4)
    assert losses[0] > losses[1] > losses[2] == 0


class Former(keras.Model):
    """What `SmoothedModel` was in `fit` before it had objectives."""

    def __init__(self, base, noise, group, seed):
        super().__init__(autocast=False)
        self.base, self.noise, self.group = base, noise, group
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=None):
        if self.group is not None:
            elements = self.group.sample(
                keras.ops.shape(inputs)[0],
                inputs.shape[1:],
                self.seed_generator,
            )
            inputs = self.group.act(inputs, elements)
        noisy = self.noise.add_to(inputs, self.seed_generator)
        return self.base(noisy, training=training)


@pytest.mark.parametrize("with_group", [False, True])
def test_the_default_is_what_fit_always_was_to_the_last_bit(with_group):
    group = ks.groups.D4("channels_last") if with_group else None
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(22, 4, 4, 1)).astype("float32")
    y = np.arange(22) % CLASSES

    def base():
        return keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(8, kernel_regularizer="l2"),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.2, seed=3),
                keras.layers.Dense(CLASSES, activation="softmax"),
            ]
        )

    settings = ("adam", "sparse_categorical_crossentropy", None, ["accuracy"])
    smoothed = compiled(None, base, group=group)
    smoothed.compile(*settings)
    keras.utils.set_random_seed(5)
    former = Former(base(), ks.noise.Gaussian(SIGMA), group, 5)
    former.compile(*settings)
    histories = [
        model.fit(
            x,
            y,
            batch_size=8,
            epochs=2,
            shuffle=False,
            class_weight={0: 1.0, 1: 2.0, 2: 0.5},
            verbose=0,
        ).history
        for model in (smoothed, former)
    ]
    assert histories[0] == histories[1]
    for ours, theirs in zip(
        smoothed.base_model.get_weights(),
        former.base.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def normalised():
    return base_model(
        [
            keras.layers.Dense(5, activation="relu"),
            keras.layers.BatchNormalization(momentum=0.5),
        ]
    )


@with_each_objective
def test_one_seed_gives_one_result_and_a_file_goes_on_from_it(name, tmp_path):
    x, y = data(12)
    settings = dict(batch_size=8, epochs=2, verbose=0)
    weights = []
    for _ in range(2):
        model = compiled(name, normalised, optimizer="adam", run_eagerly=True)
        history = model.fit(x, y, validation_data=(x, y), **settings).history
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    terms = model.objective.terms
    assert set(history) == {"loss", "val_loss", *terms}
    assert len(terms) in (0, 2, 3)
    if terms:
        total = np.sum([history[term] for term in terms], axis=0)
        np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    assert isinstance(model.evaluate(x, y, verbose=0), float)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.objective) is type(model.objective)
    assert loaded.objective.get_config() == model.objective.get_config()
    assert int(loaded.optimizer.iterations) == 4
    loaded.fit(x, y, verbose=0)


def test_the_terms_are_in_the_progress_bar(capsys):
    x, y = data()
    model = compiled("consistency")
    model.fit(x, y, verbose=2)
    shown = capsys.readouterr().out
    for term in ks.training.Consistency.terms:
        assert f"{term}: " in shown
    model.evaluate(x, y, verbose=2)
    assert "consistency" not in capsys.readouterr().out


def test_recompiling_changes_the_objective():
    x, y = data()
    model = compiled("macer")
    model.fit(x, y, verbose=0)
    model.compile("sgd", logits_loss(), objective=ks.training.Stability())
    history = model.fit(x, y, verbose=0).history
    assert set(history) == {"loss", *ks.training.Stability.terms}


@with_each_objective
def test_examples_of_no_weight_play_no_part(name):
    x, y = data(9)
    weight = np.array([1, 1, 0] * 3, "float32")
    other = x.copy()
    other[2::3] = 1 - other[2::3]
    results = []
    for inputs, arguments in (
        (x, dict(sample_weight=weight)),
        (other, dict(sample_weight=weight)),
        (x, dict(class_weight={0: 1.0, 1: 1.0, 2: 0.0})),
        (x, {}),
    ):
        model = compiled(name, run_eagerly=True)
        model.fit(inputs, y, shuffle=False, verbose=0, **arguments)
        results.append(model.get_weights()[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
    np.testing.assert_array_equal(results[0], results[2])
    assert np.abs(results[0] - results[3]).max() > 1e-4


@pytest.mark.parametrize("name", LAYERED)
def test_terms_are_reduced_as_the_loss_is(name):
    x, y = data()
    logs = {}
    for reduction in ("sum", "sum_over_batch_size"):
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        )
        model = compiled(name, loss=loss, run_eagerly=True)
        logs[reduction] = model.train_on_batch(x, y, return_dict=True)
    for term, mean in logs["sum_over_batch_size"].items():
        np.testing.assert_allclose(logs["sum"][term], len(x) * mean, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERED)
def test_losses_of_layers_are_added_once(name):
    x, y = data()
    losses = []
    for penalty in (None, "l2"):

        def base(penalty=penalty):
            hidden = keras.layers.Dense(40, kernel_regularizer=penalty)
            return base_model([hidden])

        model = compiled(name, base, run_eagerly=True)
        kernel = model.base_model.layers[0].get_weights()[0]
        added = 0.01 * np.sum(kernel**2) if penalty else 0.0
        losses.append(
            model.train_on_batch(x, y, return_dict=True)["loss"] - added
        )
    assert added > 0.05
    np.testing.assert_allclose(*losses, rtol=1e-4)


@with_each_objective
def test_gradients_are_accumulated(name):
    x, y = data()
    model = compiled(
        name,
        optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
        run_eagerly=True,
    )
    twin = compiled(name, run_eagerly=True)
    before = model.get_weights()[0]
    steps = []
    for _ in range(2):
        np.testing.assert_array_equal(model.get_weights()[0], before)
        model.train_on_batch(x, y)
        twin.train_on_batch(x, y)
        steps.append(twin.get_weights()[0] - before)
        twin.base_model.set_weights(
            [before, *(0 * w for w in twin.base_model.get_weights()[1:])]
        )
    np.testing.assert_allclose(
        model.get_weights()[0] - before, np.mean(steps, axis=0), atol=1e-6
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@with_each_objective
def test_mixed_precision(name, policy):
    x, y = data()
    losses, moves = [], []
    for current in ("float32", policy):
        keras.mixed_precision.set_global_policy(current)
        model = compiled(name, run_eagerly=True)
        before = model.get_weights()[0]
        logs = model.train_on_batch(x, y, return_dict=True)
        losses.append(logs["loss"])
        moves.append(model.get_weights()[0] - before)
    np.testing.assert_allclose(*losses, rtol=0.02)
    # Loss scaling, where there is any, is undone.
    scaled = hasattr(model.optimizer, "inner_optimizer")
    assert scaled == (policy == "mixed_float16")
    np.testing.assert_allclose(*moves, atol=0.1 * np.abs(moves[0]).max())


@pytest.mark.parametrize(
    "name,how",
    [
        ("smooth_adv", dict(run_eagerly=True)),
        ("macer", dict(run_eagerly=True)),
        ("consistency", dict(steps_per_execution=2)),
    ],
    ids=str,
)
def test_every_way_of_running(name, how):
    x, y = data(16)
    histories = []
    for settings in ({}, how):
        model = compiled(name, **settings)
        fit = dict(batch_size=8, epochs=2, shuffle=False, verbose=0)
        histories.append(model.fit(x, y, **fit).history)
    for term, values in histories[0].items():
        np.testing.assert_allclose(histories[1][term], values, rtol=1e-4)


@pytest.mark.parametrize("name", ["smooth_adv", "macer"])
def test_xla(name):
    # Probabilities of 0, 1 and a half, where XLA's arithmetic is another.
    base = keras.Sequential([keras.Input((4,)), Constant([60.0, 0.0, 0.0])])
    model = compiled(name, base)
    model.supports_jit = True
    model.compile(
        "sgd", logits_loss(), objective=model.objective, jit_compile=True
    )
    x, y = data()
    logs = model.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(list(logs.values())).all()
    assert np.isfinite(base.get_weights()[0]).all()


def test_attacks_leave_batch_statistics_alone():
    x, y = data(40)
    objective = ks.training.SmoothAdv(1e-6, num_steps=7, num_copies=2)
    norm_layer = keras.layers.BatchNormalization(momentum=0.5)
    model = compiled(objective, base_model([norm_layer]))
    copies = copies_of(model, x, 2).reshape(80, 4)
    model.train_on_batch(x, y)
    # One update, by the pass of the training step.
    np.testing.assert_allclose(
        norm_layer.moving_mean, copies.mean(axis=0) / 2, atol=1e-4
    )
    np.testing.assert_allclose(
        norm_layer.moving_variance, 0.5 + copies.var(axis=0) / 2, rtol=1e-3
    )


class Seen(keras.layers.Layer):
    """Keeps its last input in training."""

    def call(self, inputs, training=None):
        if training:
            self.last = np.asarray(inputs)
        return inputs


def adversarial(objective, x, y, steps=1):
    """What the attack made of x in each of some steps, without the noise."""
    seen, found = Seen(), []
    model = compiled(
        objective,
        base_model([seen]),
        keras.losses.SparseCategoricalCrossentropy(True),
        run_eagerly=True,
    )
    for _ in range(steps):
        noise = copies_of(model, x, 1)[0] - x
        model.train_on_batch(x, y)
        found.append(seen.last - noise)
    return np.array(found)


def test_the_radius_warms_up():
    x, y = data()
    x = 0.4 + 0.2 * x
    objective = ks.training.SmoothAdv(0.2, num_copies=1, warmup_steps=4)
    moved = np.linalg.norm(adversarial(objective, x, y, 6) - x, axis=-1)
    expected = 0.2 * np.minimum(np.arange(1, 7) / 4, 1)
    np.testing.assert_allclose(
        moved, np.tile(expected[:, np.newaxis], (1, 6)), rtol=1e-3
    )


def test_adversarial_examples_stay_in_ball_and_bounds():
    x, y = data(30)
    x[0] = 5.0  # Outside of the bounds: stays there, goes no further out.
    found = adversarial(ks.training.SmoothAdv(2.0, num_copies=1), x, y)[0]
    assert np.all(found >= -1e-5)
    assert np.all(found <= np.maximum(x, 1) + 1e-5)
    assert np.all(np.linalg.norm(found - x, axis=-1) <= 2.0 + 1e-4)
    objective = ks.training.SmoothAdv(2.0, num_copies=1, bounds=None)
    free = adversarial(objective, x, y)[0]
    np.testing.assert_allclose(
        np.linalg.norm(free - x, axis=-1), 2.0, rtol=1e-3
    )


def test_copies_are_drawn_once():
    group = ks.groups.HorizontalFlip("channels_last")
    base = keras.Sequential(
        [keras.Input((1, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model = ks.SmoothedModel(base, ks.noise.Gaussian(0.5), group=group, seed=0)
    x = np.arange(24.0, dtype="float32").reshape(3, 1, 8, 1)
    noisy_copies = model.draw_noise(x, 40)
    noise = np.asarray(noisy_copies(0 * x)).reshape(40, 3, 8)
    assert abs(noise.std() - 0.5) < 0.05
    assert len(np.unique(noise[:, :, 0])) == 120
    plain = np.asarray(noisy_copies(x)).reshape(40, 3, 8) - noise
    upright = np.isclose(plain[:, :, 0], x[:, 0, 0, 0], atol=1e-4)
    assert 0.25 < upright.mean() < 0.75
    rows = np.where(upright[..., np.newaxis], x[:, 0, :, 0], x[:, 0, ::-1, 0])
    np.testing.assert_allclose(plain, rows, atol=1e-4)


@pytest.mark.parametrize("name", LAYERED)
def test_groups_and_other_noise(name):
    x = np.random.default_rng(0).uniform(size=(6, 3, 3, 1)).astype("float32")
    for noise in (ks.noise.Gaussian(0.3), ks.noise.Laplace(0.3)):
        base = keras.Sequential(
            [
                keras.Input((3, 3, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES),
            ]
        )
        group = ks.groups.D4("channels_last")
        model = ks.SmoothedModel(base, noise, group=group)
        model.compile(
            "sgd", logits_loss(), objective=OBJECTIVES[name](), run_eagerly=True
        )
        if name == "macer" and isinstance(noise, ks.noise.Laplace):
            with pytest.raises(ValueError, match="Expected Gaussian noise"):
                model.train_on_batch(x, np.arange(6) % CLASSES)
        else:
            losses = model.train_on_batch(x, np.arange(6) % CLASSES)
            assert np.isfinite(losses).all()


@pytest.mark.parametrize("name", LAYERED)
def test_models_whose_outputs_the_loss_does_not_take_are_refused(name):
    x, y = data()
    sparse = keras.losses.SparseCategoricalCrossentropy
    for activation, loss, message in (
        ("sigmoid", sparse(), "Expected a base model that returns prob"),
        (None, sparse(), "Expected a base model that returns probabilities"),
        ("softmax", sparse(from_logits=True), "Expected .* returns logits"),
        (None, "mse", "Expected a base model that returns probabilities"),
        (None, [sparse(), sparse()], "Expected one loss"),
    ):
        model = compiled(name, base_model(activation=activation), loss)
        with pytest.raises(ValueError, match=f"{message}.*Received:"):
            model.fit(x, y, verbose=0)
    model = compiled(name, loss=sparse(from_logits=True), run_eagerly=True)
    with pytest.raises(ValueError, match="shape"):
        model.train_on_batch(x, np.zeros((6, CLASSES + 1)))


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("kind", ["SmoothedRegression", "SmoothedMultiLabel"])
def test_models_of_other_answers_are_refused_by_name(name, kind):
    model = getattr(ks, kind)(base_model(), ks.noise.Gaussian(SIGMA))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("sgd", loss, objective=OBJECTIVES[name]())
    x, y = data()
    with pytest.raises(
        ValueError, match=f"one for each class.*that of a {kind}"
    ):
        model.fit(x, np.eye(CLASSES)[y], verbose=0)


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """Keras knows the shape of its input, and its weights, once called."""

    def __init__(self, units, activation):
        super().__init__()
        self.units, self.activation = units, activation
        self.dense = keras.layers.Dense(units, activation=activation)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return {"units": self.units, "activation": self.activation}


def sequential(units, activation):
    return keras.Sequential([keras.layers.Dense(units, activation=activation)])


@pytest.mark.parametrize("base", [Subclassed, sequential])
@pytest.mark.parametrize("called", [False, True])
def test_models_that_are_not_built_are_checked_too(base, called, tmp_path):
    x, y = data()
    for units, activation, message in (
        (CLASSES, "softmax", "Expected .* returns logits"),
        (1, None, "Expected .*(several outputs|binary)"),
    ):
        model = compiled("stability", base(units, activation))
        if called:
            model.base_model(x)
        for _ in range(2):
            with pytest.raises(ValueError, match=f"{message}.*Received:"):
                model.fit(x, y % units, verbose=0)
    model = compiled("stability", base(CLASSES, None))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_masks_are_refused_by_name_and_kept_by_default():
    def masked():
        # An example that is all 0 is masked; noise fills none.
        return base_model([keras.layers.Masking()])

    x, y = data()
    model = compiled("stability", masked(), run_eagerly=True)
    with pytest.raises(ValueError, match="no Keras mask.*Received"):
        model.train_on_batch(x, y)
    assert np.isfinite(compiled("gaussian", masked()).train_on_batch(x, y))


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: ks.training.Stability(-1.0), "`gamma`.*>= 0"),
        (lambda: ks.training.Consistency(1), "at least 2 copies"),
        (lambda: ks.training.Consistency(eta=np.nan), "`eta`"),
        (lambda: ks.training.SmoothAdv(0.0), "`epsilon`.*> 0"),
        (lambda: ks.training.SmoothAdv(1.0, warmup_steps=-1), ">= 0"),
        (lambda: ks.training.SmoothAdv(1.0, bounds=(1, 0)), "low < high"),
        (lambda: ks.training.MACER(gamma=10.0), "`gamma`"),
        (lambda: ks.training.MACER(num_copies=0), "`num_copies`"),
        (lambda: compiled(keras.losses.MeanSquaredError()), "`objective`"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        make()


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, x):
        return self.dense(x)


class OwnStep(Own):
    def train_step(self, data):
        raise AssertionError("not to be called")


class OwnLoss(Own):
    def compute_loss(self, *args, **kwargs):
        raise AssertionError("not to be called")


@pytest.mark.parametrize(
    ("kind", "name"), [(OwnStep, "train_step"), (OwnLoss, "compute_loss")]
)
def test_training_of_the_base_model_s_own_is_not_passed_over_in_silence(
    kind, name
):
    x, y = data()
    model = ks.SmoothedModel(kind(), ks.noise.Gaussian(SIGMA))
    model.compile("sgd", logits_loss())
    with pytest.warns(UserWarning, match=f"own `{name}`, of {kind.__name__}"):
        model.fit(x, y, verbose=0)
    with warnings.catch_warnings():  # Once is enough.
        warnings.simplefilter("error")
        model.fit(x, y, verbose=0)


def test_an_objective_of_ones_own():
    class Twice(ks.training.Objective):
        terms = ("twice",)

        def __call__(self, model, x, y, sample_weight):
            outputs = model(x, training=True)
            loss = model.compute_loss(x, y, outputs, sample_weight)
            return {"twice": 2 * loss}, outputs

    x, y = data()
    logs = [
        compiled(objective).train_on_batch(x, y, return_dict=True)
        for objective in (Twice(), None)
    ]
    np.testing.assert_allclose(logs[0]["twice"], 2 * logs[1]["loss"])


class Counting(ks.training.Objective):
    """Counts its steps and shows them; minimises nothing."""

    measures = ("steps",)

    def make_state(self, model):
        state = keras.layers.Layer()
        state.steps = state.add_weight(initializer="zeros", trainable=False)
        state.built = True
        return state

    def __call__(self, model, x, y, sample_weight):
        steps = model.objective_state.steps
        steps.assign_add(1.0)
        outputs = model(x, training=True)
        loss = 0 * model.compute_loss(x, y, outputs, sample_weight)
        return {"loss": loss, "steps": steps + 0.0}, outputs


def test_an_objective_with_a_state_and_a_measure(tmp_path):
    x, y = data()
    model, weights = compiled(Counting()), len(compiled(None).weights)
    history = model.fit(x, y, epochs=3, verbose=0, validation_data=(x, y))
    assert history.history["steps"] == [1, 2, 3]
    assert history.history["loss"] == [0, 0, 0]
    assert set(history.history) == {"loss", "val_loss", "steps"}
    assert len(model.weights) == weights
    model.save_weights(tmp_path / "model.weights.h5")
    # The same objective goes on; an equal one, and another model, begin anew.
    model.compile("sgd", logits_loss(), objective=model.objective)
    assert float(model.objective_state.steps) == 3
    for objective in (Counting(), model.objective):
        model = compiled(objective)
        assert float(model.objective_state.steps) == 0
    model.load_weights(tmp_path / "model.weights.h5")
    assert float(model.objective_state.steps) == 3
    model.compile("sgd", logits_loss())
    assert model.objective_state is None
    assert set(model.fit(x, y, verbose=0).history) == {"loss"}

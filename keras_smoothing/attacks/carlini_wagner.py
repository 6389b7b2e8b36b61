import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.attacks.examples import attack_in_batches
from keras_smoothing.attacks.examples import check_examples
from keras_smoothing.attacks.examples import target
from keras_smoothing.certificates import checks


def carlini_wagner(
    model,
    x,
    y,
    c,
    *,
    num_draws=1,
    from_logits=None,
    num_steps=300,
    learning_rate=0.01,
    bounds=(0.0, 1.0),
    batch_size=64,
    verbose="auto",
):
    """The l2 attack of Carlini and Wagner at one fixed c.

    It follows the evaluation of random self-ensembles: Adam in tanh variables
    minimises ||d||^2 + c * max(Z_y - max of the others, 0), without a search
    for c. The attack returns the last iterate that fooled the pass in which it
    was made, or the last iterate if none did. (The published code always
    returns the last iterate. Near a decision boundary, it is as often on the
    original side, and models without noise look better than they are.)

    The attack of the same name in foolbox returns the smallest change that
    fooled the model. Under noise, this is often a matter of luck.

    Args:
        model: Keras classifier, such as `RandomSelfEnsemble`.
        x: array, shape `(examples, ...)`, with values inside `bounds`.
        y: true class labels, in any form that `ks.SmoothedModel.certify`
            accepts.
        c: float >= 0, the weight of the margin against the distance; or an
            array with one weight for each example.
        num_draws: int >= 1, the number of passes that each step averages.
        from_logits: bool, whether the model returns logits; None for a
            `RandomSelfEnsemble`.
        num_steps: int >= 1.
        learning_rate: float > 0, the learning rate of Adam.
        bounds: (low, high), the bounds of adversarial examples.
        batch_size: int, examples in one batch. A step makes num_draws passes.
        verbose: "auto" or 1 for a progress bar, 0 for silence.

    Returns:
        float32 array of the shape of x, inside `bounds`. The distance from x is
        not bounded. Non-finite gradients count as 0.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    x, y = np.full((4, 8), 0.5, "float32"), np.array([0, 1, 0, 1])
    attacked = ks.attacks.carlini_wagner(
        model, x, y, c=0.1, from_logits=True, num_steps=20, verbose=0
    )
    ```

    Reference:
    - [Carlini and Wagner, 2017](https://arxiv.org/abs/1608.04644)
    - [Liu et al., 2018](https://arxiv.org/abs/1712.00673) for the setting
    """
    ensemble = target(model, num_draws, from_logits)
    x, y, c = check_examples(ensemble, x, y, c, bounds)
    num_steps = checks.positive_int("num_steps", num_steps)
    low, high = bounds
    size = min(checks.positive_int("batch_size", batch_size), len(x))
    w = keras.Variable(np.zeros((size, *x.shape[1:])), dtype="float32")
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build([w])
    fresh = [np.array(variable) for variable in optimizer.variables]

    def to_examples(w):
        return low + (high - low) * (ops.tanh(w) + 1) / 2

    @backend.compile
    def step(x, y, c, attacked, fooled):
        def loss(w):
            iterate = to_examples(w)
            # Differences of log-probabilities equal those of logits.
            log_p = ensemble.log_probabilities(iterate)
            is_label = ops.one_hot(y, log_p.shape[-1], dtype="bool")
            label = ops.sum(ops.where(is_label, log_p, 0.0), axis=-1)
            other = ops.max(ops.where(is_label, -np.inf, log_p), axis=-1)
            axes = tuple(range(1, len(x.shape)))
            distance = ops.sum(ops.square(iterate - x), axis=axes)
            objective = distance + c * ops.relu(label - other)
            return objective, (iterate, label < other)

        gradient, (iterate, fools) = backend.input_gradient(
            loss, w.value, has_aux=True
        )
        optimizer.apply([gradient])
        return _where(fools, iterate, attacked), ops.logical_or(fooled, fools)

    def attack(x, y, c):
        for variable, value in zip(optimizer.variables, fresh, strict=True):
            variable.assign(value)
        # Just inside the range of tanh, so that its inverse is finite.
        scaled = 2 * (x - low) / (high - low) - 1
        w.assign(np.arctanh(0.999999 * scaled))
        attacked, fooled = ops.zeros_like(x), ops.zeros(len(x), "bool")
        for _ in range(num_steps):
            attacked, fooled = step(x, y, c, attacked, fooled)
        attacked = _where(fooled, attacked, to_examples(w))
        return ops.convert_to_numpy(attacked)

    return attack_in_batches(attack, x, y, c, bounds, size, verbose)


def _where(which, examples, others):
    """`examples` where `which` is True, else `others`."""
    shape = (-1, *[1] * (len(examples.shape) - 1))
    return ops.where(ops.reshape(which, shape), examples, others)

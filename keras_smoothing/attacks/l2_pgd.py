import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.attacks.examples import attack_in_batches
from keras_smoothing.attacks.examples import check_examples
from keras_smoothing.attacks.examples import target
from keras_smoothing.certificates import checks
from keras_smoothing.l2 import step_in_ball


def l2_pgd(
    model,
    x,
    y,
    epsilon,
    *,
    num_draws=1,
    from_logits=None,
    num_steps=40,
    step_size=None,
    bounds=(0.0, 1.0),
    batch_size=64,
    verbose="auto",
):
    """Projected gradient ascent inside l2 balls around the examples.

    It increases -log of the mean probability of the label over `num_draws`
    fresh passes of the model. Against a `SmoothedModel`, this is the attack of
    Salman et al. on the soft smoothed classifier.

    Args:
        model: Keras classifier, such as `SmoothedModel` or
            `RandomSelfEnsemble`.
        x: array, shape `(examples, ...)`, with values inside `bounds`.
        y: true class labels, in any form that `ks.SmoothedModel.certify`
            accepts.
        epsilon: float >= 0, radius of the balls; or an array with one radius
            for each example.
        num_draws: int >= 1, the number of passes that each step averages.
        from_logits: bool, whether the model returns logits; None for a
            `RandomSelfEnsemble`.
        num_steps: int >= 1.
        step_size: float > 0, as a share of epsilon; None for 2.5 / num_steps.
        bounds: (low, high), the bounds of adversarial examples.
        batch_size: int, examples in one batch. A step makes num_draws passes.
        verbose: "auto" or 1 for a progress bar, 0 for silence.

    Returns:
        float32 array of the shape of x: the last iterates, inside ball and
        bounds. Non-finite gradients count as 0.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x, y = np.full((4, 8), 0.5, "float32"), np.array([0, 1, 0, 1])
    attacked = ks.attacks.l2_pgd(
        model, x, y, 0.5, num_draws=16, from_logits=True, verbose=0
    )
    ```

    Reference:
    - [Madry et al., 2018](https://arxiv.org/abs/1706.06083)
    - [Salman et al., 2019](https://arxiv.org/abs/1906.04584)
    """
    ensemble = target(model, num_draws, from_logits)
    x, y, epsilon = check_examples(ensemble, x, y, epsilon, bounds)
    size = min(checks.positive_int("batch_size", batch_size), len(x))
    num_steps = checks.positive_int("num_steps", num_steps)
    if step_size is None:
        step_size = 2.5 / num_steps
    step_size = checks.positive_float("step_size", step_size)

    @backend.compile
    def step(x, delta, y, epsilon):
        def loss(x):
            log_p = ensemble.log_probabilities(x)
            return keras.losses.sparse_categorical_crossentropy(
                y, log_p, from_logits=True
            )

        gradient = backend.input_gradient(loss, x + delta)
        length = step_size * epsilon
        return step_in_ball(x, delta, gradient, epsilon, length, bounds)

    def attack(x, y, epsilon):
        epsilon = epsilon.reshape(-1, *[1] * (x.ndim - 1))
        delta = ops.zeros_like(x)
        for _ in range(num_steps):
            delta = step(x, delta, y, epsilon)
        return x + ops.convert_to_numpy(delta)

    return attack_in_batches(attack, x, y, epsilon, bounds, size, verbose)

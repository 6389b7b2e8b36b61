from keras_smoothing import backend
from keras_smoothing.attacks.examples import target


def foolbox_model(model, *, num_draws=1, from_logits=None, bounds=(0.0, 1.0)):
    """Wraps a model for foolbox's attacks.

    Its logits are the logarithms of the mean probabilities over `num_draws`
    passes, so each step of an attack averages gradients over the noise. The
    logit of a masked class is -1e30, and non-finite gradients count as 0.
    foolbox reports success on the passes that it saw. Evaluate its examples
    with fresh passes, using `ks.evaluation.robust_accuracy`.

    Args:
        model: Keras classifier, such as `SmoothedModel` or
            `RandomSelfEnsemble`.
        num_draws: int >= 1.
        from_logits: bool, whether the model returns logits; None for a
            `RandomSelfEnsemble`.
        bounds: (low, high), the bounds of adversarial examples.

    Returns:
        `foolbox.TensorFlowModel`.

    Raises:
        ImportError: if foolbox is missing.
        ValueError: if an argument is not as described.

    Example:

    ```python
    import foolbox
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    fmodel = ks.attacks.foolbox_model(model, num_draws=16, from_logits=True)
    x = keras.ops.full((4, 8), 0.5)
    y = keras.ops.convert_to_tensor([0, 1, 0, 1], "int64")
    attack = foolbox.attacks.L2PGD(steps=10)
    _, attacked, _ = attack(fmodel, x, y, epsilons=0.5)
    ```

    Reference:
    - [Rauber et al., 2020](https://doi.org/10.21105/joss.02607)
    """
    try:
        import foolbox
    except ImportError as error:
        raise ImportError(
            "This needs foolbox: pip install keras_smoothing[attacks]"
        ) from error
    ensemble = target(model, num_draws, from_logits)
    return foolbox.TensorFlowModel(
        backend.compile(ensemble.log_probabilities), bounds
    )

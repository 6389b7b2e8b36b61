from keras_smoothing import checks
from keras_smoothing.answers.packing import Packing
from keras_smoothing.noise import Noise
from keras_smoothing.noise.one_input import OneInput
from keras_smoothing.noise.valid_steps import ValidSteps


def input_noise(noise, model):
    """The noise of a model's examples, out of what a user said of its inputs.

    Args:
        noise: `Noise` for a model with one input; or a dict with the noise of
            one input by its name.
        model: Keras model.

    Returns:
        `Noise`: of a model with several inputs a `OneInput`.

    Raises:
        ValueError: if it is neither, or does not say which of several inputs,
            or says another that is not there.
    """
    names = [x.name for x in getattr(model, "inputs", None) or []]
    if not isinstance(noise, dict):
        checks.instance("noise", noise, Noise, "Gaussian(sigma=0.25)")
        if len(names) > 1:
            raise ValueError(
                "Expected `noise` to name the input that it is added to, for a "
                f"base model with inputs {names}, such as noise="
                f"{{{names[0]!r}: {noise}}}. Received: noise={noise}"
            )
        return noise
    if len(noise) != 1:
        raise ValueError(
            "Expected `noise` of one input, which may move while the others "
            "stay: noise on several proves a radius of all together, and none "
            f"of each. Received: noise of {list(noise)}"
        )
    ((name, noise),) = noise.items()
    if name not in names:
        raise ValueError(
            "Expected `noise` of one of the base model's inputs, which a "
            f"functional model names: {names}. Received: noise of {name!r}"
        )
    checks.instance(f"noise[{name!r}]", noise, Noise, "Gaussian(sigma=0.25)")
    if len(names) == 1:
        return noise
    return OneInput(noise, name, Packing(model, name).shape)


def as_given(noise):
    """Noise as a user says it: `input_noise`, and masks, undone."""
    if isinstance(noise, OneInput):
        return {noise.input: as_given(noise.noise)}
    return noise.noise if isinstance(noise, ValidSteps) else noise

import keras

from keras_smoothing.answers.output_spec import output_spec


def numbers_shape(model, shape):
    """The shape of one answer of a model that returns real numbers.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.

    Returns:
        tuple of ints.

    Raises:
        ValueError: unless the model's output is `(batch, ...)`, of sizes known
            for such examples and of floating type.
    """
    output = output_spec(model, shape)
    answer = tuple(getattr(output, "shape", ()))[1:]
    known = None in shape or all(answer)  # Sizes that are None, or 0.
    if not (answer and known and keras.backend.is_float_dtype(output.dtype)):
        raise ValueError(
            "Expected a base model with one output (batch, ...) of real "
            f"numbers, of a known shape and floating type. Received: output "
            f"{output}"
        )
    return answer

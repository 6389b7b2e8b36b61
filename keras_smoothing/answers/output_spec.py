import keras


def output_spec(model, shape):
    """What a model returns for examples of a shape, by Keras's account.

    Args:
        model: Keras model.
        shape: tuple of ints or None, the shape of an example.

    Returns:
        `keras.KerasTensor`, or a structure of them.
    """
    examples = keras.KerasTensor((None, *shape), dtype="float32")
    return only_one(model.compute_output_spec(examples))


def only_one(outputs):
    """The output in a list of one, which a call of the model returns bare."""
    if isinstance(outputs, list | tuple) and len(outputs) == 1:
        return outputs[0]
    return outputs

import keras


def advice_without_scores(output):
    """The end of an error about outputs that are no scores of classes; or "".

    Args:
        output: `keras.KerasTensor`, or a structure of them.
    """
    shape = getattr(output, "shape", None)
    if shape is None:
        return ""
    if not keras.backend.is_float_dtype(output.dtype):
        return (
            " Integers are numbers of classes: leave out the argmax, so that "
            "a score of each class comes out."
        )
    if len(shape) == 1:
        return (
            " For one number of each example, that of class 1, end the model "
            "in keras.layers.Reshape((1,)): (batch, 1) is a binary one."
        )
    return ""

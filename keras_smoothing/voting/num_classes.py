from keras_smoothing.answers import advice_without_scores
from keras_smoothing.answers import output_spec


def num_classes(base_model, shape):
    """Classes of a model for examples of a shape.

    Raises:
        ValueError: unless the model's output is `(batch, classes)`.
    """
    output = output_spec(base_model, shape)
    output_shape = getattr(output, "shape", ())
    if len(output_shape) != 2 or (output_shape[1] or 0) < 2:
        raise ValueError(
            "Expected a base model with output shape (batch, classes), at "
            f"least 2 classes. Received: output {output}. "
            "`ks.SmoothedSegmentation` is for a class of each pixel."
            + advice_without_scores(output)
        )
    return output_shape[1]

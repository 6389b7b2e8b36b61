import keras


def num_classes(base_model, shape):
    """Classes of a model for examples of a shape.

    Raises:
        ValueError: unless the model's output is `(batch, classes)`.
    """
    example = keras.KerasTensor((None, *shape), dtype="float32")
    output = base_model.compute_output_spec(example)
    output_shape = getattr(output, "shape", ())
    if len(output_shape) != 2 or (output_shape[1] or 0) < 2:
        raise ValueError(
            "Expected a base model with output shape (batch, classes), at "
            f"least 2 classes. Received: output {output}"
        )
    return output_shape[1]

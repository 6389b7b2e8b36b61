import keras

from keras_smoothing.certificates import checks


@keras.saving.register_keras_serializable(package="keras_smoothing")
class FixedPointCorrection(keras.losses.Loss):
    """A loss over several iterates of an equilibrium, with rising weights.

    Among n predictions, the k-th (from 0) has weight `gamma ** (n - k - 1)`.
    The loss trains the equilibrium model to predict well after few steps. The
    model must stack its predictions from all iterates along axis 1.

    Args:
        loss: loss of one prediction, as in `keras.Model.compile`.
        gamma: float in (0, 1].
        name: str.
        **kwargs: as in `keras.losses.Loss`.

    Raises:
        ValueError: if `gamma` is not in (0, 1].

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(16)
    solve = ks.layers.DeepEquilibrium(
        cell, solver=ks.equilibrium.FixedPointIteration(max_iter=3)
    )
    head = keras.layers.Dense(10)
    x = keras.Input((8,))
    iterates = [solve(x)]
    for _ in range(2):
        iterates.append(solve(x, z_init=iterates[-1]))
    predictions = keras.ops.stack([head(z) for z in iterates], axis=1)
    model = keras.Model(x, predictions)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(True)
    model.compile("adam", ks.equilibrium.FixedPointCorrection(cross_entropy))
    deployed = keras.Model(x, head(solve(x)))
    ```

    Reference:
    - [Bai, Geng, Savani and Kolter, 2022](https://arxiv.org/abs/2204.08442)
    """

    def __init__(
        self, loss, gamma=0.8, name="fixed_point_correction", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.loss = keras.losses.get(loss)
        self.gamma = checks.positive_share("gamma", gamma)

    def call(self, y_true, y_pred):
        # A loss object averages over the batch; its `call` does not.
        loss = getattr(self.loss, "call", self.loss)
        count = y_pred.shape[1]
        return sum(
            self.gamma ** (count - k - 1) * loss(y_true, y_pred[:, k])
            for k in range(count)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "loss": keras.losses.serialize(self.loss),
            "gamma": self.gamma,
        }

    @classmethod
    def from_config(cls, config):
        loss = keras.losses.deserialize(config["loss"])
        return cls(**{**config, "loss": loss})

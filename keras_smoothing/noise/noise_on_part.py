import keras

from keras_smoothing.noise.noise import Noise


class NoiseOnPart(Noise):
    """Noise on a part of each example, with the law of that part. Base class.

    Args:
        noise: `keras_smoothing.noise.Noise` of the part.
    """

    def __init__(self, noise):
        self.noise = noise

    @property
    def norm(self):
        return self.noise.norm

    @property
    def stddev(self):
        return self.noise.stddev

    def radius(self, p_lower):
        return self.noise.radius(p_lower)

    def soft_radius(self, p1, p2):
        return self.noise.soft_radius(p1, p2)

    def shifted(self, p, distance):
        return self.noise.shifted(p, distance)

    def total_variation(self, distance):
        return self.noise.total_variation(distance)

    def get_config(self):
        return {"noise": keras.saving.serialize_keras_object(self.noise)}

    @classmethod
    def from_config(cls, config):
        noise = keras.saving.deserialize_keras_object(config["noise"])
        return cls(**{**config, "noise": noise})

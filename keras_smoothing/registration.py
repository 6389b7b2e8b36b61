"""What needs no Keras, and is saved by it all the same."""

import keras

from keras_smoothing import certificates

for kind in (
    certificates.AdaptiveSampling,
    certificates.AuditedClaim,
    certificates.BoxClaim,
    certificates.Claim,
    certificates.FixedSampling,
    certificates.LabelClaim,
    certificates.MedianClaim,
    certificates.PixelClaim,
):
    keras.saving.register_keras_serializable(package="keras_smoothing")(kind)

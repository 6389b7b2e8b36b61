"""A smoothed classifier without Keras."""

from keras_smoothing.export.export_model import export_model as export_model

"""The command `keras-smoothing`: one file for each of its own commands."""

from keras_smoothing.cli.command import main as main

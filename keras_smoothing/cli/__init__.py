"""The command `keras-smoothing`, with one file for each subcommand."""

from keras_smoothing.cli.command import main as main

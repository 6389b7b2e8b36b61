import argparse

from keras_smoothing.cli.printable import printable


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, like every other error."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {printable(message)}\n")

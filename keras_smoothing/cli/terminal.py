import argparse
import re


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, like every other error."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {printable(message)}\n")


# `user:password@` of an address, with any password, and libpq's other forms.
# It is better to leave out too much than too little.
_USER = re.compile(r"(\w://[^\s:@]*):.*@")
_PASSWORD = re.compile(r"(passw(?:or)?d\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)")


def printable(text, lines=False):
    r"""Text for a terminal or a log, without control characters or passwords.

    File names, arguments and messages of other packages come from outside. If
    they were printed unchanged, an escape sequence could change the terminal,
    and a line break could start a line that looks like ours.

    Args:
        text: str.
        lines: bool, whether the text has several lines, so that line breaks and
            tabs are kept.

    Returns:
        str, with all other unprintable characters escaped as in Python, such as
        `\x1b`, and without the passwords of addresses.
    """
    kept = "\n\t" if lines else ""
    text = _USER.sub(r"\1:***@", text)
    text = _PASSWORD.sub(r"\1***", text)
    return "".join(
        character
        if character.isprintable() or character in kept
        else ascii(character)[1:-1]
        for character in text
    )


def show(text):
    """Prints lines for the user of the command."""
    print(printable(text, lines=True), flush=True)

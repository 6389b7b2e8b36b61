import argparse
import re


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, like every other error."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {printable(message)}\n")


# `user:password@` of an address, whatever is in the password, and libpq's
# other ways of saying it. Rather too much is left out than too little.
_USER = re.compile(r"(\w://[^\s:@]*):.*@")
_PASSWORD = re.compile(r"(passw(?:or)?d\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)")


def printable(text, lines=False):
    r"""Text for a terminal, or a log: no control characters, no passwords.

    File names, arguments and messages of other packages come from outside.
    Written as they are, an escape sequence would change the terminal, and a
    line break would begin a line that looks like ours.

    Args:
        text: str.
        lines: bool, whether it has several lines, so that line breaks and tabs
            stay as they are.

    Returns:
        str, with each other character that cannot be seen as Python writes it,
        such as `\x1b`, and without passwords of addresses.
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
    """Prints lines for whoever ran the command."""
    print(printable(text, lines=True), flush=True)

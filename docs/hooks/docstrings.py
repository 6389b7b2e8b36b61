"""Docstrings as Markdown reads them."""

import re

import griffe


class Headings(griffe.Extension):
    """What is no section of its own is set off, and so is a list after it."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^(Example|Reference):\n+(?=\S)",
                r"**\1:**\n\n",
                obj.docstring.value,
                flags=re.M,
            )

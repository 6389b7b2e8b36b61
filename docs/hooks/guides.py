"""Runs the Python of the pages, and puts what it prints and draws below it.

A page is one program: its blocks share their names. One that fails ends the
build with the page and the line. `DOCS_RUN=no` in the environment leaves it
out, for who writes text.
"""

import contextlib
import io
import os
import pathlib
import re
import sys
import tempfile
import textwrap
import traceback
import warnings

from mkdocs.exceptions import PluginError

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from drawings import drawing_style
from drawings import take_drawings
from measured import with_tables
from notebooks import link_to_notebook
from notebooks import notebook_files

BLOCK = re.compile(r"^```python\n(.*?)^```$\n?", re.M | re.S)


def on_page_markdown(markdown, page, config, files):
    path = pathlib.Path(page.file.abs_src_path)
    if os.environ.get("DOCS_RUN") != "no":
        markdown = run(path.read_text(), os.path.relpath(path))
    return link_to_notebook(with_tables(markdown), path)


def on_files(files, config):
    for file in notebook_files(config):
        files.append(file)


def run(text, name):
    """The page with outputs.

    Args:
        text: str, Markdown.
        name: str, of the page in messages.

    Returns:
        str, Markdown.

    Raises:
        PluginError: if a block fails; with the page and the line.
    """
    names, parts, end = {"__name__": "__main__"}, [], 0
    # What a page writes goes with it.
    folder = tempfile.TemporaryDirectory()
    with drawing_style(), folder as path, contextlib.chdir(path):
        for block in BLOCK.finditer(text):
            parts.append(text[end : block.end()])
            end = block.end()
            # Lines before it are empty, so that numbers are those of the page.
            lines = text.count("\n", 0, block.start(1)) * "\n"
            printed = _execute(lines + block[1], names, name)
            if printed:
                parts.append(f'\n```text title="Output"\n{printed}\n```\n')
            parts += take_drawings()
    return "".join([*parts, text[end:]])


def _execute(code, names, name):
    output = io.StringIO()

    def show(message, category, *_, **__):
        text = f"{category.__name__}: {message}"
        print(textwrap.fill(text, 80), file=output)

    try:
        with contextlib.redirect_stdout(output), warnings.catch_warnings():
            # Those for developers say nothing to readers.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show
            exec(compile(code, name, "exec"), names)  # noqa: S102
    except Exception as error:
        line = getattr(error, "lineno", None)
        for frame in traceback.extract_tb(error.__traceback__):
            line = frame.lineno if frame.filename == name else line
        raise PluginError(
            f"{name}, line {line}: {type(error).__name__}: {error}"
        ) from error
    return output.getvalue().strip("\n")

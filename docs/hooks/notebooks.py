"""Pages as notebooks, without outputs."""

import pathlib
import re

from measured import with_tables

NOTEBOOKS = ("certify_your_model", "which_method", "equilibrium_networks")


def link_to_notebook(markdown, path):
    """The page with a link to its notebook below the title, if it has one."""
    if path.stem not in NOTEBOOKS:
        return markdown
    link = f"[This page as a notebook]({path.stem}.ipynb){{ download }}"
    return re.sub(r"^(# .*)$", rf"\1\n\n{link}", markdown, count=1, flags=re.M)


def notebook(path):
    """A page as a notebook.

    Args:
        path: `pathlib.Path` of the Markdown.

    Returns:
        `nbformat.NotebookNode`.
    """
    import jupytext

    text = with_tables(path.read_text())
    # Links to pages of the site lead to where the site has them; those to names
    # of the reference are words.
    text = re.sub(r"\]\(([\w/.]+)\.md(#[\w-]+)?\)", r"](\1.html\2)", text)
    text = re.sub(r"\[([^\]]+)\]\[keras_smoothing[\w.]*\]", r"\1", text)
    made = jupytext.reads(text, fmt="md")
    made.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    return made


def notebook_files(config):
    """The notebooks, as files of the site beside their pages."""
    import nbformat
    from mkdocs.structure.files import File

    for name in NOTEBOOKS:
        path = pathlib.Path(config.docs_dir) / "guides" / f"{name}.md"
        content = nbformat.writes(notebook(path))
        yield File.generated(config, f"guides/{name}.ipynb", content=content)

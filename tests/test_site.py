"""The site: its pages, its code, its links, and what is said around it."""

import ast
import importlib
import inspect
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types
import zlib

import pytest
import yaml
from test_imports import ORDER

import keras_smoothing as ks
from keras_smoothing import serving

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(autouse=True)
def _hooks(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "hooks")
    monkeypatch.syspath_prepend(DOCS / "scripts")


def public_names():
    """Full names of all that the package and its public modules export."""
    found, modules = set(), [ks, serving]
    while modules:
        module = modules.pop()
        for name in exported(module):
            value = getattr(module, name)
            if isinstance(value, types.ModuleType):
                modules.append(value)
            else:
                found.add(f"{module.__name__}.{name}")
    return found


def exported(module):
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (a.name for a in node.names if a.asname == a.name)
    if pathlib.Path(module.__file__).name != "__init__.py":
        yield from (
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
        )


def referenced():
    pages = [path.read_text() for path in (DOCS / "reference").glob("*.md")]
    return re.findall(r"^::: ([\w.]+)$", "\n".join(pages), re.M)


def test_every_public_name_has_an_entry_of_its_own():
    names = referenced()
    assert public_names() - set(names) == set()
    assert len(names) == len(set(names))


def test_entries_are_names_that_exist():
    for name in referenced():
        module, attribute = name.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), attribute), name


def test_a_page_is_one_program(tmp_path):
    import guides
    import matplotlib.pyplot as plt

    plt.close("all")  # Those that other tests have left.
    text = (
        "# Title\n\n```python\nimport warnings\nx = 3\nprint(x)\n```\n\nText.\n"
        "\n```python\nimport matplotlib.pyplot as plt\nplt.plot([x, 2])\n"
        "warnings.warn('careful')\n```\n\nThe end.\n"
    )
    page = guides.run(text, "page.md")
    assert page.startswith(text[: text.index("\nText")])
    assert '```text title="Output"\n3\n```' in page
    parts = ("Text.", "\nUserWarning: careful\n", "<svg", "The end.")
    assert sorted(parts, key=page.index) == list(parts)
    # In the colours of the page, and nothing that Markdown would cut.
    drawing = re.search(r'<div class="drawing">.*</div>', page, re.S)[0]
    assert "currentColor" in drawing and "#010203" not in drawing
    assert "\n\n" not in drawing and "<metadata>" not in drawing


@pytest.mark.parametrize(
    "line,code,kind",
    [
        (6, "x = 1\n\nx.nothing", "AttributeError"),
        (5, "x = 1\nx = = 2", "SyntaxError"),
        (5, "def f():\n    return 1 / 0\n\n\nf()", "ZeroDivisionError"),
    ],
)
def test_code_that_fails_is_named_by_page_and_line(line, code, kind):
    import guides
    from mkdocs.exceptions import PluginError

    with pytest.raises(PluginError, match=rf"page.md, line {line}: {kind}"):
        guides.run(f"# Title\n\n```python\n{code}\n```\n", "page.md")


def site_of(folder, pages, **environment):
    """Builds a site from texts by path, with the hooks of ours."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    del config["nav"], config["exclude_docs"]
    config["hooks"] = [str(ROOT / hook) for hook in config["hooks"]]
    options = config["plugins"][-1]["mkdocstrings"]["handlers"]["python"]
    options["paths"] = [str(ROOT)]
    options["options"]["extensions"] = [str(DOCS / "hooks" / "docstrings.py")]
    (folder / "docs").mkdir()
    shutil.copytree(DOCS / "assets", folder / "docs" / "assets")
    for name in ("certify_your_model", "which_method", "equilibrium_networks"):
        pages = {f"guides/{name}.md": "# A guide", **pages}
    for path, text in pages.items():
        file = folder / "docs" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(config))
    return build(folder, folder / "site", **environment)


def build(folder, site, **environment):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)],
        cwd=folder,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "DOCS_RUN": "no",
            **environment,
        },
        capture_output=True,
        text=True,
    )


def test_a_guide_that_fails_fails_the_build(tmp_path):
    page = "# A guide\n\n```python\nprint(1)\n\nprint(undefined)\n```\n"
    built = site_of(tmp_path, {"guides/bad.md": page}, DOCS_RUN="yes")
    assert built.returncode != 0
    assert "docs/guides/bad.md, line 6: NameError" in built.stderr


@pytest.mark.parametrize(
    "problems",
    [
        {
            "[there](nowhere.md)": "'nowhere.md'",
            "[there](index.md#nothing)": "no such anchor",
            "[there][keras_smoothing.Missing]": "'keras_smoothing.Missing'",
        },
        {
            '<a href="nowhere.html">there</a>': "nowhere.html, which",
            '<a href="index.html#no">there</a>': "index.html#no: no such",
            '<script src="https://example.org/x.js"></script>': "example.org",
        },
        {"::: keras_smoothing.Nothing": "keras_smoothing.Nothing"},
    ],
)
def test_what_leads_nowhere_fails_the_build(tmp_path, problems):
    text = "\n\n".join(["# Start", *problems])
    built = site_of(tmp_path, {"index.md": text})
    assert built.returncode != 0
    for problem in problems.values():
        assert problem in built.stdout + built.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, with no code run."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_the_reference_is_built_from_docstrings(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(inventory).decode().splitlines()
    names = {line.split(" ")[0] for line in lines}
    assert public_names() <= names
    assert "keras_smoothing.SmoothedModel.certify" in names
    page = (site / "reference" / "noise.html").read_text()
    assert "<strong>Reference:</strong>" in page
    assert '<li><a href="https://arxiv.org/abs/1902.02918">' in page


def test_the_index_of_the_search_is_a_script(site):
    index = (site / "search" / "search_index.js").read_text()
    documents = json.loads(index.removeprefix("var __index = "))["docs"]
    assert any("abstain" in document["text"] for document in documents)


def test_pages_come_as_notebooks(site):
    import nbformat

    for name in ("certify_your_model", "which_method", "equilibrium_networks"):
        made = nbformat.read(site / "guides" / f"{name}.ipynb", as_version=4)
        nbformat.validate(made)
        page = (DOCS / "guides" / f"{name}.md").read_text()
        code = [c.source for c in made.cells if c.cell_type == "code"]
        blocks = re.findall(r"```python\n(.*?)\n```", page, re.S)
        assert code == blocks
        text = "".join(c.source for c in made.cells)
        for link in re.findall(r"\]\(([^):]*)\)", text):
            assert (site / "guides" / link.split("#")[0]).exists(), link
        assert (
            f'href="{name}.ipynb"'
            in (site / "guides" / f"{name}.html").read_text()
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["certify_your_model", "which_method", "equilibrium_networks"]
)
def test_notebooks_run(name, tmp_path):
    import nbclient
    import notebooks

    page = DOCS / "guides" / f"{name}.md"
    made = notebooks.notebook(page)
    nbclient.NotebookClient(
        made, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    # An error would have been raised; what a page says is printed.
    outputs = [o for c in made.cells for o in c.get("outputs", ())]
    assert sum(output.output_type == "stream" for output in outputs) > 2
    drawn = any("image/png" in output.get("data", ()) for output in outputs)
    assert drawn == (".plot(" in page.read_text())


@pytest.mark.slow
def test_pages_are_drawn_and_searched_without_a_server(site, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("There is no Chromium to look with.")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu"]
    command += ["--disable-quic", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--hide-scrollbars"]
    command += ["--disable-component-update", "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={tmp_path}"]
    for page in (
        "index.html",
        "guides/what_a_certificate_says.html",
        "reference/smoothed_model.html",
    ):
        for width in (1280, 390):
            picture = tmp_path / "picture.png"
            url = (site / page).as_uri()
            options = [f"--screenshot={picture}", f"--window-size={width},800"]
            subprocess.run(
                [*command, *options, url], check=True, capture_output=True
            )
            assert picture.stat().st_size > 10_000
            picture.unlink()
    url = (site / "index.html").as_uri() + "?q=abstention"
    found = subprocess.run(
        [*command, "--dump-dom", url], check=True, capture_output=True
    ).stdout.decode()
    assert "what_a_certificate_says.html?h=abstention" in found


def headings(path):
    """The anchors of a Markdown file, as sites and hosts make them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    words = (re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles)
    return {re.sub(r"\s+", "-", title) for title in words}


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
)
def test_links_of_the_repository_lead_somewhere(name):
    text = (ROOT / name).read_text()
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        if anchor:
            assert anchor in headings(ROOT / path), link


def test_the_readme_is_two_screens():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for page in (DOCS / "guides").glob("*.md"):
        assert f"](docs/guides/{page.name})" in text


def test_the_map_of_the_modules_is_that_of_the_imports():
    import modules

    assert modules.PICTURE.read_text() == modules.picture(), (
        "Draw it anew: python docs/scripts/modules.py"
    )
    # And the imports are those that test_imports.py allows.
    above = [
        module for row in modules.rows(modules.imports()) for module in row
    ]
    assert sorted(above) == sorted(ORDER)
    for module, others in modules.imports().items():
        assert all(above.index(module) < above.index(other) for other in others)


def test_the_citation_is_valid():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    for work in (citation, *citation["references"]):
        for author in work["authors"]:
            assert set(author) <= {"name", "family-names", "given-names"}


def test_stored_figures_are_those_of_the_script():
    stored = json.loads((DOCS / "data" / "methods.json").read_text())
    assert stored["seeds"] >= 3
    assert set(stored["runs"]) == {row["method"] for row in stored["rows"]}
    assert all(set(row) == set(stored["columns"]) for row in stored["rows"])

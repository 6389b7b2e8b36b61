"""The direction of imports, and what importing the package brings along."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_smoothing"

# From the front door down: a part may import those after it, and itself.
ORDER = [
    "cli",
    "serving",
    "attacks",
    "models",
    "training",
    "export",
    "certify",
    "cluster",
    "logs",
    "results",
    "report",
    "memory",
    "serialized",
    "insertion",
    "sigma_search",
    "sampling",
    "base_model",
    "applications",
    "callbacks",
    "layers",
    "equilibrium",
    "registration",
    "evaluation",
    "groups",
    "noise",
    "datasets",
    "backend",
    "l2",
    "utils",
    "private_files",
    "certificates",
    "version",
]

NUMPY_AND_SCIPY_ONLY = [
    *PACKAGE.glob("evaluation/*.py"),
    *PACKAGE.glob("memory/*.py"),
    *(
        path
        for path in PACKAGE.glob("certificates/*.py")
        if path.name != "saved_model.py"
    ),
]


def imports(path):
    """Full names of all that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # Of certificates, which import each other so.
                module = f"keras_smoothing.certificates.{module}".rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE) + [
    p for p in sorted(PACKAGE.glob("*.py")) if p.name != "__init__.py"
]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_imports_go_one_way(path):
    allowed = ORDER[ORDER.index(part(path)) :]
    for name in imports(path):
        if name.startswith("keras_smoothing."):
            assert name.split(".")[1] in allowed, name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_only_the_backend_imports_a_framework(path):
    if part(path) != "backend" and path.name != "saved_model.py":
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"tensorflow", "jax", "torch"}


@pytest.mark.parametrize("path", NUMPY_AND_SCIPY_ONLY, ids=lambda p: p.stem)
def test_statistics_need_numpy_and_scipy_only(path):
    roots = {name.split(".")[0] for name in imports(path)}
    standard = set(sys.stdlib_module_names)
    assert roots <= standard | {
        *("numpy", "scipy", "keras_smoothing", "matplotlib", "psycopg"),
    }


def test_no_module_is_private_to_keras():
    for path in MODULES:
        assert not any(n.startswith("keras.src") for n in imports(path)), path


@pytest.mark.slow
def test_importing_the_package_imports_no_extra():
    # Keras imports some of them itself where they are installed.
    script = (
        "import sys, keras, scipy.stats\n"
        "before = set(sys.modules)\n"
        "import keras_smoothing\n"
        "extras = {'tensorflow_probability', 'tensorflow_datasets',"
        " 'matplotlib', 'foolbox', 'pandas', 'sklearn', 'psycopg',"
        " 'fastapi', 'uvicorn', 'prometheus_client'}\n"
        "print(sorted(extras & (set(sys.modules) - before)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True
    ).stdout
    assert output.decode().strip() == "[]"


@pytest.mark.slow
def test_another_backend_is_named():
    script = (
        "import sys, types\n"
        "import keras\n"
        "keras.backend.backend = lambda: 'jax'\n"
        "import keras_smoothing"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True
    )
    assert b"Received: KERAS_BACKEND=jax" in process.stderr

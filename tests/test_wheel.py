"""What is released."""

import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import keras_smoothing as ks

ROOT = pathlib.Path(__file__).parents[1]
IGNORED = shutil.ignore_patterns(".*", "build", "dist", "site", "*.egg-info")


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT, folder / "checkout", ignore=IGNORED)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "checkout"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder / "checkout" / "dist"


def test_the_wheel_holds_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    stem = f"keras_smoothing-{ks.__version__}"
    assert wheel.name == f"{stem}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = (ROOT / "keras_smoothing").rglob("*.py")
    expected = {str(path.relative_to(ROOT)) for path in modules}
    information = {n for n in names if n.startswith(f"{stem}.dist-info/")}
    assert names - information == expected
    assert f"{stem}.dist-info/entry_points.txt" in information
    metadata = zipfile.ZipFile(wheel).read(f"{stem}.dist-info/METADATA")
    assert f"\nVersion: {ks.__version__}\n" in metadata.decode()


def test_the_sdist_holds_what_tests_and_site_need(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        *("tests/test_wheel.py", "examples/quickstart.py", "mkdocs.yml"),
        *("docs/guides/extend.md", "benchmarks/README.md", "CHANGELOG.md"),
        *("CITATION.cff", "Makefile", "LICENSE", "docs/data/methods.json"),
    } <= names

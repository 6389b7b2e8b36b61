import os
import stat

import pytest

from keras_smoothing import private_files

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes are of Unix")


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.parametrize("setgid, expected", [(False, 0o600), (True, 0o660)])
def test_files_are_for_their_owner_or_the_group_of_the_folder(
    setgid, expected, tmp_path, umask
):
    tmp_path.chmod(0o2770 if setgid else 0o777)
    private_files.create(tmp_path / "new")
    private_files.replace(tmp_path / "whole", b"data")
    assert mode(tmp_path / "new") == mode(tmp_path / "whole") == expected
    assert (tmp_path / "whole").read_bytes() == b"data"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "whole"]


def test_what_is_there_is_not_created_again(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in "file", "link":
        with pytest.raises(FileExistsError):
            private_files.create(tmp_path / name)
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    private_files.replace(tmp_path / "link", b"data")
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "link").is_symlink()


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("kept")

    def fail(file):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        private_files.replace(path, b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "kept"

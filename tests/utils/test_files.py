import os
import stat
import tarfile

import pytest

from msun_lite.data.archives import unpack
from msun_lite.utils.files import atomic_write, whole_folder, write_text


@pytest.fixture(params=[0o077, 0o027, 0o002])
def mask(request):
    """Set a umask, and return it."""
    previous = os.umask(request.param)
    yield request.param
    os.umask(previous)


def _modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def test_files_and_folders_have_the_rights_that_the_umask_leaves(tmp_path, mask, tar):
    archive = tar("x.tar", {"sub/a": b"1"})
    with tarfile.open(archive, "a") as opened:
        closed = tarfile.TarInfo("b")
        closed.mode = 0o600
        opened.addfile(closed)
    with whole_folder(tmp_path / "folder") as part:
        unpack(archive, part)
        write_text(part / "c", "new")
        write_text(part / "c", "newer")
    file, folder = 0o666 & ~mask, 0o777 & ~mask
    assert _modes(tmp_path / "folder") == {"sub": folder, "a": file, "b": file, "c": file}
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder


def test_a_file_that_fails_leaves_the_previous_one_and_nothing_else(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(TypeError), atomic_write(tmp_path / "a") as file:
        file.write("text")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}

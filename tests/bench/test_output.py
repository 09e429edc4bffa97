"""Files appear whole or not at all, and replace nothing unless told to."""

import os
import stat

import pytest

from mplinalg.bench import output
from mplinalg.bench.output import check_output, replacing


def write(path, content, **options):
    with replacing(path, **options) as file:
        file.write(content)


def test_a_new_file_has_the_content_and_the_usual_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "x", b"new")
    finally:
        os.umask(old)
    assert (tmp_path / "x").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["x"]


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(ValueError, match=r"is kept; use --force to replace it$"):
        write(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_force_replaces_and_keeps_the_permissions(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "x").chmod(0o604)
    write(tmp_path / "x", b"new", force=True)
    assert (tmp_path / "x").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o604
    assert os.listdir(tmp_path) == ["x"]


def test_force_without_an_existing_file(tmp_path):
    write(tmp_path / "x", b"new", force=True)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)

    def overtaken():
        with replacing(tmp_path / "x") as file:
            file.write(b"new")
            (tmp_path / "x").write_bytes(b"faster")

    with pytest.raises(ValueError, match="exists already and is kept"):
        overtaken()
    assert (tmp_path / "x").read_bytes() == b"faster"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    write(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


def no_links(source, target):
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_behind_when_writing_fails(tmp_path, force, error):
    if force:
        (tmp_path / "x").write_bytes(b"old")
    before = os.listdir(tmp_path)

    def interrupted():
        with replacing(tmp_path / "x", force=force) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert os.listdir(tmp_path) == before
    assert not force or (tmp_path / "x").read_bytes() == b"old"


def test_nothing_is_left_behind_when_renaming_fails(tmp_path, monkeypatch):
    def fails(source, target):
        raise OSError("no")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no"):
        write(tmp_path / "x", b"new")
    assert os.listdir(tmp_path) == []


def test_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    steps = []
    sync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), sync(fd)))
    monkeypatch.setattr(os, "link", lambda s, t: (steps.append("link"), link(s, t)))
    write(tmp_path / "x", b"new")
    assert steps[:2] == ["fsync", "link"]


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "alias").symlink_to("real")
    write(tmp_path / "alias", b"new", force=True)
    assert (tmp_path / "alias").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_long_names_fit(tmp_path):
    name = "x" * 255
    write(tmp_path / name, b"new")
    assert os.listdir(tmp_path) == [name]


def test_check_output_finds_what_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="does not exist"):
        check_output(tmp_path / "missing" / "x")
    with pytest.raises(ValueError, match="it is a folder"):
        check_output(tmp_path, force=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        check_output(tmp_path / "pipe", force=True)
    monkeypatch.setattr(output.os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="no permission"):
        check_output(tmp_path / "x")

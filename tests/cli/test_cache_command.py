"""`p2mbatch cache`: where, how large, clear; and EOFError, which is no interruption."""

import os
import subprocess
import sys

import pytest

import p2mbatch.cli as command_line


def run(*arguments, folder):
    environment = {**os.environ, "P2MBATCH_CACHE_DIR": str(folder), "P2MBATCH_BOUNDSCHECK": ""}
    return subprocess.run(
        [sys.executable, "-m", "p2mbatch", "cache", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_where_how_large_and_clear(tmp_path):
    folder = tmp_path / "kept"
    done = run(folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"where    {folder / 'kernels'}"
    assert "others   0.0 MiB of 0 versions" in done.stdout
    # As numba lays them: each file's in a directory of its own.
    (folder / "kernels" / "older" / "batch_0").mkdir(parents=True)
    (folder / "kernels" / "older" / "batch_0" / "a.kernel").write_bytes(bytes(2 << 20))
    (folder / "kernels" / "older" / "a.kernel").write_bytes(bytes(1 << 20))
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / "file").write_text("x")
    (folder / "kernels" / "link").symlink_to(outside)
    assert "others   3.0 MiB of 1 versions" in run(folder=folder).stdout
    assert "cleared  3.0 MiB" in run("--clear", folder=folder).stdout
    assert not (folder / "kernels" / "older").exists()
    assert (outside / "file").read_text() == "x"


def test_a_directory_that_is_not_trusted_is_nowhere(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    unsafe = tmp_path / "unsafe"
    unsafe.mkdir()
    unsafe.chmod(0o777)
    environment = {**os.environ, "P2MBATCH_CACHE_DIR": str(folder), "TMPDIR": str(unsafe)}
    done = subprocess.run(
        [sys.executable, "-m", "p2mbatch", "cache", "--clear"],
        env={**environment, "P2MBATCH_BOUNDSCHECK": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.startswith("where    nowhere")
    assert done.stderr.count("\n") == 1 and "others may write there" in done.stderr


def test_a_file_that_ends_early_is_no_interruption(monkeypatch, capsys):
    """click takes EOFError for Ctrl-C at a prompt; a damaged file once ended as "interrupted"."""

    def ends(*args, **options):
        raise EOFError("Ran out of input")

    monkeypatch.setattr(command_line.cli.get_command(None, "status"), "invoke", ends)
    with pytest.raises(EOFError):
        command_line.main(["status", "x"])
    assert capsys.readouterr() == ("", "")

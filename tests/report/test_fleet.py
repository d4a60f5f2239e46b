"""`fleet`: a directory of files against planned hosts, one verdict each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from p2mbatch.base.errors import InputError
from p2mbatch.cli import cli
from p2mbatch.report.fleet import planned_hosts

DUMPS = Path(__file__).parents[2] / "data" / "dumps"


def run(*args: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(cli, ["fleet", *args], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.stdout.splitlines()


def test_each_guest_is_judged_on_each_host(tmp_path: Path) -> None:
    folder = tmp_path / "dir"
    folder.mkdir()
    for name in ("stale-64.core.gz", "dense-64.core.gz"):
        shutil.copy(DUMPS / name, folder)
    shutil.copy(DUMPS.parent / "field" / "case-41-linear.xl.gz", folder)
    (folder / "notes.txt").write_text("nothing of the kind")
    hosts = tmp_path / "hosts.csv"
    hosts.write_text("name,memory,xen\nnew,1GiB,4.17\nsmall,16MiB,\n")
    args = (str(folder), "--to", str(hosts), "--out", str(tmp_path / "out"), "--seeds", "2")
    code, lines = run(*args, "--json")
    told = {one["file"]: one for one in map(json.loads, lines)}
    assert told["dense-64.core.gz"]["fate_by_host"] == {"new": "survived", "small": "no room"}
    assert told["dense-64.core.gz"]["verdict"] == "survives"
    assert told["stale-64.core.gz"]["verdict"] == "stuck"
    assert "needs a shutdown" in told["stale-64.core.gz"]["follows"]
    # It can't be imported, and its file says enough.
    linear = told["case-41-linear.xl.gz"]
    assert linear["fate_by_host"] == {"new": "stuck", "small": "stuck"}
    assert linear["follows"].startswith("its file fails the save check (map-ptes-failed 4 0): ")
    assert told["notes.txt"]["verdict"] == "not judged"
    assert code == 1
    code, lines = run(*args, "--fail-on", "never", "--quiet")
    assert code == 0
    assert lines[0].split() == ["guest", "policy", "verdict", "new", "small"]
    assert lines[-1] == "survives: 1, shutdown first: 0, stuck: 2, not judged: 1"


def test_hosts_are_sizes_or_a_table(tmp_path: Path) -> None:
    found = planned_hosts("64GiB/4.17, old=128GiB/4.0,1GiB")
    assert [host.name for host in found] == ["64GiB/4.17", "old", "1GiB"]
    assert [host.memory_bytes >> 30 for host in found] == [64, 128, 1]
    assert [host.xen for host in found] == ["4.17", "4.0", ""]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no host"),
        ("64GiB/4.17/x", "is no host"),
        ("lots", "memory"),
        ("64", "64 bytes are no host: say the unit"),
        ("1GiB/five", "xen"),
        ("1GiB,1GiB", "two hosts '1GiB'"),
    ],
)
def test_what_is_no_host_is_named(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        planned_hosts(text)


def test_a_table_without_memory_is_named(tmp_path: Path) -> None:
    table = tmp_path / "hosts.csv"
    table.write_text("name,size\na,1GiB\n")
    with pytest.raises(InputError, match="line 1: has the columns name, size"):
        planned_hosts(str(table))

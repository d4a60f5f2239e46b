"""Every control character in every string that a command can be given: none of it gets out raw."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import p2mbatch.cli as command_line
from dump_guests import build, core
from p2mbatch.base import provenance, say
from p2mbatch.model.trace_file import load_trace, trace_to_json
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.journal import Journal
from sweep_support import commit, fill, result

PACKAGE = Path(command_line.__file__).parents[1]
ROOT = PACKAGE.parent

CONTROLS = "".join(map(chr, [*range(1, 32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0x200B]))
"""All but NUL, which no argument can hold, and what turns a line around."""

STRANGE = f"a{CONTROLS}\x1b]0;owned\x07\x1b[2J\r\nFORGED: p2mbatch: error: z`b|<b>"

BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\u2028\u200b]")


def clean(text, lines=True):
    found = BAD.search(text)
    assert found is None, ascii(text[max(found.start() - 60, 0) : found.end() + 60])
    if lines:
        assert not re.search("^FORGED", text, re.MULTILINE), ascii(text)


def run(capsys, *arguments):
    """Run a command within this process; return its exit code, stdout and stderr, all looked at."""
    with pytest.raises(SystemExit) as stop:
        command_line.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    clean(out)
    clean(err)
    return stop.value.code, out, err


@pytest.mark.parametrize("character", CONTROLS)
def test_each_control_character_is_shown_as_it_is_written(character):
    shown = say.one_line(f"a{character}b")
    assert shown == f"a{ascii(character)[1:-1]}b"
    assert say.printable(shown) == say.one_line(shown) == shown
    assert character in "\t\n" or say.printable(f"a{character}b") == shown


def test_text_that_is_harmless_stays_as_it_is():
    text = "Grüße, 統計 — “3 × 4”\tµs → ok"
    assert say.printable(text + "\n") == text + "\n"


def every_string_of(command):
    """Yield arguments in each of which one string is the strange one."""
    positional = [p for p in command.params if p.param_type_name == "argument"]
    for chosen in command.params:
        others = [STRANGE if p is chosen else "x" for p in positional]
        if chosen.param_type_name == "argument":
            yield others
        elif not getattr(chosen, "is_flag", False):
            yield [*others, chosen.opts[0], STRANGE]


@pytest.mark.parametrize("name", [n for n in command_line.COMMANDS if n != "bench"])
def test_every_string_of_every_command(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = command_line.cli.get_command(None, name)
    tried = list(every_string_of(command))
    for arguments in [*tried, [STRANGE] * 3, ["--" + STRANGE]]:
        run(capsys, name, *arguments)
    assert len(tried) >= (name == "audit") * 3


def test_a_command_of_no_such_name(capsys):
    code, _, err = run(capsys, STRANGE)
    assert code == 2 and "is no command" in err


@pytest.fixture
def strange_trace(tmp_path):
    value = trace_to_json(load_trace(ROOT / "data/traces/balloon-64-0.json.gz"))
    value["name"] = STRANGE
    path = tmp_path / ("t" + STRANGE.replace("/", "") + ".json")
    path.write_text(json.dumps(value))
    return path, value


def test_names_in_traces(strange_trace, capsys, tmp_path):
    path, value = strange_trace
    assert run(capsys, "replay", path)[0] == 0
    assert run(capsys, "replay", "--json", path)[0] == 0
    run(capsys, "replay", "--check", path)
    value["expected"] = [{STRANGE: STRANGE, "outcome": STRANGE}]
    path.write_text(json.dumps(value))
    assert run(capsys, "replay", "--check", path)[0] == 1
    for form in ("make-core", "make-stream", "anonymise"):
        assert run(capsys, form, path, "-o", tmp_path / f"o{STRANGE.replace('/', '')}")[0] == 0
    assert run(capsys, "lookup", path, "--pfn", "3")[0] == 0
    for key in ("format", "policy"):
        path.write_text(json.dumps(value | {key: STRANGE}))
        assert run(capsys, "replay", path)[0] == 2
    path.write_text(json.dumps(value | {STRANGE: 1}))
    assert run(capsys, "replay", path)[0] == 2
    path.write_text(json.dumps(value | {"events": [{"op": STRANGE}]}))
    assert run(capsys, "replay", path)[0] == 2


def test_names_in_dumps(capsys, tmp_path):
    folder = tmp_path / f"d{STRANGE.replace('/', '')}"
    folder.mkdir()
    data = core(build(11, 8, 24, populated=0.1))
    (folder / "core").write_bytes(data)
    page = folder / "page.html"
    run(capsys, "audit", folder / "core", "--html", page)
    clean(page.read_text(), lines=False)
    assert "<b>" not in page.read_text()
    (folder / "core").write_bytes(data.replace(b".xen_pages", b"\x1b[2J\x07\x9b\r\nFO"))
    assert run(capsys, "audit", folder / "core")[0] == 2
    listing = STRANGE.encode() + b"\n [0x0->0x9] pfn\n [0x9->0xa] " + STRANGE.encode()
    (folder / "text").write_bytes(b" [0x0->0x9] pfn\n" + listing)
    run(capsys, "audit", folder / "text")


@pytest.fixture
def strange_store(tmp_path):
    store = tmp_path / f"s{STRANGE.replace('/', '')}"
    spec = SweepSpec.from_options(memory="1GiB", seeds="3").model_copy(update={"question": STRANGE})
    fill(store, range(2), spec)
    with Journal.open(store) as journal:
        journal.begin_run(provenance.collect(["p2mbatch", STRANGE]) | {"cpu": STRANGE})
        commit(journal, [result(2, "Err" + STRANGE, STRANGE)], 3)
        journal.end_run("done", complete=True)
    return store


def test_questions_messages_and_places_of_stores(strange_store, capsys, tmp_path):
    assert run(capsys, "report", strange_store, "-o", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    clean(page, lines=False)
    assert "<b>" not in page
    code, text, _ = run(capsys, "report", "--markdown", strange_store)
    assert code == 0 and "FORGED" in text
    outside = re.sub(r"(?ms)^(```+)$.*?^\1$", "", text)
    assert re.findall(r"(?<!\\)[`|<]b", outside) == []
    run(capsys, "status", strange_store)
    run(capsys, "status", "--json", strange_store)
    run(capsys, "compare", strange_store, strange_store)
    run(capsys, "plot", strange_store, "survival", "-o", tmp_path / "x.svg")


def test_file_names_that_are_no_text(tmp_path):
    """Bytes of a name that are no UTF-8 are shown, and no traceback."""
    path = os.fsencode(tmp_path) + b"/\xff\x1b[2J"
    done = subprocess.run(
        [sys.executable, "-m", "p2mbatch", "audit", path], capture_output=True, timeout=120
    )
    assert done.returncode == 2
    text = done.stderr.decode()
    clean(text)
    assert text.count("\n") == 1 and "\\udcff" in text


PRINTS = {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}


def test_nothing_else_prints():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in PRINTS or called.endswith(("bar.write", "tqdm.write", ".show")):
                found.append(f"{name}: {ast.unparse(node)}")
    allowed = (
        "base/say.py: bar.write(printable(text), file=file)",
        "bench/ready.py: print(json.dumps(warm_up(sys.argv[2])))",  # for its parent
    )
    assert [f for f in found if f not in allowed] == []


BUG = """
import gc, sys, threading
import p2mbatch.cli as command_line
from p2mbatch.__main__ import main

text = sys.argv.pop(1)

def raise_it(*_):
    raise RuntimeError(text)

class Leftover:
    __del__ = raise_it

def everywhere():
    thread = threading.Thread(target=raise_it, name=text)
    thread.start()
    thread.join()
    left = Leftover()
    del left
    raise_it()

command_line._run = lambda args: everywhere()
sys.argv = ["p2mbatch", "cache"]
main()
"""


def test_the_traceback_of_a_bug_is_printable_wherever_it_is_from():
    """In the command itself, in a thread of it, and in a finaliser."""
    done = subprocess.run(
        [sys.executable, "-c", BUG, STRANGE], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.count("RuntimeError: a\\x01") == 3
    clean(done.stderr, lines=False)

"""The report: it answers from the data, holds everything, escapes what it quotes, stays small."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from p2mbatch import plots
from p2mbatch.base.say import markdown
from p2mbatch.model.fates import CRASHED, ENDS, STUCK
from p2mbatch.report.cells import (
    MAX_CELLS_SHOWN,
    cell_tables,
    failure_table,
    fixed_axes,
    survival_table,
)
from p2mbatch.report.page import write_text
from p2mbatch.report.sweep import html, to_markdown, write_html
from p2mbatch.report.table import Table, TableColumn, show
from p2mbatch.report.words import answer, corruption_answer, operator_answer
from p2mbatch.store.fates import last_rows
from p2mbatch.store.results import SweepResult
from p2mbatch.store.survival import Survival, survival
from report_support import QUESTION, made_up, run
from sweep_support import lived_by, one_line, p2mbatch


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return run(tmp_path_factory.mktemp("report") / "s", policy=["tracked", "stale"])


@pytest.fixture(scope="module")
def page(small: SweepResult) -> str:
    return html(small)


class Elements(HTMLParser):
    """Collects ids, JSON, headings and everything that would be loaded from outside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.data: list[dict[str, Any]] = []
        self.headings: list[str] = []
        self._inside = ""
        self._is_heading = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for name in ("src", "href", "xlink:href"):
            value = given.get(name)
            if value and not value.startswith(("#", "data:")):
                self.outside.append(value)
        self._inside = "json" if given.get("type") == "application/json" else tag
        if tag == "h1":
            self._is_heading = True
            self.headings.append("")

    def handle_data(self, data: str) -> None:
        if self._inside == "json":
            self.data.append(json.loads(data))
        elif self._is_heading:
            self.headings[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self._is_heading = self._is_heading and tag != "h1"


def entry(
    policy: str, migration: int, guests: int, stuck: int, corrupted: int = 0, crashed: int = 0
) -> Survival:
    ends = dict.fromkeys(ENDS, 0) | {STUCK: stuck, CRASHED: crashed}
    return Survival(policy, migration, guests, guests - stuck - crashed, corrupted, ends)


def test_the_answer_names_the_worst_policy_first_and_when() -> None:
    entries = [
        *(entry("tracked", m, 90, 0) for m in range(4)),
        *(
            entry("stale", m, 90, stuck, 40 if m == 1 else 0, crashed=2 * (m > 0))
            for m, stuck in enumerate((0, 3, 81, 82))
        ),
    ]
    assert answer(entries) == (
        "Stale by the second migration: of 90 guests 81 stuck, 2 crashed, 7 survived; "
        "tracked: all of 90 survived."
    )
    assert corruption_answer(entries) == (
        "After the first migration, 40 of 85 stale guests that seemed well had been silently "
        "corrupted."
    )


def test_of_many_policies_the_worst_is_told_and_who_lost_guests() -> None:
    lost = {"stale": 9, "none": 2, "identity": 1, "tail": 0, "linear": 0}
    entries = [entry(policy, 1, 10, number, 10 - number) for policy, number in lost.items()]
    assert answer(entries) == (
        "Stale by the first migration: of 10 guests 9 stuck, 1 survived (silently corrupted); of "
        "the 4 others policy none and identity lost some, tail and linear none."
    )
    assert corruption_answer(entries) == (
        "Of guests that seemed well 1 of 1 stale, 8 of 8 none, 9 of 9 identity, 10 of 10 tail and "
        "10 of 10 linear guests had been silently corrupted."
    )


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "No cell has finished yet."),
        ([entry("tracked", 0, 1, 0)], "Tracked in the boot: 1 guest survived."),
        (
            [entry("stale", m, 7, 7 * (m > 11)) for m in range(20)],
            "Stale by migration 12: of 7 guests 7 stuck.",
        ),
        ([entry("none", 0, 2, 0, crashed=2)], "Policy none in the boot: of 2 guests 2 crashed."),
    ],
)
def test_answers_of_small_and_long_runs(entries: list[Survival], said: str) -> None:
    assert answer(entries) == said
    assert corruption_answer(entries) == ""


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((7, 0, 2), "all of 7 guests survived (2 of them silently corrupted)"),
        ((7, 0, 7), "all of 7 guests survived (all silently corrupted)"),
        ((7, 6, 1), "of 7 guests 6 stuck, 1 survived (silently corrupted)"),
        ((1, 0, 1), "1 guest survived (silently corrupted)"),
    ],
)
def test_survivors_that_are_damaged_are_no_good_news(counts: tuple[int, ...], said: str) -> None:
    assert answer([entry("stale", 1, *counts)]) == f"Stale by the first migration: {said}."


def test_what_follows_for_an_operator_is_said_of_the_fates_that_there_are() -> None:
    assert operator_answer([entry("tracked", 1, 5, 0)]) == ""
    said = operator_answer([entry("stale", 1, 5, 1, corrupted=2), entry("stale", 2, 5, 2)])
    assert said.startswith("Silently corrupted: every migration was reported ok")
    assert "Stuck: it runs on where it was and can't be moved" in said
    assert "Crashed" not in said


def test_the_page_answers_its_question_from_the_data(small: SweepResult, page: str) -> None:
    found = Elements(page)
    assert found.headings == [answer(survival(small))]
    frame = small.frame
    ends = frame[(frame["policy"] == "stale") & (frame["outcome"] != "ok")]
    assert f"of 6 guests {(ends['outcome'] == 'save-failed').sum()} stuck" in found.headings[0]
    assert "needs a shutdown to leave its host" in page
    assert "What becomes of &lt;small&gt; guests &amp; their lists?" in page
    assert QUESTION not in page


def test_the_page_needs_nothing_from_outside_and_its_ids_are_unique(page: str) -> None:
    found = Elements(page)
    assert found.outside == []
    assert len(found.ids) == len(set(found.ids))
    assert "default-src 'none'" in page
    for reference in re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', page):
        assert "".join(reference) in found.ids
    for name in plots.PLOTS:
        # Of lives so short nobody asks whether their cost stays, and nobody lives while it moves.
        assert (f"figure-{name}" in found.ids) == (name not in ("drift", "live"))


def test_the_tables_hold_every_cell_with_its_numbers(small: SweepResult, page: str) -> None:
    found = [data for data in Elements(page).data if "columns" in data]
    tables = {tuple(c["name"] for c in data["columns"]): data for data in found}
    cells = next(data for names, data in tables.items() if names[0] == "cell")
    assert cells["rows"] == 12

    def values(name: str) -> list[Any]:
        column = next(c for c in cells["columns"] if c["name"] == name)
        return (
            [column["dict"][v] for v in column["values"]] if "dict" in column else column["values"]
        )

    frame = small.frame
    strays = frame.groupby("cell", sort=False)["stray_writes"].sum()
    assert dict(zip(values("cell"), values("stray_writes"), strict=True)) == {
        cell[:10]: int(count) for cell, count in strays.items()
    }
    ends = frame.groupby("cell", sort=False)["detail"].last().to_dict()
    found = dict(zip(values("cell"), values("detail"), strict=True))
    assert {k: v for k, v in found.items() if v} == {
        k[:10]: v for k, v in ends.items() if isinstance(v, str)
    }
    assert [c["name"] for c in cells["columns"] if c["axis"]] == [
        "policy", "memory_bytes", "seed", "fate",
    ]  # fmt: skip


def test_provenance_and_the_command_are_there(small: SweepResult, page: str) -> None:
    details = small.provenance
    for name in ("numba", "numpy", "cpu", "system"):
        assert str(details[name]) in page
    assert details["specs"][0]["digest"][:12] in page
    assert " ".join(details["runs"][-1]["command"][:1]) in page
    spec = re.search(r"<pre[^>]*>(\{.*?\})</pre>", page, re.DOTALL)
    assert spec is not None
    import html as escape

    from p2mbatch.spec.sweep_spec import SweepSpec

    again = SweepSpec.from_dict(json.loads(escape.unescape(spec.group(1))))
    assert again.digest == small.spec.digest


def test_a_script_in_a_message_stays_text() -> None:
    table = Table("t", [TableColumn("m", "m", "text", ["</script><script>alert(1)</script><!--"])])
    text = table.to_json()
    assert "<" not in text
    assert json.loads(text)["columns"][0]["dict"] == ["</script><script>alert(1)</script><!--"]


def test_texts_and_large_numbers_reach_a_script_as_they_are_shown() -> None:
    seeds = [2**63 - 1, 2**53 + 1, 2**53, -(2**60), 0]
    table = Table(
        "t",
        [
            TableColumn("m", "m", "text", ["a\u202eb\x1b[2J", "c\td", "e", None, "f"]),
            TableColumn("seed", "seed", "number", seeds),
            TableColumn("p", "p", "text", ["/x/a.py#12"] * 5, labels={"/x/a.py#12": "/x/a.py"}),
        ],
    )
    text, kinds, named = json.loads(table.to_json())["columns"]
    assert text["dict"] == ["a\\u202eb\\x1b[2J", "c\\td", "e", None, "f"]
    assert kinds["dict"] == [str(2**63 - 1), str(2**53 + 1), 2**53, str(-(2**60)), 0]
    assert named["dict"] == ["/x/a.py#12"] and named["labels"] == [["/x/a.py#12", "/x/a.py"]]
    assert table.rows()[0][1:] == ["9,223,372,036,854,775,807", "/x/a.py"]


def test_policies_from_files_are_named_without_their_digest() -> None:
    first, second = f"mine.py#{'a' * 16}", f"mine.py#{'b' * 16}"
    one = [entry(first, 1, 5, 1, 2)]
    assert "mine.py guests" in corruption_answer(one) and "#" not in corruption_answer(one)
    both = [entry(first, 1, 5, 1, 2), entry(second, 1, 5, 2, 2)]
    for text in (answer(both), corruption_answer(both)):
        assert text.lower().count("mine.py#aaaaaa") == text.count("ine.py#bbbbbb") == 1
        assert "aaaaaaa" not in text
    table = survival_table(both)
    assert [row[0] for row in table.rows()] == ["mine.py#aaaaaa", "mine.py#bbbbbb"]
    assert table.columns[0].values == [first, second]


def test_failed_cells_are_said_with_their_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2mbatch.guests.stepped import step_scenario as real

    def failing(scenario: Any, *args: Any, **options: Any) -> Any:
        if scenario.seed == 1:
            raise RuntimeError("frames <ran> out")
        return real(scenario, *args, **options)

    lived_by(monkeypatch, failing)
    result = run(tmp_path / "f", memory="630MiB", migrations=1)
    page = html(result)
    assert "1 cell failed" in page
    assert "frames &lt;ran&gt; out" in page
    assert r"frames \<ran\> out" in to_markdown(result)
    table = failure_table(result.failures)
    assert table is not None and table.num_rows == 1


def test_an_empty_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    from p2mbatch.base import provenance
    from p2mbatch.spec.sweep_spec import SweepSpec
    from p2mbatch.store.journal import Journal

    with Journal.open(tmp_path / "e") as journal:
        journal.admit(
            SweepSpec.from_options(memory="1GiB", seeds="5"), resident="auto", extend=False
        )
        journal.begin_run(provenance.collect(["p2mbatch", "sweep"]))
    result = SweepResult.open(tmp_path / "e")
    page = html(result)
    assert "No cell has finished yet." in page
    assert "0 of 5 cells are done" in page
    assert "No cell has finished yet." in to_markdown(result)


def test_numbers_are_shown_as_people_read_them() -> None:
    assert show("number", 1234567.0) == show("number", 1234567) == "1,234,567"
    assert show("number", 2**63 - 1) == "9,223,372,036,854,775,807"
    assert [show("size", 1 << 30), show("size", 660602880)] == ["1 GiB", "630 MiB"]
    assert [show("time", 999.0), show("time", 12345.0)] == ["999 ns", "12.3 µs"]
    assert [show("share", 0.00195), show("number", 65536), show("text", None)] == [
        "0.195 %", "65,536", "–",
    ]  # fmt: skip


def test_markdown_reads_as_plain_text(small: SweepResult) -> None:
    text = to_markdown(small)
    assert text.startswith(f"# {answer(survival(small))}\n")
    assert markdown(QUESTION) in text
    assert "policy   migration  guests" in text
    assert max(len(line) for line in text.splitlines() if line.startswith("stale")) < 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~~~ $a$ &lt;", r"\~\~\~ \$a\$ \&lt;"),
        ("---", r"\---"),
        ("=== a", r"\=== a"),
        ("- a - b", r"\- a - b"),
        ("+ a", r"\+ a"),
        ("1. a 2. b", r"1\. a 2. b"),
        ("123) a", r"123\) a"),
        ("12 guests. 0.5 %", "12 guests. 0.5 %"),
        ("see http://x.y/z www.x.y a@b.c", r"see http\://x.y/z www\.x.y a\@b.c"),
    ],
)
def test_text_in_markdown_has_no_meaning(text: str, expected: str) -> None:
    assert markdown(text) == expected


def test_a_page_that_cannot_be_written_is_one_line(small: SweepResult, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = str(tmp_path / "file" / "r.html")
    one_line(p2mbatch("report", str(small.path), "-o", target), 2, target, "can't be written")
    one_line(p2mbatch("report", str(tmp_path)), 2, str(tmp_path))
    write_text(tmp_path / "a.html", "one")
    write_text(tmp_path / "a.html", "two")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] in (
        ["file", "a.html"], ["a.html", "file"],
    )  # fmt: skip
    assert (tmp_path / "a.html").read_text() == "two"


def test_the_sweep_ends_by_naming_its_report(tmp_path: Path) -> None:
    done = p2mbatch(
        "sweep", "--memory", "630MiB", "--policy", "tracked,stale", "--out", str(tmp_path / "r")
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"report: {tmp_path / 'r' / 'report.html'}"
    assert "<h1" in (tmp_path / "r" / "report.html").read_text()


def test_against_puts_the_comparison_into_the_page(small: SweepResult, tmp_path: Path) -> None:
    write_html(small, tmp_path / "r.html", against=small)
    text = (tmp_path / "r.html").read_text()
    assert "The runs are the same" in text and 'id="table-ratios"' in text


_LARGE = """
import re, sys
from collections import Counter
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from report_support import made_up
from p2mbatch.store.fates import fates
from p2mbatch.store.results import SweepResult
from p2mbatch.report import html
result = SweepResult.open(sys.argv[2])
frame = made_up(12_000)
frame["cell"] = frame["cell"].astype(np.int64)
is_last = ~frame.duplicated("cell", keep="last")
keys = frame["policy"], frame["migrations"], frame["migration"], fates(frame), is_last
counts = Counter(zip(*keys, strict=True))
ids = np.zeros((12_000, 16), np.uint8)
result.__dict__ |= {"compact": frame, "_ids": ids, "fate_counts": counts}
page = html(result)
# Not ru_maxrss: a child inherits the peak of the process that started it.
print(len(page.encode()), re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_a_run_of_many_thousand_cells_makes_a_small_page(small: SweepResult) -> None:
    here = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, here, str(small.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    size, peak_kib = map(int, done.stdout.split())
    assert 200_000 < size < 3_000_000
    assert peak_kib < 1 << 20


def test_more_cells_than_a_page_lists_are_counted() -> None:
    frame = made_up(MAX_CELLS_SHOWN + 5, 1)
    scenarios, cells = cell_tables(frame)
    assert 100 < scenarios.num_rows <= cells.num_rows < MAX_CELLS_SHOWN
    assert f"{cells.num_rows:,} of {MAX_CELLS_SHOWN + 5:,} cells" in cells.note
    like_it = next(column for column in cells.columns if column.name == "like_it")
    guests = next(column for column in scenarios.columns if column.name == "guests")
    assert sum(like_it.values) == sum(guests.values) == MAX_CELLS_SHOWN + 5


def test_only_what_is_constant_is_called_the_same_in_all_cells(small: SweepResult) -> None:
    ends = last_rows(small.frame)
    named = dict(fixed_axes(ends))
    # Hosts are four times the guest: they vary, though they are no axis of their own.
    assert ends["host_memory_bytes"].nunique() == 2
    assert "host memory" not in named and "neighbour memory" not in named
    assert named["word"] == "8" and named["sparsity"] == "0" and "seed" not in named
    assert dict(fixed_axes(ends[ends["memory_bytes"] == 2 << 30]))["host memory"] == "8 GiB"

"""What a report says of a sweep over releases of Linux."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p2mbatch.base.words import words_of
from p2mbatch.guests.guest import Guest
from p2mbatch.model.hazards import FACTS, HAZARDS
from p2mbatch.report.eras import (
    Kernel,
    fate_table,
    fault_table,
    kernel_matrix,
    kernel_tables,
    kernels_of,
)
from p2mbatch.report.faults import faults_seen
from p2mbatch.report.sweep import html, to_markdown
from p2mbatch.store.columns import COLUMNS
from p2mbatch.store.compact import compares_releases
from report_support import run

PLAIN = {"int64": 0, "float64": 0.0, "str": ""}


def row(cell: str, linux: str, policy: str, migration: int, **told: Any) -> dict[str, Any]:
    made = {column.name: PLAIN[column.dtype] for column in COLUMNS}
    made |= {"cell": cell, "linux": linux, "policy": policy, "migration": migration}
    made |= {"word_bytes": 8, "memory_bytes": 1 << 26}
    return made | {"outcome": "ok", "detail": None, "layout": "tail"} | told


ROWS = [
    row("a", "5.10", "linear-4.4", 0),
    row("a", "5.10", "linear-4.4", 1, lost_pages=7, structure_bytes=8192),
    row("b", "2.6.32", "two-level-none", 0),
    row("b", "2.6.32", "two-level-none", 1, structure_bytes=4096, entries_written=3),
    row("b", "2.6.32", "two-level-none", 2, outcome="save-failed", detail="map-fl-failed 0"),
]


def kernels(rows: list[dict[str, Any]]) -> list[Kernel]:
    result: Any = SimpleNamespace(compact=pd.DataFrame(rows))
    return kernels_of(result)


def test_kernels_stand_by_age_with_fates_and_what_mended_them() -> None:
    found = kernels(ROWS)
    columns = {column.title: column.values for column in fate_table(found).columns}
    assert columns["Linux"] == ["2.6.32", "5.10"]
    assert columns["policy"] == ["two-level-none", "linear-4.4"]
    assert columns["stuck"] == [1, 0]
    assert columns["silently corrupted"] == [0, 1]
    matrix = kernel_matrix(found)
    assert matrix is not None
    assert matrix.fates == ["silently corrupted", "stuck"]
    assert [[tile.percent for tile in entry.tiles] for entry in matrix.rows] == [[0, 100], [100, 0]]
    assert [entry.faults for entry in matrix.rows] == [
        ["built-once in 1 guest: mended in 2.6.33, commit fa24ba62ea2"],
        [
            "last-pages in 1 guest, 7 pages lost: mended in 5.14 and stable series of 2021, commit "
            "4b511d5bfa74"
        ],
    ]
    costs = kernel_tables(found)[1]
    costly = {column.title: column.values for column in costs.columns}
    assert costly["structures"] == [4096, 8192]
    assert costly["entries that a resume writes"] == [3, 0]


def test_a_release_of_two_policies_is_told_by_width() -> None:
    """3.10 moves the leaves of 64-bit guests only."""
    rows = [
        row("a", "3.10", "moved", 0),
        row("b", "3.10", "identity", 0, word_bytes=4),
        row("c", "2.6.32", "two-level-none", 0),
        row("d", "2.6.32", "two-level-none", 0, word_bytes=4),
    ]
    found = [(kernel.label, kernel.policy, kernel.num_guests) for kernel in kernels(rows)]
    assert found == [
        ("2.6.32", "two-level-none", 2),
        ("3.10 (32-bit)", "identity", 1),
        ("3.10 (64-bit)", "moved", 1),
    ]


def test_runs_of_one_release_or_none_have_no_such_tables() -> None:
    assert kernel_tables(kernels(ROWS[:2])) == []
    assert kernel_matrix(kernels([{**entry, "linux": ""} for entry in ROWS])) is None


SIGNS: dict[str, dict[str, Any]] = {
    "stale-list": {"policy": "stale", "migration": 1, "stray_writes": 3},
    "built-once": {"policy": "two-level-none", "migration": 2, "outcome": "save-failed"},
    "boot-only": {"policy": "none", "migration": 2, "outcome": "save-failed"},
    "beyond-max": {"outcome": "bug", "detail": "virt_to_mfn(mid_mfn) != *top_mfn_p"},
    "half-grown": {"outcome": "bug", "detail": "_brk_start == 0"},
    "identity-mid": {
        "policy": "mid-identity",
        "outcome": "bug",
        "detail": "_brk_start == 0",
        "layout": "identity",
    },
    "tail-zero": {"migration": 0, "memory_bytes": (1 << 26) - 4096},
    "last-pages": {"policy": "linear-4.4", "lost_pages": 1},
    "not-saved": {"policy": "two-level", "lost_pages": 1},
    "shared-write": {"policy": "identity", "placeholder_writes": 1},
    "marks-lost": {"policy": "linear", "lost_identity_pages": 1},
    "null-page": {"policy": "linear", "outcome": "fault", "detail": "null list page"},
    "behind-walk": {"outcome": "misdirected", "fate": "moved wrong", "live": "yes"},
    "past-arrays": {"policy": "two-level", "outcome": "save-failed", "detail": "bad-mfn-in-fll 32"},
    "race": {"stray_writes": 1, "cpus": 2},
    "list-race": {"policy": "linear", "stray_writes": 1, "cpus": 2},
    "live-growth": {"policy": "linear", "outcome": "save-failed", "fate": "aborted"},
}


@pytest.mark.parametrize("name", SIGNS)
def test_each_fault_is_known_by_its_rows_and_by_no_others(name: str) -> None:
    told = {"linux": "", "policy": "tracked", "migration": 1, "fate": "survived"} | SIGNS[name]
    sound = {"policy": told["policy"], "layout": told.get("layout", "tail")}
    rows = pd.DataFrame([row("a", **told), row("b", **{**told, **PLAIN_ROW, **sound})])
    seen = [(one.hazard, one.num_guests) for one in faults_seen(rows, told["policy"])]
    assert seen == [(name, 1)]
    assert name in FACTS[told["policy"]].hazards


PLAIN_ROW = {
    "outcome": "ok", "detail": None, "fate": "survived", "memory_bytes": 1 << 26,
    "stray_writes": 0, "lost_pages": 0, "placeholder_writes": 0, "lost_identity_pages": 0,
}  # fmt: skip


def test_what_leaves_no_row_is_told_all_the_same() -> None:
    assert set(HAZARDS) - set(SIGNS) == {"whole-area"}
    table = fault_table(kernels(ROWS))
    columns = {column.name: column.values for column in table.columns}
    found = dict(zip(columns["fault"], columns["guests"], strict=True))
    assert found == {
        "built-once": 1, "tail-zero": 0, "not-saved": 0, "last-pages": 1, "marks-lost": 0,
        "null-page": 0, "live-growth": 0, "list-race": 0, "past-arrays": 0,
    }  # fmt: skip


@pytest.mark.parametrize("layout", ["tail", "scattered", "extents"])
def test_a_tail_has_the_words_that_a_guest_reads_there(layout: str) -> None:
    """Counted from what it boots with; read by the guest itself."""
    guest = Guest.boot("64MiB", sparsity=0.3, layout=layout)
    told = {"sparsity": 0.3, "layout": layout, "fate": "survived"}
    rows = pd.DataFrame([row("a", "", "tracked", 0, **told)])
    nr_pages = guest.placement.nr_pages
    end = -(-nr_pages // 512) * 512
    zeros = int(np.count_nonzero(guest.lookup(np.arange(nr_pages, end)) == 0))
    assert zeros == -nr_pages % 512
    assert sum(sum(s.amounts.values()) for s in faults_seen(rows, "tracked")) == zeros


def test_columns_of_releases_are_kept_where_they_are_compared() -> None:
    assert compares_releases(words_of(["2.6.32", "", "5.10"]))
    assert not compares_releases(words_of(["5.10", "", "5.10"]))


def test_a_page_draws_the_matrix_and_mail_has_it_as_text(tmp_path: Path) -> None:
    result = run(
        tmp_path / "s", memory="64MiB", linux=["3.16", "2.6.32"], seed=0, layout="identity"
    )
    page, mail = html(result), to_markdown(result)
    matrix = page[page.index('<section id="kernels">') :].partition("</section>")[0]
    assert matrix.index("2.6.32 <small>two-level-none</small>") < matrix.index("3.16 <small>")
    assert "built-once in 1 guest: mended in 2.6.33, commit fa24ba62ea2" in matrix
    assert "marks-lost in 1 guest, " in matrix
    assert 'style="--color:' in matrix and "--share:100.0%" in matrix
    assert "## Kernel by kernel" in mail and "2.6.33, commit fa24ba62ea2" in mail
    assert 'id="kernels"' not in html(run(tmp_path / "t", memory="64MiB", seed=0))

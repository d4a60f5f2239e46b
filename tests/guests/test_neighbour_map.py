"""A real host's m2p as the neighbours: rows are those of the trace, ids have the map's digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_cell import exact, trace_rows

from batch_support import assert_as_stepped, columns
from oracle import reference
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.cli import cli
from p2mbatch.guests.batch.lives import live_covered
from p2mbatch.guests.cell_ids import cell_ids
from p2mbatch.guests.fields import cell_id_of
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import check_scenario, nth_host
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.host_map import find_map
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import trace_to_json
from p2mbatch.spec.sweep_spec import SweepSpec

FRAMES = 4096
PAGES = 1500


def listing(m2p: np.ndarray, *, around: str = "") -> str:
    """What `xen-mfndump dump-m2p` prints of `m2p`."""
    lines = [f"  mfn={mfn:#x} ==> pfn={int(pfn) % (1 << 64):#x}" for mfn, pfn in enumerate(m2p)]
    head = [f"{around} --- Dumping M2P ---", f" Max MFN: {len(m2p)}"]
    return "\n".join([*head, *lines, " --- End of M2P ---", ""])


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A host on which most frames stand for PFNs that our guest has too."""
    m2p = np.random.default_rng(5).integers(0, 2 * PAGES, FRAMES)
    m2p[np.arange(FRAMES) % 7 == 3] = -1
    path = tmp_path / "m2p.txt"
    path.write_text(listing(m2p))
    return path


def scenario(known: Path, **more: object) -> Scenario:
    fields = {"memory_bytes": PAGES * PAGE_BYTES, "policy": "stale", "migrations": 3} | more
    return Scenario.make(neighbour_map=str(known), build_order=0, **fields)


@pytest.mark.parametrize("word_bytes", [8, 4])
@pytest.mark.parametrize("layout", ["tail", "scattered", "extents"])
@pytest.mark.parametrize("xen", ["", "4.0"])
def test_rows_are_those_of_the_trace_and_of_the_naive_model(
    known: Path, layout: str, word_bytes: int, xen: str
) -> None:
    more = {"xen": xen} if xen else {}
    cell = scenario(
        known, layout=layout, sparsity=0.3, word_bytes=word_bytes, seed=3 + word_bytes, **more
    )
    rows = run_scenario(cell)
    assert exact(rows) == exact(run_scenario(cell, "all")) == exact(trace_rows(cell))
    trace = scenario_trace(cell)
    assert replay(trace) == reference.replay(trace_to_json(trace))


def test_a_batch_lives_cells_of_maps_beside_others(known: Path) -> None:
    plain = Scenario.make(memory_bytes=PAGES * PAGE_BYTES, policy="stale", migrations=3)
    scenarios = [scenario(known, seed=1), plain, scenario(known, seed=2, xen="4.0")]
    lived, left = live_covered(columns(scenarios))
    assert not len(left)
    assert_as_stepped(scenarios, lived)


def test_frames_that_are_not_the_guests_are_what_the_map_says(known: Path) -> None:
    cell = scenario(known)
    assert cell.host_memory_bytes == FRAMES * PAGE_BYTES
    m2p = find_map(str(known)).m2p
    host = scenario_trace(cell).hosts[1]
    own = np.concatenate([np.arange(m, m + k) for _, m, k in host.domain.tolist()])
    said = np.full(FRAMES, -1)
    for mfn, pfn, count in host.foreign.tolist():
        said[mfn : mfn + count] = np.arange(pfn, pfn + count)
    others = np.setdiff1d(np.arange(FRAMES), own)
    assert np.array_equal(said[others], m2p[others])
    assert np.all(said[own] == -1)
    larger = scenario(known, host_memory_bytes=2 * FRAMES * PAGE_BYTES)
    assert all(m + k <= FRAMES for m, _, k in scenario_trace(larger).hosts[0].foreign.tolist())
    assert len(nth_host(larger, check_scenario(larger), 0).m2p) == FRAMES


def test_an_id_has_the_words_not_the_file(known: Path, tmp_path: Path) -> None:
    m2p = find_map(str(known)).m2p
    moved = tmp_path / "elsewhere.txt"
    moved.write_text(listing(m2p, around="[root@dom0 ~]# xen-mfndump dump-m2p\n"))
    cell = scenario(known)
    assert scenario(moved).cell_id == cell.cell_id
    changed = m2p.copy()
    changed[9] += 1
    moved.write_text(listing(changed))
    assert scenario(moved).cell_id != cell.cell_id
    plain = Scenario.make(memory_bytes=PAGES * PAGE_BYTES, host_memory_bytes=FRAMES * PAGE_BYTES)
    assert plain.cell_id not in (cell.cell_id, scenario(moved).cell_id)
    with pytest.raises(InputError, match=r"is map [0-9a-f]{16} now, not"):
        scenario(Path(cell.neighbour_map.replace(str(known), str(moved))))


def test_a_spec_takes_maps_as_an_axis_and_keeps_its_digest_without(known: Path) -> None:
    grid = {"memory": "8MiB", "neighbour_map": ["", str(known)], "seeds": 2}
    spec = SweepSpec.from_dict({"grid": grid})
    spec.check()
    cells = list(spec.grid[0].cells())
    assert len({cell[-2] for cell in cells}) == 2
    assert SweepSpec.from_dict(spec.to_dict()).digest == spec.digest
    columns, _ = spec.columns(0, 10)
    assert [bytes(row).hex() for row in cell_ids(columns)] == [cell_id_of(cell) for cell in cells]
    plain = SweepSpec.from_dict({"grid": {"memory": "8MiB"}})
    assert "neighbour_map" not in plain.canonical()["grid"][0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"neighbours": 0.5}, "neighbours: neighbour_map says whose each frame is"),
        ({"neighbour_memory_bytes": 4096}, "neighbour_memory_bytes: neighbour_map says"),
    ],
)
def test_two_words_for_the_neighbours_are_refused(
    known: Path, more: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        scenario(known, **more)


def test_a_sweep_says_what_is_no_map(tmp_path: Path) -> None:
    (tmp_path / "p2m.txt").write_text("  pfn=0x0 ==> mfn=0x1 (type 0x0)\n")
    for name in ("p2m.txt", "none.txt"):
        args = ["--memory", "8MiB", "--neighbour-map", str(tmp_path / name), "--dry-run"]
        result = CliRunner().invoke(cli, ["sweep", *args])
        assert result.exit_code != 0
        assert name in str(result.exception or result.output)

"""Small files that claim much: refused with a number before anything is walked, or cheap."""

import gzip
import hashlib
import struct
import tracemalloc

import numpy as np
import pytest

import p2mbatch.cli as command_line
from dump_guests import build, core, stream
from p2mbatch.base.errors import InputError
from p2mbatch.base.limits import GZIP_FREE_BYTES, GZIP_RATIO, MAX_JSON_VALUES, check_json_values
from p2mbatch.dumps.importing.to_trace import import_trace
from p2mbatch.dumps.p2m import SparseP2M
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json
from p2mbatch.spec.file import parse

MIB = 1 << 20


@pytest.fixture
def few_bytes():
    """Fail where the test takes more than some MiB at its peak."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160 * MIB


def section(data, name):
    """Return where the header of section `name` is, and its offset."""
    names = ["", ".shstrtab", ".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_pages"]
    at = 64 + 64 * [*names, ".xen_p2m"].index(name)
    return at, struct.unpack_from("<Q", data, at + 24)[0]


def lone_page_core(pfn):
    """Return a core of some pages without shared info, the last of which is at `pfn`."""
    data = bytearray(core(build(11, 8, 24, populated=0.1)))
    name = data.index(b".xen_shared_info\0")
    data[name : name + 8] = b".xen_no_"
    at, pairs = section(data, ".xen_p2m")
    num_pairs = struct.unpack_from("<Q", data, at + 32)[0] // 16
    struct.pack_into("<Q", data, pairs + 16 * (num_pairs - 1), pfn)
    return bytes(data)


@pytest.mark.parametrize("pfn", [1 << 29, 1 << 40, (1 << 52) - 1])
def test_one_page_far_out_is_refused_before_its_holes_are_hashed(pfn, few_bytes):
    with pytest.raises(InputError, match=f"at most {1 << 29} PFNs in a file of 7 pages"):
        read_bytes(lone_page_core(pfn))


def test_a_linear_list_ends_where_its_pages_are_too_few(few_bytes):
    image = build(11, 8, 24, populated=0.1)
    data = bytearray(core(image))
    at, pairs = section(data, ".xen_p2m")
    num_pairs = struct.unpack_from("<Q", data, at + 32)[0] // 16
    struct.pack_into("<Q", data, pairs + 16 * (num_pairs - 1), 1 << 40)
    shared = section(data, ".xen_shared_info")[1]
    struct.pack_into("<Q", data, shared + 3088, (1 << 40) + 1)
    # p2m_cr3: the list is a linear one, and a tree's end does not hold for it.
    struct.pack_into("<Q", data, shared + 3112, 5 << 12)
    with pytest.raises(InputError, match=f"found PFNs up to {1 << 40}"):
        read_bytes(bytes(data))


def test_a_file_of_holes_is_no_list_of_pairs(tmp_path, few_bytes):
    """2^28 pairs and as many pages, 1 TiB, of which the disk holds some KiB."""
    data = bytearray(core(build(11, 8, 24, populated=0.1)))
    num = 1 << 28
    pages_at, pages = section(data, ".xen_pages")
    pairs_at, _ = section(data, ".xen_p2m")
    names_at, names = section(data, ".shstrtab")
    held = bytes(data[names : names + struct.unpack_from("<Q", data, names_at + 32)[0]])
    pairs = pages + num * 4096
    struct.pack_into("<Q", data, pages_at + 32, num * 4096)
    struct.pack_into("<QQ", data, pairs_at + 24, pairs, num * 16)
    struct.pack_into("<Q", data, names_at + 24, pairs + num * 16)
    struct.pack_into("<Q", data, section(data, ".note.Xen")[1] + 48, num)
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(data[:pages])
        file.seek(pairs + num * 16)
        file.write(held)
    with pytest.raises(InputError, match=r"each PFN once in \.xen_p2m, found 0 again"):
        read_dump(path)


@pytest.mark.parametrize("form", ["page data", "optional", "libxl"])
def test_records_that_hold_nothing_are_counted(form, tmp_path):
    """A million empty records are some KiB of gzip and were a minute of work."""
    image = build(11, 8, 700, populated=0.1)
    wrapper = "libxl" if form == "libxl" else "libxc"
    data = stream(image, wrapper=wrapper)
    at = {"libxl": 16}.get(form)
    record = struct.pack("<II", 0x8000_0042, 0)
    if form != "libxl":
        # In front of END.
        at = len(data) - 8
    if form == "page data":
        record = struct.pack("<IIIIQ", 1, 16, 1, 0, 15 << 60 | 3)
    path = tmp_path / "many.gz"
    path.write_bytes(gzip.compress(data[:at] + record * 1_000_000 + data[at:], 9))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"expected at most \d+ records in \d+ bytes"):
        read_dump(path)


@pytest.mark.parametrize("line", [b"\n", b"$ \n", b" [0x0->0x1] level entry\n"])
def test_lines_that_are_no_listing(line, tmp_path):
    path = tmp_path / "lines.gz"
    path.write_bytes(gzip.compress(b" [0x0->0x9] pfn\n" + line * (12_000_000 // len(line)), 6))
    with pytest.raises(InputError, match=r"lines that are no part|decompression bomb"):
        read_dump(path)


def small_trace():
    return trace_to_json(scenario_trace(Scenario(memory_bytes=64 * MIB)))


def test_a_trace_that_unpacks_to_too_much(tmp_path, few_bytes):
    bomb = b'{"format": "p2mbatch-trace/1", "x": [' + b"0," * GZIP_FREE_BYTES + b"0]}"
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(bomb, 9))
    with pytest.raises(InputError, match=f"more than {GZIP_RATIO} for each"):
        load_trace(path)


def test_json_of_too_many_values_is_not_parsed():
    text = b"[" + b"[]," * (MAX_JSON_VALUES // 2) + b"[]]"
    with pytest.raises(InputError, match=f"at most {MAX_JSON_VALUES} values"):
        check_json_values(text, "x")
    check_json_values(b"[0" + b",0" * 1000 + b"]", "x")


def test_a_million_events_are_refused_by_number_and_a_million_runs_are_not():
    value = small_trace()
    pages = value["guest"]["nr_pages"]
    runs = [[i % pages, i, 1] for i in range(1_000_000)]
    value["events"] = [value["events"][0], {"op": "set", "runs": runs}]
    assert np.array_equal(parse_trace(value).events[1]["runs"], np.array(runs))
    value["events"] = value["events"][:1] + [{"op": "set", "runs": runs[:1]}] * 1_000_000
    with pytest.raises(InputError, match="events: has 1000001: at most 65536 for a guest"):
        parse_trace(value)


@pytest.mark.parametrize("row", [[1, 2], [1, 2, True], [1, 2.0, 1], [1, -1, 1], [1, 2**63, 1], 7])
def test_a_row_among_good_ones_is_still_named(row):
    value = small_trace()
    rows = [[0, 1, 1]] * 50
    value["events"] = [value["events"][0], {"op": "set", "runs": [*rows, row, *rows]}]
    with pytest.raises(InputError, match=r"events\[1\]\.runs\[50\]"):
        parse_trace(value)


def test_a_key_of_many_parts(tmp_path, few_bytes):
    path = tmp_path / "deep.toml"
    path.write_text("x = 1\n" + '"a" . b.' * 50_000 + "c = 1\n")
    with pytest.raises(InputError, match="line 2: a key of more than 64 parts"):
        parse(path)
    path.write_text("x = [" + "0.5, " * 1000 + "]\ny = '" + "." * 100 + "'\n")
    assert len(parse(path)[0]["x"]) == 1000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[t]\n" * (1 << 19) + " [t]\n", "524288 tables of TOML, found some 524289"),
        ("a=1\n" * (1 << 21) + "a=1\n", "2097152 values of TOML, found some 2097153"),
        ("a=[" + "1," * (1 << 21) + "]\n", "2097152 values of TOML, found some 2097153"),
    ],
)
def test_toml_of_many_parts_is_refused_before_it_is_parsed(text, found, tmp_path, few_bytes):
    path = tmp_path / "many.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"many.toml: expected at most {found}"):
        parse(path)


@pytest.mark.parametrize("text", [" [0x0->0x8000000] pfn\n", "max_pfn"])
def test_an_import_of_a_large_guest_takes_a_large_file(text, few_bytes):
    data = text.encode()
    if text == "max_pfn":
        data = bytearray(core(build(11, 8, 24, populated=0.1)))
        struct.pack_into("<Q", data, section(data, ".xen_shared_info")[1] + 3088, 1 << 27)
    guest = read_bytes(bytes(data))
    assert guest.max_p2m_pfn == 1 << 27
    with pytest.raises(InputError, match=f"at most {1 << 25} PFNs are imported from so few"):
        import_trace(guest, "x", "stale")


@pytest.mark.parametrize("gap", [1, 4095, 4096, 1 << 14, (1 << 14) + 1, 1 << 17])
def test_holes_hashed_by_run_are_those_hashed_by_word(gap):
    rng = np.random.default_rng(gap)
    pfns = np.cumsum(rng.integers(1, gap + 1, 40)) - 1
    p2m = SparseP2M(pfns, rng.integers(0, 1 << 40, 40), int(pfns[-1]) + 1 + gap // 2)
    assert p2m.sha256() == hashlib.sha256(p2m.to_array().tobytes()).hexdigest()
    p2m = SparseP2M(pfns[:0], pfns[:0], gap)
    assert p2m.sha256() == hashlib.sha256(b"\xff" * 8 * gap).hexdigest()


@pytest.mark.parametrize("seed", range(4))
def test_leaves_hashed_by_run_are_those_hashed_by_word(seed):
    guest = read_bytes(stream(build(seed, 8, 60_000, populated=0.3, hole_leaves=0.9)))
    p2m = guest.p2m
    assert p2m.sha256() == hashlib.sha256(p2m.to_array().tobytes()).hexdigest()


@pytest.mark.parametrize("text", ["", "Unable to allocate 2.00 TiB for an array"])
@pytest.mark.parametrize("name", list(command_line.COMMANDS))
def test_no_memory_left_is_one_line_of_every_command(name, text, monkeypatch, capsys):
    def full(*args, **options):
        raise MemoryError(text)

    monkeypatch.setattr(command_line.cli.get_command(None, name), "make_context", full)
    with pytest.raises(SystemExit) as stop:
        command_line.main([name])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert err == f"p2mbatch: error: out of memory{': ' + text if text else ''}\n"

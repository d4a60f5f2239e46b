"""Listings as people capture them, a host's map, and files that are recognised and not read."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from dump_guests import build
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.findings import audit, audit_text
from p2mbatch.dumps.importing.to_trace import import_trace
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.model.host_map import read_host_map

FIELD = Path(__file__).parents[2] / "data" / "field"

NOISE = [b"[root@dom0 ~]# xl list", b"xc: detail: something", b"Password:", b"$ ", b"\x1b[0m", b""]

SAME_KEYS = ("word_bytes", "max_p2m_pfn", "pages_present", "p2m_sha256", "holes", "extents")


def mfndump(p2m, width=8, header=True, pfns=None):
    """Return the lines of a listing of `p2m`, of all its PFNs or of `pfns`."""
    lines = [b" --- Dumping P2M for domain 3 ---"]
    if header:
        lines.append(b" Guest Width: %d, PT Levels: 4 P2M size: = %d" % (width, p2m.size))
    for pfn in range(p2m.size) if pfns is None else pfns:
        mfn = int(p2m[pfn]) & (1 << 8 * width) - 1
        lines.append(b"  pfn=%#x ==> mfn=%#x (type 0x0)" % (pfn, mfn))
    return [*lines, b" --- End of P2M for domain 3 ---"]


def debugfs():
    return b""" [0x0->0xa0] pfn
 [0xa0->0x100] identity
 [0x100->0x800] pfn
 [0x800->0x900] missing
 [0x900->0x1000] pfn""".split(b"\n")


def read_lines(lines, end=b"\n", **options):
    return read_bytes(end.join(lines) + end, **options)


def same(one, other):
    a, b = audit(one).to_json(), audit(other).to_json()
    return {key: a[key] for key in SAME_KEYS} == {key: b[key] for key in SAME_KEYS}


LISTINGS = {"mfndump": mfndump(build(1, 8, 700).p2m), "debugfs": debugfs()}


@pytest.mark.parametrize("lines", LISTINGS.values(), ids=LISTINGS)
@pytest.mark.parametrize("way", ["noise", "quoted", "twice quoted", "stripped", "crlf", "indented"])
def test_what_is_around_a_listing_is_passed_over_and_noted(lines, way):
    plain = read_lines(lines)
    changed = {
        "noise": [*NOISE, *lines[:3], *NOISE, *lines[3:], *NOISE],
        "quoted": [b"> " + line for line in lines],
        "twice quoted": [b">> > " + line for line in lines],
        "stripped": [line.strip() for line in lines],
        "crlf": [line + b"\r" for line in lines],
        "indented": [b"\t   " + line for line in lines],
    }[way]
    guest = read_lines(changed)
    assert same(guest, plain)
    notes = " ".join(note for note in guest.notes if note not in plain.notes)
    told = {"noise": "no part of the listing", "stripped": "lack the blanks"}
    assert told.get(way, "quoting" if "quoted" in way else "") in notes
    assert bool(notes) == (way in ("noise", "quoted", "twice quoted", "stripped"))


def test_a_line_of_the_listing_that_does_not_fit_is_never_passed_over():
    lines = LISTINGS["mfndump"]
    for broken in (b"  pfn=0x5 ==> mfxc: detail", b"pfn=lost", b" Guest Width: 9,", b"mfn=0x0 ="):
        data = b"\n".join([*lines[:7], broken, *lines[7:]]) + b"\n"
        at = data.index(b"\n" + broken + b"\n") + 1
        with pytest.raises(InputError, match=f"offset {at:#x}: expected a line"):
            read_bytes(data)
    with pytest.raises(InputError, match="behind its end"):
        read_lines([*lines, *lines[2:]])
    with pytest.raises(InputError, match="second header"):
        read_lines([*lines[:2], *lines])


PARTS = {
    "head": range(100),
    "tail": range(600, 700),
    "middle": range(200, 300),
    "cut by a mail": [*range(50), *range(400, 700)],
    "one line": [333],
}


@pytest.mark.parametrize("pfns", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("header", [True, False])
def test_what_a_part_of_a_listing_leaves_out_is_unknown_and_no_hole(pfns, header):
    pfns = np.array(pfns)
    p2m = np.arange(700) + 5000
    p2m[40:60] = p2m[650:660] = INVALID
    guest = read_lines(mfndump(p2m, header=header, pfns=pfns))
    result = audit(guest)
    told = result.to_json()
    span = 700 if header else int(pfns[-1]) + 1
    assert told["max_p2m_pfn"] == span and told["unlisted_pfns"] == span - pfns.size
    assert told["holes"]["pages"] == np.count_nonzero(p2m[pfns] == INVALID)
    assert told["pages_present"] == np.count_nonzero(p2m[pfns] != INVALID)
    assert (told["p2m_sha256"] is None) == (told["unlisted_pfns"] > 0)
    assert ("not listed" in audit_text(result)) == (told["unlisted_pfns"] > 0)
    if told["unlisted_pfns"]:
        with pytest.raises(InputError, match="the listing is a part"):
            import_trace(guest, "x", "tracked")


@pytest.mark.parametrize(
    ("first", "last", "unknown"), [(0, -1, False), (2, None, False), (2, -1, True)]
)
def test_a_listing_without_header_and_end_may_go_on(first, last, unknown):
    guest = read_lines(mfndump(np.arange(90) + 50)[first:last])
    assert any("may be the beginning of a longer one" in note for note in guest.notes) == unknown


def test_a_part_of_a_large_listing_costs_what_it_lists():
    p2m = np.zeros(1 << 26, np.int64)
    p2m[5] = p2m[60_000_000] = 7
    told = audit(read_lines(mfndump(p2m, pfns=[5, 60_000_000]))).to_json()
    assert told["unlisted_pfns"] == (1 << 26) - 2 and told["holes"]["num"] == 0
    assert told["extents"]["num"] == 2


def test_a_part_of_debugfs():
    guest = read_lines([*debugfs()[2:4], b" [0xa00->0x1000] pfn"])
    told = audit(guest).to_json()
    assert (told["unlisted_pfns"], told["holes"]["pages"]) == (0x200, 0x100)
    with pytest.raises(InputError, match="from 0x100 on"):
        read_lines([*debugfs()[:2], *debugfs()[1:]])


def test_the_width_is_said_where_the_text_has_none():
    p2m = build(1, 4, 700).p2m
    whole, nameless = mfndump(p2m, 4), mfndump(p2m, 4, header=False)
    assert same(read_lines(nameless, word_bytes=4), read_lines(whole))
    assert any("--width" in note for note in read_lines(nameless).notes)
    assert read_lines(debugfs(), word_bytes=4).word_bytes == 4
    with pytest.raises(InputError, match="32-bit guest, 64 bits were asked"):
        read_lines(whole, word_bytes=8)
    with pytest.raises(InputError, match="64-bit guest, --width says otherwise"):
        read_dump(FIELD.parent / "dumps" / "dense-64.core.gz", word_bytes=4)


def test_a_last_line_without_an_end_counts_where_it_is_whole():
    lines = mfndump(np.arange(9) + 50)[:-1]
    assert read_bytes(b"\n".join(lines)).max_p2m_pfn == 9
    assert read_bytes(b"\n".join(debugfs())).max_p2m_pfn == 0x1000
    for cut in (1, 5, 15):
        with pytest.raises(InputError):
            read_bytes(b"\n".join(lines)[:-cut])
        with pytest.raises(InputError):
            read_bytes(b"\n".join([*debugfs()[:-1], b" [0x900->0x1000] missing"])[:-cut])


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("21-mfndump-prompt", None),
        ("25-mfndump-quoted", None),
        ("27-mfndump-mixed", None),
        ("29-debugfs-prompt", "debugfs"),
        ("30-debugfs-nolead", "debugfs"),
    ],
)
def test_captures_read_as_the_listing_without_these(name, like):
    guest = read_dump(FIELD / f"case-{name}.txt.gz")
    if like is None:
        other = read_lines(mfndump(np.arange(2048) + 0x100000))
    else:
        text = gzip.decompress((FIELD / "case-29-debugfs-prompt.txt.gz").read_bytes())
        other = read_lines(text.split(b"\n")[1:-1])
    assert same(guest, other)
    assert any(word in note for note in guest.notes for word in ("passed over", "lack the blanks"))


# --- a host's map ---------------------------------------------------------------------------------


def test_a_hosts_map_is_read_and_is_no_guest(tmp_path):
    path = FIELD / "case-24-dump-m2p.txt.gz"
    m2p = read_host_map(path).m2p
    assert m2p.size == 4096 and np.count_nonzero(m2p != INVALID) == 2048
    assert m2p[0x4B4] == 0xB4 and m2p[4] == INVALID
    with pytest.raises(InputError, match=r"a host's map .*4096 frames 2048 .*neighbour_map"):
        read_dump(path)
    lines = gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
    captured = tmp_path / "m2p.txt"
    captured.write_bytes(b"\n".join([b"# xen-mfndump dump-m2p", *(b"> " + x for x in lines)]))
    again = read_host_map(captured)
    assert np.array_equal(again.m2p, m2p) and len(again.notes) == 2
    for cut, words in ((lines[:-2], "found 4095"), (lines[2:-2], "cut short")):
        captured.write_bytes(b"\n".join(cut) + b"\n")
        with pytest.raises(InputError, match=words):
            read_host_map(captured)
    captured.write_bytes(b"\n".join([*lines[:9], *lines[10:]]) + b"\n")
    with pytest.raises(InputError, match="a line for mfn 0x7"):
        read_host_map(captured)
    with pytest.raises(InputError, match="dump-m2p"):
        read_host_map(FIELD / "case-21-mfndump-prompt.txt.gz")


# --- recognised and not read ----------------------------------------------------------------------


def elf_core(notes, bits=64, segments=2):
    """Return an ELF core of `segments` program headers, the first of which holds `notes`."""
    body = b""
    for name, kind in notes:
        name += b"\0"
        body += struct.pack("<III", len(name), 8, kind) + name + bytes(-len(name) % 4 + 8)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    if bits == 64:
        at = 64 + 56 * segments
        head = struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, segments, 64, 0, 0)
        note = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(body), len(body), 4)
        load = struct.pack("<IIQQQQQQ", 1, 7, at, 0, 0, 0, 0, 4096)
    else:
        at = 52 + 32 * segments
        head = struct.pack("<HHIIIIIHHHHHH", 4, 3, 1, 0, 52, 0, 0, 52, 32, segments, 40, 0, 0)
        note = struct.pack("<IIIIIIII", 4, at, 0, 0, len(body), len(body), 0, 4)
        load = struct.pack("<IIIIIIII", 1, at, 0, 0, 0, 4096, 7, 4096)
    return ident + head + note + load * (segments - 1) + body


OTHERS = {
    "kdump": (b"KDUMP   " + bytes(200), "kdump-compressed vmcore"),
    "diskdump": (b"DISKDUMP" + bytes(200), "diskdump"),
    "flattened": (b"makedumpfile\0\0\0\0" + bytes(200), "makedumpfile -R"),
    "lime": (b"EMiL\1\0\0\0" + bytes(200), "LiME"),
    "xc_core": (struct.pack("<I", 0xF00FEBED) + bytes(200), "before ELF"),
    "xc_core hvm": (struct.pack("<I", 0xF00FEBEE) + bytes(200), "HVM guest"),
    "device model": (b"QEVM" + bytes(200), "HVM guests"),
    "host": (elf_core([(b"CORE", 1), (b"VMCOREINFO", 0), (b"VMCOREINFO_XEN", 0)]), "whole host"),
    "host by Xen's note": (elf_core([(b"CORE", 1), (b"Xen", 0x1000001)]), "whole host"),
    "host, 32 bits": (elf_core([(b"Xen", 0x1000002)], bits=32), "whole host"),
    "kernel": (elf_core([(b"CORE", 1), (b"VMCOREINFO", 0)]), "vmcore of one kernel"),
    "segments": (elf_core([(b"CORE", 1)]), "ELF core of segments"),
}


@pytest.mark.parametrize(("data", "words"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_read_is_named_with_what_to_do(data, words):
    with pytest.raises(InputError, match=words) as caught:
        read_bytes(data)
    told = str(caught.value)
    assert "xl dump-core" in told or "kept by Xen" in told or "save it" in told


@pytest.mark.parametrize("data", [data for data, _ in OTHERS.values()], ids=OTHERS)
def test_their_heads_cut_anywhere_are_refused_in_one_line(data):
    for cut in range(1, len(data), 3):
        with pytest.raises(InputError):
            read_bytes(data[:cut])

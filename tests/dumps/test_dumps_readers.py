"""Readers: recorded dumps, written guests of every kind, pipes against files, resent pages."""

import gzip
import io
import json
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dump_guests import build, core, fl_pfn, fll_pfn, images, legacy, stream
from p2mbatch.base.geometry import INVALID
from p2mbatch.base.sources import SequentialCursor
from p2mbatch.dumps.audit.findings import audit, audit_text
from p2mbatch.dumps.audit.walk import save_check
from p2mbatch.dumps.readers.read import read_bytes, read_cursor, read_dump
from p2mbatch.dumps.writers.containers import LEGACY_WRAPPERS, WRAPPERS

DUMPS = Path(__file__).parents[2] / "data" / "dumps"
EXPECTED = json.loads((DUMPS / "expected.json").read_text())


def read_once(data):
    """Read `data` as a pipe brings it, with nothing held whole."""
    return read_cursor(SequentialCursor(io.BytesIO(data).readinto, "pipe"), small_bytes=0)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("how", ["gzip", "mapped", "pipe", "fifo"])
def test_recorded_dumps_read_as_expected(name, how, tmp_path):
    path = DUMPS / name
    if how == "gzip":
        guest = read_dump(path)
    elif how == "pipe":
        guest = read_once(gzip.decompress(path.read_bytes()))
    else:
        data = gzip.decompress(path.read_bytes())
        plain = tmp_path / "dump"
        if how == "mapped":
            plain.write_bytes(data)
            guest = read_dump(plain)
        else:
            os.mkfifo(plain)
            thread = threading.Thread(target=plain.write_bytes, args=(data,))
            thread.start()
            guest = read_dump(plain)
            thread.join()
    found = audit(guest).to_json()
    assert {key: found[key] for key in EXPECTED[name]} == EXPECTED[name]


@settings(max_examples=40, deadline=None)
@given(images, st.sampled_from(LEGACY_WRAPPERS), st.sampled_from([32, 64]), st.booleans())
def test_a_legacy_stream_written_reads_back(image, wrapper, bits, once):
    data = legacy(image, wrapper=wrapper, toolstack_bits=bits)
    guest = read_once(data) if once else read_bytes(data)
    assert guest.format == f"libxc stream v1, {wrapper} wrapper"
    assert guest.container == (None if wrapper == "libxc" else wrapper)
    assert guest.details["toolstack_bits"] == bits
    assert (guest.word_bytes, guest.max_p2m_pfn) == (image.word_bytes, image.p2m.size)
    assert np.array_equal(guest.p2m.to_array(), image.p2m)
    assert np.array_equal(guest.leaf_pfns, image.leaf_pfns)
    assert guest.shared_info.frame_list_list_mfn == image.frame_list_list_mfn
    assert not guest.notes


@settings(max_examples=40, deadline=None)
@given(
    images,
    st.sampled_from([2, 3]),
    st.sampled_from(WRAPPERS),
    st.booleans(),
    st.booleans(),
)
def test_a_stream_written_reads_back(image, version, wrapper, live, once):
    data = stream(image, version=version, wrapper=wrapper, live=live)
    guest = read_once(data) if once else read_bytes(data)
    assert guest.format == f"libxc stream v{version}, {wrapper} wrapper"
    assert guest.word_bytes == image.word_bytes
    assert guest.max_p2m_pfn == image.p2m.size
    assert np.array_equal(guest.p2m.to_array(), image.p2m)
    assert guest.leaf_pfns is not None
    assert np.array_equal(guest.leaf_pfns, image.leaf_pfns)
    assert guest.shared_info is not None
    assert guest.shared_info.frame_list_list_mfn == image.frame_list_list_mfn
    assert save_check(guest).result == "ok"
    if not once:
        for pfn in np.flatnonzero(image.p2m != INVALID)[:20].tolist():
            page = guest.pages.read(pfn)
            assert page is not None and page.complete
            assert np.array_equal(page.words, image.words.get(pfn, np.zeros_like(page.words)))


@settings(max_examples=30, deadline=None)
@given(images, st.booleans())
def test_a_core_written_reads_back(image, once):
    guest = read_once(core(image)) if once else read_bytes(core(image))
    assert (guest.format, guest.word_bytes) == ("xl dump-core ELF", image.word_bytes)
    assert np.array_equal(guest.p2m.to_array(), image.p2m)
    assert save_check(guest).result == "ok"


@pytest.mark.parametrize(("word_bytes", "span"), [(8, 600_000), (4, 1_200_000)])
def test_several_mids_and_the_toolstacks_trim(word_bytes, span):
    image = build(3, word_bytes, span, populated=0.0, hole_leaves=0.0)
    # All of it but the first leaf is a hole: what the toolstack sends ends with the first mid of
    # those that are alike.
    data = stream(image)
    for guest in (read_bytes(data), read_once(data), read_bytes(core(image))):
        assert guest.max_p2m_pfn == span
        assert np.array_equal(guest.p2m.to_array(), image.p2m)
        assert save_check(guest).result == "ok"
        assert save_check(guest).max_pfn == min(span, 2 * image.geometry.entries**2) - 1


def _swap_leaves(image):
    words = image.words[fl_pfn(image)]
    words[0], words[1] = words[1], words[0]


BREAKAGES = {
    "max_pfn-too-large 134217728": (lambda i: None, {"shared_max_pfn": 512**3 + 1}),
    "bad-fll-mfn 0": (lambda i: None, {"frame_list_list_mfn": 0}),
    "bad-fll-mfn 18446744073709551615": (lambda i: None, {"frame_list_list_mfn": -1}),
    "map-fll-failed 1048577": (lambda i: None, {"frame_list_list_mfn": (1 << 20) + 1}),
    "bad-mfn-in-fll 0": (lambda i: i.words[fll_pfn(i)].__setitem__(0, 0), {}),
    "map-fl-failed 0": (lambda i: i.words[fll_pfn(i)].__setitem__(0, 1 << 21), {}),
    "bad-mfn-in-fl 2": (lambda i: i.words[fl_pfn(i)].__setitem__(2, INVALID), {}),
    "bad-mfn-in-fl 1": (lambda i: i.words[fl_pfn(i)].__setitem__(1, 1 << 41), {}),
    "map-leaves-failed 1": (lambda i: i.words[fl_pfn(i)].__setitem__(1, 1 << 22), {}),
    "bad-mfn-in-p2m-frame-list 0": (_swap_leaves, {}),
}


@pytest.mark.parametrize("detail", BREAKAGES)
@pytest.mark.parametrize("kind", ["stream", "pipe", "core"])
def test_the_save_check_names_what_is_broken(detail, kind):
    from dataclasses import replace

    image = build(5, 8, 1400, populated=0.9)
    breakage, fields = BREAKAGES[detail]
    breakage(image)
    image = replace(image, **fields)
    read = {"stream": read_bytes, "pipe": read_once, "core": read_bytes}[kind]
    guest = read(core(image) if kind == "core" else stream(image))
    result = audit(guest)
    assert result.walk.result == detail
    assert result.failed
    assert result.to_json()["fate_if_migrated"] == "stuck"
    assert "if migrated       stuck: it runs on where it was" in audit_text(result)
    assert result.walk.reason
    assert all(result.meaning)


def test_a_list_that_names_a_copy_of_a_leaf_is_misdirected():
    image = build(5, 8, 1400, populated=1.0)
    n = image.geometry.entries
    # The last leaf (no structure's frame is in it) is copied to a page that is nothing else.
    copy = next(p for p in range(n, 2 * n) if p not in image.words)
    image.words[copy] = image.words[int(image.leaf_pfns[-1])].copy()
    image.words[fl_pfn(image)][2] = image.p2m[copy]
    assert save_check(read_bytes(stream(image))).result == "misdirected"
    assert audit(read_bytes(stream(image))).fate[0] == "moved wrong"
    # A dump-core file doesn't name the leaves; a copy that says the same is as good.
    assert save_check(read_bytes(core(image))).result == "ok"
    image.words[copy][5] += 1
    assert save_check(read_bytes(core(image))).result == "misdirected"


@pytest.mark.parametrize("once", [False, True])
def test_the_last_copy_of_a_page_counts_even_in_one_record(once):
    image = build(1, 8, 700)
    leaf = int(image.leaf_pfns[0])
    data = stream(image, wrapper="libxc")
    other = np.full(512, 77, "<u8").tobytes()
    again = image.page(leaf)
    at = _record_at(data, 8)
    body = struct.pack("<IIQQQ", 3, 0, leaf, 0xF << 60 | leaf, leaf) + other + again
    extra = struct.pack("<II", 1, len(body)) + body
    guest = (read_once if once else read_bytes)(data[:at] + extra + data[at:])
    assert np.array_equal(guest.p2m.to_array(), image.p2m)
    assert guest.details["resent_pages"] == 1 or guest.details["resent_pages"] == 2


def _record_at(data, kind):
    """Return where the first record of `kind` begins in a bare stream."""
    at = 40
    while True:
        found, length = struct.unpack_from("<II", data, at)
        if found == kind:
            return at
        at += 8 + length + -length % 8


def test_bytes_behind_the_end_are_noted():
    guest = read_bytes(stream(build(1)) + b"x" * 5)
    assert "5 bytes follow" in guest.notes[0]


# --- text --------------------------------------------------------------------------------------


def mfndump_text(p2m, width):
    ones = 2**64 - 1
    lines = [" --- Dumping P2M for domain 7 ---"]
    lines.append(f" Guest Width: {width}, PT Levels: {width // 2} P2M size: = {p2m.size}")
    for pfn, mfn in enumerate(p2m.tolist()):
        kind = "0xf) invalid" if mfn < 0 else "0x0)"
        lines.append(f"  pfn={pfn:#x} ==> mfn={mfn & ones:#x} (type {kind}")
    return "\n".join([*lines, " --- End of P2M for domain 7 ---", ""]).encode()


@settings(max_examples=10, deadline=None)
@given(images, st.booleans())
def test_mfndump_text_reads_back(image, once):
    data = mfndump_text(image.p2m, image.word_bytes)
    guest = read_once(data) if once else read_bytes(data)
    assert guest.format == "xen-mfndump dump-p2m text"
    assert guest.word_bytes == image.word_bytes
    assert np.array_equal(guest.p2m.to_array(), image.p2m)
    assert audit(guest).walk.result is None


NEWER = b""" [0x0->0xa0] pfn
 [0xa0->0x100] identity
 [0x100->0x800] pfn
 [0x800->0x900] missing
 [0x900->0x1000] pfn
"""
OLDER = b""" [0x0->0xa0] pfn
 [0xa0->0x100] identity
 [0x0->0x100] level middle
 [0x100->0x800] pfn
 [0x800->0x900] missing
 [0x900->0x1000] pfn
 [0x1000->0x1ffffff] missing
 [0x100->0x1ffffff] level entry
"""


@pytest.mark.parametrize("text", [NEWER, OLDER], ids=["newer", "older"])
def test_debugfs_text_tells_holes(text):
    result = audit(read_bytes(text))
    found = result.to_json()
    assert found["max_p2m_pfn"] == 0x1000
    assert found["pages_present"] == 0x1000 - 0x100
    assert found["identity_entries"] == 0x60
    assert found["holes"]["num"] == 1 and found["holes"]["largest_pfn"] == 0x800
    assert found["p2m_sha256"] is None and found["save_check"] is None
    assert ("with levels" in found["format"]) == (text is OLDER)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b" [0x0->0xa0] pfn\n [0x90->0xc0] pfn\n", "expected a range from 0xa0 on"),
        (b" [0x0->0xa0] pfn\n [0xa0->0xa0] pfn\n", "expected a range from 0xa0 on"),
        (b" [0x0->0xa0] pfn\n [0xa0->0xb0] other\n", "expected identity, missing"),
        (b" [0x0->0xa0] pfn\n [0xa0: lost\n", "expected a line"),
        (b" [0x0->0xa0] pfn\n [0xa0->0xb0] pf", "no end"),
        (b"  pfn=0x0 ==> mfn=0x5 (type 0x0)\n  pfn=0x0 ==> mfn=0x5 (type 0x0)\n", "above 0x0"),
        (b"  pfn=0x0 ==> mfn=0x5 (type 0x0)\n  pfn=0x1 ==> mfnxc: detail\n", "expected a line"),
        (b"  pfn=0x0 ==> mfn=0x5 (type 0x0)\n  pfn=0x1 ==> m", "expected a line"),
        (b"  pfn=0x0 ==> mfn=0x5 (type 0x0)\n" + b"x" * 5000, "without an end"),
    ],
)
def test_text_that_does_not_fit_is_refused_by_line(text, line):
    from p2mbatch.base.errors import InputError

    with pytest.raises(InputError, match=line):
        read_bytes(text)

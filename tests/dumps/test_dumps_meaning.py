"""What a file means where it could be read in two ways: never a wrong answer presented as right."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from test_dumps_readers import mfndump_text

from dump_guests import build, core, fl_pfn, fll_pfn, stream
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.base.sources import SequentialCursor
from p2mbatch.dumps import formats
from p2mbatch.dumps.audit.findings import audit
from p2mbatch.dumps.audit.walk import save_check
from p2mbatch.dumps.importing.to_trace import import_trace
from p2mbatch.dumps.readers.read import read_bytes, read_cursor
from p2mbatch.model.anonymise import anonymise


def read_once(data):
    return read_cursor(SequentialCursor(io.BytesIO(data).readinto, "pipe"), small_bytes=0)


BOTH = pytest.mark.parametrize("read", [read_bytes, read_once], ids=["file", "pipe"])


def records(data):
    """Return (offset, type, body length) of each record of a bare stream."""
    found, at = [], 40
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        found.append((at, kind, length))
        at += 8 + length + -length % 8
    return found


def put_before(data, kind, *parts):
    """Return the bare stream `data` with `parts` before its first record of `kind`."""
    at = next(at for at, found, _ in records(data) if found == kind)
    return data[:at] + b"".join(parts) + data[at:]


def record(kind, body=b""):
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def page_data(entries, *pages):
    body = struct.pack(f"<II{len(entries)}Q", len(entries), 0, *entries) + b"".join(pages)
    return record(formats.PAGE_DATA_TYPE, body)


OTHER_PAGE = np.full(512, 77, "<u8").tobytes()


# --- streams -----------------------------------------------------------------------------------


@BOTH
def test_pages_behind_verify_are_only_compared(read):
    image = build(1, 8, 700)
    leaf = int(image.leaf_pfns[0])
    data = stream(image, wrapper="libxc")
    again = put_before(data, formats.X86_TSC_INFO, page_data([leaf], OTHER_PAGE))
    assert not np.array_equal(read(again).p2m.to_array(), image.p2m)
    verify = record(formats.VERIFY)
    again = put_before(data, formats.X86_TSC_INFO, verify, page_data([leaf], OTHER_PAGE))
    assert np.array_equal(read(again).p2m.to_array(), image.p2m)


@BOTH
def test_a_guest_of_checkpoints_is_that_of_the_last_complete_one(read):
    image = build(1, 8, 700)
    leaf, shared = int(image.leaf_pfns[0]), record(formats.SHARED_INFO, image.shared_info())
    checkpoint = record(formats.CHECKPOINT)
    data = stream(image, wrapper="libxc")
    first = put_before(
        data, formats.X86_TSC_INFO, page_data([leaf], OTHER_PAGE), shared, checkpoint
    )
    at = next(at for at, kind, _ in records(first) if kind == formats.X86_TSC_INFO)
    last = page_data([leaf], image.page(leaf))
    whole = first[:at] + last + first[at:-8] + checkpoint + first[-8:]
    assert np.array_equal(read(whole).p2m.to_array(), image.p2m)
    # Without the last CHECKPOINT a receiver would drop what came after the first.
    with pytest.raises(InputError, match="expected CHECKPOINT before END"):
        read(first[:at] + last + first[at:])


@BOTH
def test_libxls_records_stand_between_checkpoints(read):
    image = build(1, 8, 700)
    data = stream(image, wrapper="libxl")
    # The end of the libxc stream and of libxl's: 8 bytes each.
    between = record(formats.LIBXL_EMULATOR_XENSTORE_DATA, struct.pack("<II", 1, 0) + b"a\0b\0")
    between += record(formats.LIBXL_CHECKPOINT_END)
    whole = data[:-16] + record(formats.CHECKPOINT) + between + data[-16:]
    assert np.array_equal(read(whole).p2m.to_array(), image.p2m)
    with pytest.raises(InputError, match="expected a libxl record of a checkpoint, found 0x1"):
        read(data[:-16] + record(formats.CHECKPOINT) + record(1) + data[-16:])


@BOTH
@pytest.mark.parametrize("kind", [1, 4, 9, 0xC])
def test_a_leaf_that_was_sent_as_a_page_table_is_refused(read, kind):
    image = build(1, 8, 700)
    leaf = int(image.leaf_pfns[0])
    data = stream(image, wrapper="libxc")
    entry = kind << formats.TYPE_SHIFT | leaf
    with pytest.raises(InputError, match=rf"leaf 0 \(PFN {leaf}\).*expected a plain page"):
        read(put_before(data, formats.X86_TSC_INFO, page_data([entry], image.page(leaf))))


@BOTH
@pytest.mark.parametrize("which", [fll_pfn, fl_pfn])
def test_a_list_that_was_sent_as_a_page_table_can_not_be_judged(read, which):
    image = build(1, 8, 700)
    pfn = which(image)
    data = stream(image, wrapper="libxc")
    entry = 2 << formats.TYPE_SHIFT | pfn
    found = audit(read(put_before(data, formats.X86_TSC_INFO, page_data([entry], image.page(pfn)))))
    assert found.walk.result is None and not found.failed
    assert f"PFN {pfn}" in found.walk.reason and "page table" in found.walk.reason


def test_a_number_that_a_pipe_did_not_keep_is_not_made_up():
    image = build(1, 8, 700)
    image.words[fll_pfn(image)][0] = 0xDEAD_BEEF_0000
    data = stream(image)
    for read, shown in ((read_bytes, "0xdeadbeef0000"), (read_once, "not kept of a pipe")):
        walk = save_check(read(data))
        assert walk.result == "bad-mfn-in-fll 0"
        assert shown in walk.reason and "Bad mfn 0x0 " not in walk.reason
    image = build(1, 8, 700)
    image.words[fl_pfn(image)][0] = -3
    walk = save_check(read_once(stream(image)))
    assert walk.result == "bad-mfn-in-fl 0" and "not kept of a pipe" in walk.reason


@BOTH
def test_where_two_pfns_name_a_leafs_frame_the_files_own_word_counts(read):
    image = build(3, 8, 700, populated=1.0)
    leaf = int(image.leaf_pfns[1])
    lower = next(p for p in range(leaf) if p not in image.words)
    image.p2m[lower] = image.p2m[leaf]
    image.words[int(image.leaf_pfns[0])][lower] = image.p2m[leaf]
    found = audit(read(stream(image)))
    assert found.walk.result == "ok"
    assert [h.kind for h in found.hazards if h.kind == "repeated-frames"]


def test_a_p2m_that_grew_while_it_was_saved_is_noted():
    image = build(1, 8, 700)
    grown = replace(image, shared_max_pfn=900)
    guest = read_bytes(stream(grown))
    assert guest.max_p2m_pfn == 900
    assert "PFNs up to 699 only" in guest.notes[0]
    assert not read_bytes(stream(image)).notes


# --- cores -------------------------------------------------------------------------------------


def section(data, name):
    """Return where the header of section `name` of a core is, its offset and its size."""
    count = struct.unpack_from("<H", data, 60)[0]
    names_at = struct.unpack_from("<Q", data, 64 + 64 + 24)[0]
    for at in range(64, 64 + 64 * count, 64):
        first = names_at + struct.unpack_from("<I", data, at)[0]
        if data[first : data.index(b"\0", first)] == name.encode():
            return at, *struct.unpack_from("<QQ", data, at + 24)
    raise AssertionError(name)


def shuffled(data, seed):
    """Return the core `data` with its pages in another order, and an unused pair among them."""
    data = bytearray(data)
    _, pairs_at, pairs_size = section(data, ".xen_p2m")
    _, pages_at, pages_size = section(data, ".xen_pages")
    order = np.random.default_rng(seed).permutation(pairs_size // 16)
    pairs = np.frombuffer(data, "<u8", pairs_size // 8, pairs_at).reshape(-1, 2)[order].tobytes()
    pages = np.frombuffer(data, np.uint8, pages_size, pages_at).reshape(-1, 4096)[order].tobytes()
    data[pairs_at : pairs_at + pairs_size] = pairs
    data[pages_at : pages_at + pages_size] = pages
    return data


@BOTH
@pytest.mark.parametrize("word_bytes", [4, 8])
def test_pages_of_a_core_come_in_any_order(read, word_bytes):
    image = build(4, word_bytes, 3000, populated=0.7)
    plain, mixed = read(core(image)), read(bytes(shuffled(core(image), 1)))
    assert audit(mixed).to_json() == audit(plain).to_json()
    assert save_check(mixed).result == "ok"
    # An unused pair in the middle takes its page along.
    data = shuffled(core(image), 1)
    _, pairs_at, _ = section(data, ".xen_p2m")
    spare = next(
        at
        for at in range(pairs_at, pairs_at + 16 * 50, 16)
        if struct.unpack_from("<Q", data, at)[0] not in image.words
    )
    pfn = struct.unpack_from("<Q", data, spare)[0]
    struct.pack_into("<QQ", data, spare, 2**64 - 1, 2**64 - 1)
    entries = read(bytes(data)).p2m.to_array()
    assert entries[pfn] == INVALID and np.count_nonzero(entries != image.p2m) == 1
    assert save_check(read(bytes(data))).result in ("ok", "misdirected")


@BOTH
@pytest.mark.parametrize(("word_bytes", "machine"), [(4, 62), (8, 3)])
def test_the_shared_info_page_has_the_last_word_on_the_width(read, word_bytes, machine):
    image = build(4, word_bytes, 3000, populated=0.7)
    data = bytearray(core(image))
    struct.pack_into("<H", data, 18, machine)
    guest = read(bytes(data))
    assert guest.word_bytes == word_bytes
    assert save_check(guest).result == "ok"
    assert f"that of a {8 * word_bytes}-bit guest" in guest.notes[0]
    assert not read(core(image)).notes


def test_a_broken_guest_keeps_the_machines_width():
    # A frame list list that nobody names: neither width leads to the p2m.
    image = replace(build(4, 8, 3000), frame_list_list_mfn=(1 << 20) + 1)
    guest = read_bytes(core(image))
    assert guest.word_bytes == 8 and not guest.notes
    assert save_check(guest).result == "map-fll-failed 1048577"


def test_a_core_without_shared_info_has_a_p2m_but_no_save_check():
    image = build(4, 8, 3000)
    data = bytearray(core(image))
    at, _, _ = section(data, ".xen_shared_info")
    struct.pack_into("<I", data, at + 4, formats.SHT_NULL)
    found = audit(read_bytes(bytes(data))).to_json()
    assert found["save_check"] is None and found["frame_list_list_mfn"] is None
    assert found["max_p2m_pfn"] == int(np.flatnonzero(image.p2m >= 0)[-1]) + 1
    assert "no .xen_shared_info" in found["notes"][0]


def test_a_linear_list_may_be_longer_than_a_tree():
    image = build(1, 8, 700)
    data = bytearray(core(image))
    _, pairs_at, pairs_size = section(data, ".xen_p2m")
    far = 600 << 18
    struct.pack_into("<Q", data, pairs_at + pairs_size - 16, far)
    shared = data.index(image.shared_info())
    struct.pack_into("<QQQQ", data, shared + 3088, far + 5, 2**64 - 1, 0, 0x1000)
    guest = read_bytes(bytes(data))
    # What shared info says beyond a tree counts only as far as the file shows it.
    assert guest.max_p2m_pfn == far + 1
    assert guest.p2m.chunk(far, far + 1)[0] == image.p2m[image.p2m >= 0][-1]
    with pytest.raises(InputError, match="PFNs are imported from so few"):
        import_trace(guest, "x")
    struct.pack_into("<QQQQ", data, shared + 3088, far + 5, image.frame_list_list_mfn, 0, 0)
    assert read_bytes(bytes(data)).max_p2m_pfn == 1 << 27


@BOTH
def test_what_follows_a_core_is_noted(read):
    assert "bytes follow the last section" in read(core(build(4)) + b"x" * 9).notes[0]


@BOTH
def test_sections_in_the_headers_and_endless_notes_are_refused(read):
    data = bytearray(core(build(4)))
    at, _, _ = section(data, ".xen_p2m")
    struct.pack_into("<Q", data, at + 24, 128)
    with pytest.raises(InputError, match="behind 'the section headers'"):
        read(bytes(data))
    data = bytearray(core(build(4)))
    at, notes_at, size = section(data, ".note.Xen")
    empty = formats.NOTE.pack(4, 0, formats.NOTE_NONE, b"Xen\0")
    notes = data[notes_at : notes_at + size] + empty * 5000
    struct.pack_into("<QQ", data, at + 24, len(data), len(notes))
    # In a file of some GiB the walk over them would take hours.
    with pytest.raises(InputError, match=r"at most 65536 bytes in \.note\.Xen"):
        read(bytes(data + notes))


def test_no_more_of_a_pipe_is_unpacked_than_the_sections_name():
    """An endless pipe behind a whole core must not fill the disk."""
    image = build(4, 8, 700)
    data, taken = io.BytesIO(core(image)), [0]

    def readinto(view):
        count = data.readinto(view)
        if not count:
            view[:] = bytes(len(view))
            count = len(view)
        taken[0] += count
        assert taken[0] < 100 << 20, "the pipe is read for ever"
        return count

    guest = read_cursor(SequentialCursor(readinto, "pipe"), small_bytes=0)
    assert np.array_equal(guest.p2m.to_array(), image.p2m)
    assert "follow the last section" in guest.notes[0]


# --- text and what is no dump ------------------------------------------------------------------


def test_a_frame_number_too_large_for_the_width_is_refused():
    p2m = np.array([1, 1 << 33, 3])
    with pytest.raises(InputError, match="32-bit frame numbers in a 32-bit guest"):
        read_bytes(mfndump_text(p2m, 4))
    assert read_bytes(mfndump_text(p2m, 8)).p2m.to_array().tolist() == p2m.tolist()


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        (b"\xfd7zXZ\0", "xz data: unpack it first"),
        (b"BZh9", "bzip2 data"),
        (b"\x28\xb5\x2f\xfd", "zstd data"),
        (b'{"format": "p2mbatch-trace/1"}', "JSON: replay reads traces"),
    ],
)
def test_what_it_is_instead_is_said(head, hint):
    with pytest.raises(InputError) as caught:
        read_bytes(head + bytes(100))
    assert hint in str(caught.value)


# --- anonymise ---------------------------------------------------------------------------------


def test_anonymise_hides_foreign_identity_and_odd_numbers():
    image = build(2, 8, 2000, populated=1.0)
    last = image.words[int(image.leaf_pfns[3])]
    odd = {1900: FOREIGN_FRAME_BIT | 0x12345, 1901: 1 << 62 | 1901, 1902: 0}
    for pfn, entry in odd.items():
        image.p2m[pfn] = last[pfn % 512] = entry
    trace = import_trace(read_bytes(stream(image)), "x", "tracked")
    hidden = anonymise(trace, key=3)
    runs = np.concatenate([e["runs"] for e in hidden.events if e["op"] == "set"])
    entries = {int(p): int(m) for p, m, c in runs.tolist() if c == 1}
    assert entries[1901] == 1 << 62 | 1901 and entries[1902] == 0
    assert entries[1900] & FOREIGN_FRAME_BIT and entries[1900] != odd[1900]
    # The foreign frame is one of the host's that the guest does not have.
    frame = entries[1900] ^ FOREIGN_FRAME_BIT
    domain = hidden.hosts[0].domain
    assert 0 < frame < hidden.hosts[0].frames
    assert not np.any((domain[:, 1] <= frame) & (frame < domain[:, 1] + domain[:, 2]))
    # Numbers beyond the host's memory move too, and stay beyond.
    beyond = {"op": "set", "runs": np.array([[1800, trace.hosts[0].frames + 777, 2]])}
    hidden = anonymise(replace(trace, events=[*trace.events, beyond]), key=3)
    moved = int(hidden.events[-1]["runs"][0, 1])
    assert hidden.hosts[0].frames <= moved != trace.hosts[0].frames + 777

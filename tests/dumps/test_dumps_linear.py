"""Guests with a linear p2m list: walked through their page tables as the toolstack walks them."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from dump_guests import core, stream
from linear_files import LinearGuest
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID, geometry
from p2mbatch.dumps.audit.findings import audit, audit_text
from p2mbatch.dumps.readers.read import read_bytes
from p2mbatch.dumps.writers.image import GuestImage
from p2mbatch.dumps.writers.legacy import write_legacy
from p2mbatch.dumps.writers.page_tables import LinearEntry, build_tables

WIDTHS = pytest.mark.parametrize("width", [8, 4])

BLOCK = {8: 512 * 512, 4: 512 * 1024}
"""PFNs whose entries one level-1 table maps, by width."""


def image_of(hand, shared_slots=()):
    """Return the hand-made guest as an image whose tables the package's writer has built."""
    entries = [LinearEntry(slot, pfn) for slot, pfn in enumerate(hand.leaf_pfns)]
    pages = iter([0, *(pfn for pfn in sorted(hand.tables) if pfn)])
    tables = build_tables(entries, hand.vaddr, pages, hand.width, hand.generation)
    p2m = np.array(hand.p2m, np.uint64).astype(np.int64)
    n = hand.n
    words = {}
    for slot, pfn in enumerate(hand.leaf_pfns):
        part = p2m[slot * n : (slot + 1) * n]
        words[pfn] = np.concatenate([part, np.full(n - part.size, INVALID)])
    return GuestImage(
        word_bytes=hand.width,
        frames=1 << 24,
        shared_max_pfn=hand.num_pfns,
        frame_list_list_mfn=INVALID,
        p2m=p2m,
        leaf_pfns=np.array(hand.leaf_pfns, np.int64),
        words=words,
        linear=tables,
    )


@WIDTHS
def test_the_writers_tables_and_the_hand_made_ones_are_the_same(width):
    hand = LinearGuest(width, 3000)
    image = image_of(hand)
    assert set(image.linear.tables) == set(hand.tables)
    for pfn in range(hand.num_pfns):
        assert image.page(pfn) == hand.page(pfn, sent=False)
        assert image.sent_page(pfn) == hand.page(pfn, sent=True)
    assert image.shared_info() == hand.shared_info()


@WIDTHS
@pytest.mark.parametrize("form", ["hand", "stream", "core"])
def test_the_list_is_found_through_the_page_tables(width, form):
    hand = LinearGuest(width, 3000)
    data = {"hand": hand.stream, "stream": lambda: stream(image_of(hand))}.get(
        form, lambda: core(image_of(hand))
    )()
    guest = read_bytes(data)
    result = audit(guest)
    told = result.to_json()
    assert told["save_check"] == "ok"
    assert result.walk.leaf_pfns.tolist() == hand.leaf_pfns
    assert guest.p2m.to_array().tolist() == hand.p2m
    assert (told["p2m_generation"], told["linear"]["amid_an_update"]) == (4, False)
    assert told["linear"]["p2m_vaddr"] == hand.vaddr
    assert told["linear"]["p2m_cr3_mfn"] == hand.mfn(0)
    levels = [level for level, _ in hand.tables.values()]
    assert told["linear"]["tables"] == {str(x): levels.count(x) for x in sorted(set(levels))}
    assert told["tree"] is None and not result.structures.found
    assert "linear list" in audit_text(result) and "tree " not in audit_text(result)


@WIDTHS
def test_an_odd_generation_is_told(width):
    result = audit(read_bytes(LinearGuest(width, 1300, generation=7).stream()))
    assert result.to_json()["linear"]["amid_an_update"]
    assert "odd-generation" in {hazard.kind for hazard in result.hazards}


def walk_of(image):
    return audit(read_bytes(core(image))).walk


def table(image, level):
    """Return (PFN, entries) of the first table of `level`."""
    return next((p, t.entries) for p, t in image.linear.tables.items() if t.level == level)


@WIDTHS
@pytest.mark.parametrize("level", [1, 2, 3])
def test_an_absent_entry_is_the_walks_failure(width, level):
    image = image_of(LinearGuest(width, 3000))
    _, entries = table(image, level)
    entries[np.flatnonzero(entries)[0]] = 0
    walk = walk_of(image)
    assert walk.result == f"bad-mfn-in-walk {level} 0"
    assert walk.failing.mfn == 0 and "absent" in walk.failing.leads_to
    assert (
        walk.reason.startswith("Bad mfn 0 during page table walk") or "Bad mfn 0x0" in walk.reason
    )


@WIDTHS
def test_frames_that_are_not_the_guests(width):
    hand = LinearGuest(width, 3000)
    data = bytearray(core(image_of(hand)))
    for level, result in ((2, "map-ptes-failed 1 0"), (1, "map-leaves-failed 2")):
        image = image_of(hand)
        pfn, entries = table(image, level)
        index = int(np.flatnonzero(entries)[2 if level == 1 else 0])
        broken = bytearray(core(image))
        page = image.page(pfn)
        at = broken.index(page)
        struct.pack_into("<Q", broken, at + 8 * index, 0x7777 << 12 | 3)
        walk = audit(read_bytes(bytes(broken))).walk
        assert walk.result == result and walk.failing.mfn == 0x7777
    assert audit(read_bytes(bytes(data))).walk.result == "ok"


@WIDTHS
def test_a_page_that_is_another_leaf_is_told(width):
    image = image_of(LinearGuest(width, 4 * 1024))
    _, entries = table(image, 1)
    used = np.flatnonzero(entries)
    entries[used[0]], entries[used[1]] = entries[used[1]], entries[used[0]]
    walk = walk_of(image)
    assert walk.result == "bad-mfn-in-p2m-frame-list 0"


def test_addresses_at_which_no_list_can_lie():
    for width, vaddr in ((8, 0x0000_8000_0000_0000), (8, 0xFFFF_8000_0000_1000), (4, 0xFFFF_F000)):
        hand = LinearGuest(width, 3000, vaddr={8: None, 4: None}[width])
        image = image_of(hand)
        image = replace(image, linear=replace(image.linear, vaddr=vaddr))
        assert walk_of(image).result == "bad-p2m-range"


def test_a_top_table_that_no_host_has():
    data = bytearray(core(image_of(LinearGuest(8, 1300))))
    shared = data.index(image_of(LinearGuest(8, 1300)).shared_info())
    struct.pack_into("<Q", data, shared + 3112, (1 << 41) << 12)
    walk = audit(read_bytes(bytes(data))).walk
    assert walk.result == f"bad-p2m-cr3 {1 << 41}"


def test_a_table_entry_beyond_max_pfn_stops_the_sending():
    """linear-spec, L9 item 8: what 4.3 to 5.13 leave behind where memory was added."""
    hand = LinearGuest(8, 1300)
    image = image_of(hand)
    p2m = np.concatenate([image.p2m, [hand.mfn(1300)]])
    _, entries = table(image, 1)
    entries[3] = 1300 << 12 | 3
    image = replace(image, p2m=p2m)
    walk = walk_of(image)
    assert walk.result == "bad-mfn-in-page-table 1 3"
    assert "beyond max_pfn" in walk.failing.leads_to


def _many_blocks(vaddr, num_blocks, shared_tail):
    """Return an image of `num_blocks` blocks, each with one leaf for all of its slots."""
    n, span = 512, num_blocks * BLOCK[8]
    p2m = np.full(span, INVALID, np.int64)
    p2m[:64] = np.arange(64) + 5000
    words = {40 + b: np.full(n, INVALID, np.int64) for b in range(num_blocks)}
    words[40][:64] = p2m[:64]
    missing = 39
    words[missing] = np.full(n, INVALID, np.int64)
    leaves = np.full(span // n, missing, np.int64)
    leaves[0] = 40
    entries = [LinearEntry(slot, int(pfn), slot == 0) for slot, pfn in enumerate(leaves)]
    tables = build_tables(entries, vaddr, iter(range(20)), 8)
    if shared_tail:
        # Blocks without anything share one level-1 table, as p2m_missing_pte is shared.
        first_shared = int(tables.leaf_tables[1])
        top2 = next(t.entries for t in tables.tables.values() if t.level == 2)
        for block in range(1, num_blocks):
            top2[(vaddr >> 21 & 511) + block] = first_shared << 12 | 3
        tables = replace(
            tables,
            leaf_tables=np.array([tables.leaf_tables[0]] + [first_shared] * (num_blocks - 1)),
        )
    return GuestImage(8, 1 << 24, span, INVALID, p2m, leaves, words, tables)


def test_tables_that_repeat_at_the_end_are_trimmed():
    image = _many_blocks(0xFFFFC90000000000, 3, shared_tail=True)
    walk = walk_of(image)
    assert walk.result == "ok" and walk.max_pfn == BLOCK[8] - 1
    assert image.last_saved_pfn() == BLOCK[8] - 1
    whole = _many_blocks(0xFFFFC90000000000, 3, shared_tail=False)
    assert walk_of(whole).max_pfn == 3 * BLOCK[8] - 1 == whole.last_saved_pfn()


def test_an_unaligned_list_loses_its_last_block():
    """linear-spec, L9 item 6: the trim compares a distance with an index."""
    image = _many_blocks(0xFFFFC90000000000 + (5 << 21), 3, shared_tail=False)
    walk = walk_of(image)
    assert walk.result == "ok" and walk.max_pfn == 2 * BLOCK[8] - 1 == image.last_saved_pfn()
    result = audit(read_bytes(stream(image)))
    assert result.walk.result == "ok" and result.walk.max_pfn == 2 * BLOCK[8] - 1


def test_foreign_and_lost_entries_of_a_linear_dump_come_from_its_leaves():
    hand = LinearGuest(8, 3000)
    image = image_of(hand)
    p2m = image.p2m.copy()
    p2m[2500:2520] = np.int64(-(1 << 63)) + 9000 + np.arange(20)
    p2m[2600:2650] = INVALID
    words = {pfn: w.copy() for pfn, w in image.words.items()}
    leaf = int(image.leaf_pfns[4])
    words[leaf][2500 - 2048 : 2520 - 2048] = p2m[2500:2520]
    told = audit(read_bytes(core(replace(image, p2m=p2m, words=words)))).to_json()
    assert told["foreign_entries"] == 20 and told["lost_in_dump_pages"] == 50
    assert told["save_check"] is None


def test_a_linear_guest_is_no_guest_of_a_legacy_toolstack(tmp_path):
    hand = LinearGuest(8, 1300)
    with (tmp_path / "x").open("wb") as file, pytest.raises(InputError, match="no linear p2m list"):
        write_legacy(image_of(hand), file)


def test_tables_need_pages_and_a_whole_page_as_address():
    entries = [LinearEntry(0, 5)]
    with pytest.raises(InputError, match="level 1 page table"):
        build_tables(entries, 0xFFFFC90000000000, iter([0, 1, 2]), 8)
    with pytest.raises(InputError, match="p2m_vaddr"):
        build_tables(entries, 0xFFFFC90000000001, iter(range(9)), 8)
    assert geometry(8).entries == 512

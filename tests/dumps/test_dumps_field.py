"""Files in the shape that people hold them (data/field): each reads as its entry there says."""

import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dump_guests import build, core, legacy, stream
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps import formats
from p2mbatch.dumps.audit.findings import audit, audit_text
from p2mbatch.dumps.importing.to_trace import check_import, import_trace
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.dumps.writers.containers import LEGACY_WRAPPERS, WRAPPERS
from p2mbatch.dumps.writers.image import image_at
from p2mbatch.model.trace_file import load_trace

DATA = Path(__file__).parents[2] / "data"
FIELD = DATA / "field"


def found(name):
    """Return the audit of a file of data/field."""
    return audit(read_dump(FIELD / name))


def recorded(name):
    return audit(read_dump(DATA / "dumps" / name))


def same_guest(one, other):
    keys = ("word_bytes", "max_p2m_pfn", "pages_present", "p2m_sha256", "frame_list_list_mfn")
    a, b = one.to_json(), other.to_json()
    return {key: a[key] for key in keys} == {key: b[key] for key in keys}


# --- what a file can prove ------------------------------------------------------------------------


def test_a_whole_list_is_no_proof_and_a_broken_one_comes_from_no_toolstack():
    text = audit_text(recorded("dense-64.core.gz"))
    assert "can be saved" not in text and "leaves no file" in text
    sick = recorded("stale-64.core.gz")
    assert sick.failed and "make-core" in sick.evidence and sick.evidence in audit_text(sick)
    assert "58e05027b53" in sick.meaning[0] and "before 2.6.37" not in sick.meaning[0]


def test_the_failing_entry_is_named_with_its_mfn_and_where_it_leads():
    failing = recorded("stale-64.core.gz").to_json()["failing_entry"]
    assert failing["mfn"] == 0xFF06 and failing["where"].startswith("entry 0 of the frame list")
    assert "no PFN" in failing["leads_to"]


def test_lost_pages_are_told_as_lost_and_never_as_holes():
    result = found("case-44-live-lost-tail.core.gz")
    told = result.to_json()
    assert (told["lost_in_dump_pages"], told["surplus_pages"]) == (200, 0)
    assert result.shape.holes.num == 0 and told["save_check"] is None
    assert "lost in the dump" in audit_text(result)
    assert same_guest(result, recorded("dense-64.core.gz"))


def test_pages_that_no_pfn_has_are_told_with_their_number():
    result = found("case-52-beyond-maxpfn-padded.core.gz")
    told = result.to_json()
    assert (told["lost_in_dump_pages"], told["surplus_pages"]) == (0, 500)
    assert told["save_check"] is None and "500" in told["save_check_message"]
    assert [h["num"] for h in told["hazards"] if h["kind"] == "beyond-max-pfn"] == [500]


@pytest.mark.parametrize("word_bytes", [4, 8])
def test_what_a_dump_left_out_is_read_from_the_leaves(word_bytes):
    image = build(5, word_bytes, 3000, populated=1.0)
    structures = set(image.words)
    plain = [p for p in range(2000, 2900) if p not in structures]
    lost, foreign = plain[:150], plain[200:260]
    before = image.p2m.copy()
    mark = 1 << 63 if word_bytes == 8 else 1 << 31
    for pfn in foreign:
        value = np.array([(7000 + pfn) | mark], np.uint64).view(np.int64)[0]
        leaf = image.words[int(image.leaf_pfns[pfn // image.geometry.entries])]
        leaf[pfn % image.geometry.entries] = before[pfn] = image.p2m[pfn] = value
    image.p2m[lost] = INVALID
    result = audit(read_bytes(core(image)))
    told = result.to_json()
    assert told["lost_in_dump_pages"] == len(lost)
    assert told["foreign_entries"] == len(foreign)
    assert np.array_equal(result.guest.p2m.to_array(), before)
    whole = build(5, word_bytes, 3000, populated=1.0)
    assert audit(read_bytes(core(whole))).to_json()["save_check"] == "ok"


def test_what_a_sick_guests_dump_left_out_is_read_through_its_own_tree():
    """The list leads to no leaf there; the guest's mids do."""
    path = FIELD.parent / "traces" / "aimed-present-foreign-back-64-300.json.gz"
    image = image_at(load_trace(path), 3)
    dumped, sent = audit(read_bytes(core(image))), audit(read_bytes(stream(image)))
    assert dumped.walk.result == sent.walk.result == "map-fl-failed 0"
    assert dumped.shape.foreign == sent.shape.foreign == 1
    assert dumped.p2m_sha256 == sent.p2m_sha256 and dumped.lost_pages == 0


def test_a_dump_that_lost_a_page_of_the_tree_itself_is_not_called_sick():
    image = build(6, 8, 3000, populated=1.0)
    page = int(image.leaf_pfns[4])
    assert page < 512
    image.p2m[page] = INVALID
    told = audit(read_bytes(core(image))).to_json()
    assert told["lost_in_dump_pages"] == 1 and told["save_check"] is None


def test_a_healthy_guest_does_not_open_with_a_warning_and_the_worst_comes_first():
    severities = [h.severity for h in audit(read_bytes(core(build(3, 8, 2000)))).hazards]
    assert set(severities) <= {"note"}
    severities = [h.severity for h in recorded("stale-64.core.gz").hazards]
    order = ["loss", "risk", "note"]
    assert severities == sorted(severities, key=order.index) and severities[0] == "loss"


# --- containers and legacy streams ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "container", "of"),
    [
        ("case-01-libvirt.save", "libvirt", "dense-64.core.gz"),
        ("case-02-xapi.suspend", "xenserver", "dense-64.core.gz"),
        ("legacy-64-tools64.xl", "xl", "dense-64.core.gz"),
        ("legacy-64-tools32.libxc", None, "dense-64.core.gz"),
        ("legacy-32-tools64.xend", "xend", "balloon-32-xl.stream.gz"),
        ("legacy-32-tools32.libxc", None, "balloon-32-xl.stream.gz"),
    ],
)
def test_the_guest_is_the_same_whatever_it_lies_in(name, container, of):
    result = found(f"{name}.gz")
    assert same_guest(result, recorded(of))
    assert result.to_json()["container"] == container
    assert result.to_json()["save_check"] == "ok"


@pytest.mark.parametrize("name", ["case-05-libxc-legacy32.save", "case-07-xl-legacy.save"])
def test_a_legacy_stream_that_is_cut_short_is_told_as_one(name):
    with pytest.raises(InputError, match=r"offset 0x[0-9a-f]+: .*legacy stream.*ends after"):
        read_dump(FIELD / f"{name}.gz")


_WRITTEN = {
    **{f"{w}-v{v}": partial(stream, wrapper=w, version=v) for w in WRAPPERS for v in (2, 3)},
    **{
        f"legacy-{w}-{bits}": partial(legacy, wrapper=w, toolstack_bits=bits)
        for w in LEGACY_WRAPPERS
        for bits in (32, 64)
    },
}


@pytest.mark.parametrize("kind", _WRITTEN)
def test_no_container_is_read_when_it_is_cut_or_damaged(kind):
    data = _WRITTEN[kind](build(11, 8, 24, populated=0.4))
    whole = read_bytes(data).p2m.sha256()
    rng = np.random.default_rng(3)
    for size in {*rng.integers(16, len(data), 60).tolist(), len(data) - 1}:
        with pytest.raises(InputError) as error:
            read_bytes(data[:size])
        assert "\n" not in str(error.value)
    for at in range(200):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        try:
            assert read_bytes(bytes(broken)).p2m.sha256() == whole
        except InputError as error:
            assert "\n" not in str(error)


def test_an_hvm_guest_in_a_legacy_file_is_named():
    data = formats.XENSERVER_1_MAGIC + struct.pack("<QiQ", 0x10000, 1024, 5) + bytes(400)
    with pytest.raises(InputError, match="HVM"):
        read_bytes(data)


def test_compressed_checkpoints_are_refused_by_name():
    data = bytearray(legacy(build(11, 8, 24), wrapper="libxc"))
    at = data.index((24).to_bytes(4, "little"), 5168 + 40)
    data[at : at + 4] = struct.pack("<i", formats.LEGACY_ENABLE_COMPRESSION)
    with pytest.raises(InputError, match=f"offset {at:#x}: .*compressed checkpoints"):
        read_bytes(bytes(data))


# --- a linear list --------------------------------------------------------------------------------


def test_a_linear_list_without_its_tables_fails_as_the_walk_does():
    result = found("case-41-linear.xl.gz")
    told = result.to_json()
    assert told["save_check"] == "map-ptes-failed 4 0" and told["p2m_generation"] == 6
    assert told["failing_entry"]["mfn"] == 0x1234
    assert told["tree"] is None and not result.structures.found
    assert told["frame_list_list_mfn"] == (1 << 64) - 1


# --- two bases ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "boot", "pointer"),
    [
        ("case-70-3.7-leaves-directmap.core.gz", -0x7800_0000_0000, -(1 << 31)),
        ("case-72-2.6.37-grown-two-bases.core.gz", -(1 << 31), -(1 << 31)),
    ],
)
def test_the_tree_is_found_under_two_bases(name, boot, pointer):
    structures = found(name).structures
    assert (structures.missing, structures.top, structures.mids) == (64, 66, {0: 67})
    assert (structures.boot_leaf_base, structures.pointer_base) == (boot, pointer)


def test_no_policy_is_named_that_the_tree_does_not_show():
    guest = read_dump(FIELD / "case-70-3.7-leaves-directmap.core.gz")
    with pytest.raises(InputError, match="--policy"):
        import_trace(guest, "x")
    assert import_trace(guest, "x", "tracked").policy == "tracked"
    guest = read_dump(FIELD / "case-72-2.6.37-grown-two-bases.core.gz")
    trace = import_trace(guest, "x")
    check_import(guest, trace)
    assert trace.policy == "tracked"


# --- import ---------------------------------------------------------------------------------------


def test_a_sick_guest_is_not_healed_without_a_word():
    guest = read_dump(DATA / "dumps" / "stale-64.core.gz")
    assert [event["op"] for event in import_trace(guest, "x").events] == ["boot", "poke"]
    with pytest.raises(InputError, match=r"map-fl-failed 0.*0xff06"):
        import_trace(guest, "x", "tracked")
    check_import(guest, import_trace(guest, "x", heal=True))


def test_pages_that_a_dump_lost_are_imported_as_the_guests():
    guest = read_dump(FIELD / "case-44-live-lost-tail.core.gz")
    trace = import_trace(guest, "x")
    check_import(guest, trace)
    other = import_trace(read_dump(DATA / "dumps" / "dense-64.core.gz"), "x")
    assert trace.guest.nr_pages == other.guest.nr_pages == 4336


def test_a_machine_of_the_other_width_is_a_change_and_not_the_tools():
    data = bytearray(core(build(1, 4, 2000)))
    data[18] = 62
    guest = read_bytes(bytes(data))
    assert guest.word_bytes == 4
    assert "changed" in guest.notes[0] and "toolstack" not in guest.notes[0]

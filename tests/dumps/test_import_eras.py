"""Files of guests of the eras, imported: what their traces come to is what the recordings say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dump_guests import core, stream
from linear_files import LinearGuest
from p2mbatch.base.errors import InputError
from p2mbatch.dumps.audit.findings import audit, audit_text
from p2mbatch.dumps.importing.to_trace import check_import, import_trace
from p2mbatch.dumps.readers.read import read_bytes
from p2mbatch.dumps.writers.image import image_at
from p2mbatch.model.policies import find
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json

ERAS = Path(__file__).parents[2] / "data" / "traces" / "eras"


def recording(pattern):
    """Return the smallest recording of a pattern."""
    return load_trace(min(ERAS.glob(f"{pattern}.json.gz"), key=lambda path: path.stat().st_size))


def imported(guest, policy=None, **options):
    """Return the import of `guest`, written out and read again, after its own check."""
    trace = import_trace(guest, "x", policy, **options)
    check_import(guest, trace)
    return parse_trace(json.loads(json.dumps(trace_to_json(trace))))


@pytest.mark.parametrize("form", [core, stream])
@pytest.mark.parametrize(
    ("pattern", "event"),
    [
        ("linear-list-unaligned-small-*", 0),
        pytest.param("linear-list-identity-1", 0, marks=pytest.mark.thorough),
        ("linear-list-identity-1", 6),
        pytest.param("linear-sif-plain-1", 0, marks=pytest.mark.thorough),
        ("linear-4.4-list-extra-*", 0),
        ("linear-4.4-sif-holes-1", 0),
        pytest.param("linear-list-unaligned-1", 0, marks=pytest.mark.thorough),
    ],
)
def test_a_linear_guests_file_is_its_recording_again(pattern, event, form):
    """Leaves, tables, list and 1:1 slots lie where they were, and the kernel reports the same."""
    trace = recording(pattern)
    told = trace.expected[event]
    guest = read_bytes(form(image_at(trace, event)))
    area = audit(guest).to_json()["linear_area"]
    assert area["area_pfns"] == trace.guest.max_p2m_pfn
    assert area["leaf_frames_sha256"] == told["leaf_frames_sha256"]
    assert area["area_p2m_sha256"] == told["p2m_sha256"]
    new = imported(guest, trace.policy)
    assert new.guest.virt_p2m_4tools == (told["frame_list_list_sha256"] is None)
    got = replay(new)[-1]
    same = ["outcome", "max_pfn", "p2m_cr3_mfn", "p2m_vaddr", "leaf_frames_sha256", "p2m_sha256"]
    same += ["frame_list_list_mfn"]
    assert {key: got[key] for key in same} == {key: told[key] for key in same}


def test_a_hand_made_linear_guest_is_imported():
    hand = LinearGuest(8, 3000)
    guest = read_bytes(hand.stream())
    trace = imported(guest)
    assert (trace.policy, trace.guest.p2m_vaddr % (1 << 64)) == ("linear-4.4", hand.vaddr)
    image = image_at(trace)
    assert image.p2m[:3000].tolist() == hand.p2m and image.shared_max_pfn == 3000
    found = audit(read_bytes(core(image)))
    # A leaf whose last PFNs are beyond max_pfn is what these kernels leave (linear-spec, L9).
    assert found.walk.result == "ok" and found.era.policies == ("linear-4.4",)
    assert imported(read_bytes(LinearGuest(8, 6 * 512).stream())).policy == "linear"


@pytest.mark.parametrize(
    "pattern",
    [
        *("tail-extra-32-*", "tail-multi-mid-64-*", "identity-id-mixed-32-*"),
        *("identity-id-extra-64-*", "moved-id-top-64-*", "moved-foreign-grow-64-103"),
        *("mid-identity-extra-top-32-*", "mid-identity-foreign-grow-64-103"),
        *("late-list-extra-top-32-*", "late-list-foreign-grow-64-103"),
        *("two-level-grow-64-*", "two-level-none-dense-32-*"),
    ],
)
def test_a_tree_eras_file_is_imported_under_its_policy(pattern):
    """The policy that audit names alone is taken over; where several fit they are named."""
    trace = recording(pattern)
    told = trace.expected[0]
    # A recording of the first machine has one address map, and so do the dumps of its guests.
    new = imported(read_bytes(core(image_at(trace, 0))), trace.policy)
    got = replay(new)[-1]
    assert got["outcome"] == "ok"
    # Two levels report no more PFNs than booted.
    if not find(trace.policy).is_two_level:
        assert got["p2m_sha256"] == told["p2m_sha256"]
    guest = read_bytes(core(image_at(new)))
    found = audit(guest)
    assert found.walk.result == "ok"
    if len(found.era.policies) == 1:
        assert imported(guest).policy == new.policy == found.era.policies[0]
    elif trace.policy in ("identity", "moved") and guest.word_bytes == 4:
        # There they are the same kernel.
        assert imported(guest).policy == "identity"
    else:
        with pytest.raises(InputError, match=r"can't be told.*--policy") as told:
            imported(guest)
        assert not found.era.policies or trace.policy in found.era.policies
        assert all(name in str(told.value) for name in found.era.policies)


def test_policies_of_another_kind_are_refused():
    linear = read_bytes(LinearGuest(8, 3000).stream())
    for policy in ("tracked", "identity", "linear-3.19"):
        with pytest.raises(InputError, match=r"linear p2m list.*use linear-4\.4, linear"):
            import_trace(linear, "x", policy)
    tree = read_bytes(core(image_at(recording("tail-extra-32-*"), 0)))
    with pytest.raises(InputError, match="32-bit guest, and policy linear"):
        import_trace(tree, "x", "linear")
    with pytest.raises(InputError, match="32-bit guest"):
        import_trace(read_bytes(LinearGuest(4, 3000).stream()), "x", "linear")
    tree = read_bytes(core(image_at(recording("tail-multi-mid-64-*"), 0)))
    with pytest.raises(InputError, match="reports no linear"):
        import_trace(tree, "x", "linear")
    late = read_bytes(core(image_at(recording("linear-3.19-list-edge-*"), 0)))
    assert "kernels           not told: " in audit_text(audit(late))
    with pytest.raises(InputError, match=r"3\.19 to 4\.2 keep one and do not report where"):
        import_trace(late, "x", "linear-3.19")
    with pytest.raises(InputError, match=r"say it with --policy \(tracked, .*, late-list\)$"):
        import_trace(late, "x")
    with pytest.raises(InputError, match="policy: 'nobody' can't be imported"):
        import_trace(tree, "x", "nobody")


def test_damage_in_page_tables_is_refused_and_healed():
    hand = LinearGuest(8, 3000)
    guest = read_bytes(hand.stream())
    shared = guest.shared_info._replace(p2m_cr3=((1 << 41) << 12))
    sick = replace(guest, shared_info=shared)
    assert audit(sick).walk.result == f"bad-p2m-cr3 {1 << 41}"
    with pytest.raises(InputError, match=r"damaged.*page tables, which no event writes.*--heal"):
        import_trace(sick, "x")
    assert replay(imported(sick, heal=True))[-1]["outcome"] == "ok"

"""Guests of the eras written out: a file of one shows what its recording says, digest by digest."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dump_guests import core, legacy, stream
from p2mbatch.dumps.audit.findings import audit
from p2mbatch.dumps.importing.to_trace import import_trace
from p2mbatch.dumps.lookup.answers import pfn_answer
from p2mbatch.dumps.lookup.subject import subject_of_image
from p2mbatch.dumps.readers.read import read_bytes
from p2mbatch.dumps.writers.image import image_at, image_of
from p2mbatch.model.anonymise import anonymise
from p2mbatch.model.replay import new_life, replay, run_event
from p2mbatch.model.trace_file import load_trace

ERAS = Path(__file__).parents[2] / "data" / "traces" / "eras"
IDENTITY = 1 << 62


def sha256(words):
    return hashlib.sha256(np.ascontiguousarray(words).astype("<i8").data).hexdigest()


def states(name):
    """Yield (guest's image, what the recording says of it) after each event that went well."""
    trace = load_trace(ERAS / f"{name}.json.gz")
    life = new_life(trace)
    for event, told in zip(trace.events, trace.expected, strict=False):
        run_event(life, trace, event)
        if told.get("outcome") != "ok":
            return
        if event["op"] in ("boot", "migrate"):
            yield image_of(life), told


def frames_mapped(guest, vaddr, num_slots):
    """Follow the file's own page tables: (frame, writable) of each slot, int64[num_slots] both."""
    cr3 = guest.shared_info.p2m_cr3 >> 12
    pfn_of = {}
    for start, entries in guest.p2m.chunks():
        present = np.flatnonzero(entries >= 0)
        pfn_of |= dict(zip(entries[present].tolist(), (present + start).tolist(), strict=True))

    def entry(table, address, level):
        data = guest.pages.read_table(table)
        word = int(data.entries[address >> (12 + 9 * (level - 1)) & 511])
        frame = word >> 12 & (1 << 40) - 1
        if data.holds_pfns:
            return frame, guest.p2m.chunk(frame, frame + 1)[0], word >> 1 & 1
        return pfn_of.get(frame, -1), frame, word >> 1 & 1

    frames, writable = np.empty(num_slots, np.int64), np.empty(num_slots, np.int64)
    for slot in range(num_slots):
        address = vaddr + slot * 4096
        if slot % 512 == 0:
            table = pfn_of[cr3]
            for level in (4, 3, 2):
                table = entry(table, address, level)[0]
        frames[slot], writable[slot] = entry(table, address, 1)[1:]
    return frames, writable, pfn_of


@pytest.mark.parametrize("name", ["linear-sif-plain-1", "linear-list-unaligned-small-3"])
@pytest.mark.parametrize("form", ["core", "stream"])
def test_a_linear_guests_file_has_the_digests_of_its_recording(name, form):
    area = load_trace(ERAS / f"{name}.json.gz").guest.max_p2m_pfn
    for image, told in states(name):
        guest = read_bytes({"core": core, "stream": stream}[form](image))
        result = audit(guest)
        assert result.walk.result == "ok"
        linear = result.to_json()["linear"]
        assert linear["p2m_cr3_mfn"] == told["p2m_cr3_mfn"]
        assert linear["p2m_vaddr"] == told["p2m_vaddr"]
        assert guest.shared_info.max_pfn == told["max_pfn"]
        frames, writable, pfn_of = frames_mapped(guest, told["p2m_vaddr"], area // 512)
        assert sha256(frames) == told["leaf_frames_sha256"]
        # What the toolstack found are the first of them.
        assert np.array_equal(result.walk.fl, frames[: result.walk.fl.size])
        entries = np.arange(area) | IDENTITY
        for slot in range(area // 512):
            part = slice(512 * slot, 512 * (slot + 1))
            if writable[slot] or frames[slot] != frames[-1]:
                entries[part] = guest.pages.read(pfn_of[int(frames[slot])]).words
        assert sha256(entries) == told["p2m_sha256"]
        # As far as the toolstack goes, whose trim may end too early (linear-spec, L9 item 6).
        saved = entries[: result.walk.max_pfn + 1]
        own = (saved >= 0) & (saved < image.frames)
        assert np.array_equal(guest.p2m.to_array()[: saved.size][own], saved[own])
        assert result.era.policies == ("linear-4.4", "linear")
        if told["frame_list_list_sha256"] is not None:
            page = guest.pages.read(pfn_of[told["frame_list_list_mfn"]])
            assert sha256(page.words) == told["frame_list_list_sha256"]


@pytest.mark.parametrize("pattern", ["two-level-alloc-fail-32-*", "identity-*-64-*", "tail-*-32-*"])
def test_a_tree_eras_file_has_the_digests_of_its_recording(pattern):
    name = sorted(ERAS.glob(f"{pattern}.json.gz"), key=lambda path: path.stat().st_size)[0]
    for image, told in states(name.name.removesuffix(".json.gz")):
        guest = read_bytes(core(image))
        digits = (1 << 8 * image.word_bytes) - 1
        assert guest.shared_info.frame_list_list_mfn == told["frame_list_list_mfn"] & digits
        assert sha256(image.p2m) == told["p2m_sha256"]
        era = audit(guest).era
        assert not era.policies or load_trace(name).policy in era.policies, era
        own = (image.p2m >= 0) & (image.p2m < image.frames)
        read = guest.p2m.to_array()
        assert np.array_equal(read[own[: read.size]], image.p2m[: read.size][own[: read.size]])


@pytest.mark.parametrize(
    "name", ["two-level-grow-64-103", "two-level-dense-32-100", "two-level-none-balloon-64-107"]
)
def test_two_levels_are_told_from_three(name):
    found = audit(read_bytes(core(image_at(load_trace(ERAS / f"{name}.json.gz"), 0))))
    assert found.era.policies == ("two-level", "two-level-none")
    assert "in arrays of the kernel image" in found.era.evidence


def test_lookup_knows_the_guest_of_an_eras_trace():
    trace = load_trace(ERAS / "linear-sif-plain-1.json.gz")
    image = image_at(trace, 0)
    subject = subject_of_image(image, "x")
    answer = pfn_answer(subject, 5)
    assert (answer["kind"], answer["owner"], answer["tree"]) == ("own", "this guest", None)
    assert answer["list"]["steps"][-1]["word"] == answer["mfn"] == image.p2m[5]


@pytest.mark.parametrize("name", ["linear-list-foreign-frames-1", "linear-sif-plain-1"])
def test_an_eras_trace_is_anonymised_and_lives_as_before(name):
    trace = load_trace(ERAS / f"{name}.json.gz")
    hidden = anonymise(trace, 3)
    results = replay(hidden)
    for got, told in zip(results, trace.expected, strict=True):
        for key in ("op", "outcome", "max_pfn", "pool_pages_used", "entries_set"):
            assert got.get(key) == told.get(key), key
    used = [{m for _, m, _ in host.domain.tolist()} for host in trace.hosts]
    new = [{m for _, m, _ in host.domain.tolist()} for host in hidden.hosts]
    assert all(a != b for a, b in zip(used, new, strict=True))
    assert all(first != second for first, second in pairwise(map(tuple, new)))


@pytest.mark.parametrize("write", [stream, legacy])
def test_leaves_that_became_identity_are_sent_as_the_list_has_them(write):
    """The list has `p2m_missing` there until the next resume, and a toolstack goes by the list."""
    image = image_at(load_trace(ERAS / "mid-identity-id-runtime-64-109.json.gz"), 2)
    dumped, sent = audit(read_bytes(core(image))), audit(read_bytes(write(image)))
    assert dumped.walk.result == sent.walk.result == "ok"
    assert dumped.walk.leaf_pfns.tolist() == sent.guest.leaf_pfns.tolist()
    assert dumped.p2m_sha256 == sent.p2m_sha256


def test_a_leaf_that_is_identity_as_a_whole_stays_so_beyond_the_guest():
    """It is `p2m_identity`, no leaf of its own: the tree is found though the list differs."""
    guest = read_bytes(core(image_at(load_trace(ERAS / "identity-id-real-32-108.json.gz"), 0)))
    trace = import_trace(guest, "x", "identity")
    assert trace.events[0]["identity"][-1].tolist() == [7685, 9216]
    found = audit(read_bytes(core(image_at(trace))))
    assert found.p2m_sha256 == audit(guest).p2m_sha256
    assert found.structures == audit(guest).structures
    moved = read_bytes(
        core(image_at(load_trace(ERAS / "mid-identity-id-runtime-64-109.json.gz"), 2))
    )
    again = audit(read_bytes(core(image_at(import_trace(moved, "x", "mid-identity")))))
    assert again.structures.found and again.era.policies == ("mid-identity",)
    assert again.p2m_sha256 == audit(moved).p2m_sha256

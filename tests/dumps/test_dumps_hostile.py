"""Files from strangers: one clear line with the offset, bounded memory, never anything else."""

import gzip
import io
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dump_guests import build, core, stream
from p2mbatch.base.errors import InputError
from p2mbatch.base.sources import SequentialCursor
from p2mbatch.dumps.readers.read import read_bytes, read_cursor, read_dump

FUZZ = Path(__file__).parents[1] / "fuzz"
sys.path.insert(0, str(FUZZ))

import make_corpus  # noqa: E402
import mutate  # noqa: E402
import target  # noqa: E402

CORPUS = {f.stem: gzip.decompress(f.read_bytes()) for f in sorted((FUZZ / "corpus").glob("*.gz"))}
BINARY = [name for name in CORPUS if name.startswith(("core", "stream"))]


def read_once(data):
    return read_cursor(SequentialCursor(io.BytesIO(data).readinto, "bytes"), small_bytes=0)


def refused(data, *words, offset=None):
    """Check that `data` is refused in one line with `words`, mapped and piped alike."""
    for read in (read_bytes, read_once):
        with pytest.raises(InputError) as caught:
            read(bytes(data))
        text = str(caught.value)
        assert "\n" not in text
        assert text.startswith("bytes: offset 0x")
        for word in words:
            assert word in text
        if offset is not None:
            assert f"offset {offset:#x}:" in text


def test_the_corpus_is_what_its_script_makes():
    assert make_corpus.corpus() == CORPUS


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_is_of_files_that_are_read(name):
    # A host's map is read whole and then refused: it is no guest.
    assert target.check(CORPUS[name]) == ("error" if name == "host-map" else "guest")


@pytest.mark.parametrize("name", BINARY)
def test_truncation_at_every_byte(name):
    data = CORPUS[name]
    # Where bytes repeat (pages, zeroed contexts) one cut is like the next; elsewhere each is tried.
    cuts = [i for i in range(len(data)) if i % 509 == 0 or data[i - 32 : i] != data[i : i + 32]]
    for cut in cuts:
        with pytest.raises(InputError, match="offset 0x"):
            (read_bytes if cut % 2 else read_once)(data[:cut] or b"?")


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", BINARY)
def test_truncation_at_really_every_byte(name):
    data = CORPUS[name]
    for cut in range(1, len(data)):
        for read in (read_bytes, read_once):
            with pytest.raises(InputError, match="offset 0x"):
                read(data[:cut])


@pytest.mark.parametrize("name", CORPUS)
def test_seeded_mutations(name):
    for mutated in mutate.mutations(CORPUS[name], 150, seed=1):
        target.check(mutated)


@pytest.mark.parametrize("name", ["core-64", "stream-v3-xl-32", "debugfs-newer"])
def test_seeded_mutations_of_gzip(name):
    for mutated in mutate.mutations(gzip.compress(CORPUS[name], mtime=0), 100, seed=2):
        target.check_packed(mutated)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(BINARY), st.integers(0, 4000))
def test_any_bytes_in_any_place(junk, name, at):
    data = CORPUS[name]
    target.check(junk)
    target.check(data[:at] + junk + data[at + len(junk) :])


@pytest.mark.thorough
@pytest.mark.slow
def test_a_short_run_of_the_coverage_guided_fuzzer(tmp_path):
    pytest.importorskip("atheris", reason="atheris is not installed")
    for extra in ([], ["--packed"]):
        options = ["-max_total_time=15", "-timeout=20", "-rss_limit_mb=3000", "-close_fd_mask=3"]
        done = subprocess.run(
            [sys.executable, FUZZ / "fuzz_dumps.py", *extra, *options, tmp_path],
            cwd=tmp_path,
            capture_output=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr[-3000:]


# --- streams -----------------------------------------------------------------------------------


class Patch:
    """A bare v3 stream with places to write lies into."""

    def __init__(self, **options):
        self.image = build(11, 8, 700, populated=0.1)
        self.data = bytearray(stream(self.image, wrapper="libxc", **options))

    def record(self, kind, number=0):
        """Return where the `number`-th record of `kind` begins."""
        at = 40
        while True:
            found, length = struct.unpack_from("<II", self.data, at)
            if found == kind:
                if not number:
                    return at
                number -= 1
            at += 8 + length + -length % 8

    def put(self, at, form, *values):
        struct.pack_into(form, self.data, at, *values)
        return self.data


def test_image_and_domain_headers():
    refused(Patch().put(8, ">I", 5), "image id", offset=0)
    refused(Patch().put(12, ">I", 4), "version 2 or 3", "found 4", offset=12)
    refused(Patch().put(12, ">I", 1), "version 2 or 3", offset=12)
    refused(Patch().put(16, ">H", 1), "big-endian", offset=16)
    refused(Patch().put(16, ">H", 8), "reserved", offset=16)
    refused(Patch().put(24, "<I", 2), "HVM guest", offset=24)
    refused(Patch().put(24, "<I", 9), "domain type", offset=24)
    refused(Patch().put(28, "<H", 16), "page shift 12", offset=28)


def test_record_headers():
    patch = Patch()
    at = patch.record(8)
    refused(patch.put(at, "<I", 0x33), "mandatory 0x33", offset=at)
    patch = Patch()
    refused(patch.put(patch.record(1) + 4, "<I", 0xFFFFFFFF), "at most 134217728 bytes")
    patch = Patch()
    refused(patch.put(patch.record(2) + 4, "<I", 16), "expected 8 bytes in X86_PV_INFO")
    patch = Patch()
    refused(patch.put(patch.record(2) + 8, "<BB", 8, 3), "width 8 with 4")
    patch = Patch()
    refused(patch.put(patch.record(8), "<I", 9), "found HVM_CONTEXT")
    patch = Patch(version=2)
    at = patch.record(8)
    extra = struct.pack("<II", 0x10, 0)
    refused(patch.data[:at] + extra + patch.data[at:], "version 3 stream", offset=at)


def test_an_unknown_optional_record_is_skipped():
    patch = Patch()
    at = patch.record(8)
    extra = struct.pack("<II", 0x8000_0042, 3) + b"abc" + bytes(5)
    guest = read_bytes(bytes(patch.data[:at] + extra + patch.data[at:]))
    assert np.array_equal(guest.p2m.to_array(), patch.image.p2m)
    refused(patch.data[:at] + extra[:-1] + b"\1" + patch.data[at:], "padding")


def test_p2m_frames_that_lie():
    def patched(offset, form, *values):
        patch = Patch()
        return patch.put(patch.record(3) + offset, form, *values)

    refused(patched(8, "<I", 5), "start at PFN 0")
    refused(patched(12, "<I", 2**32 - 1), "found 24")
    refused(patched(16, "<Q", 1 << 60), "PFN of a leaf page")
    refused(patched(16, "<Q", 700), "last PFN is 699")
    missing = Patch()
    holes = int(np.flatnonzero(missing.image.p2m < 0)[0])
    refused(missing.put(missing.record(3) + 16, "<Q", holes), "without data of leaf 0")
    patch = Patch()
    at, size = patch.record(3), 8 + 8 + 16
    again = patch.data[at : at + size]
    refused(patch.data[: at + size] + again + patch.data[at + size :], "start at PFN 700")


def test_page_data_that_lies():
    def patched(offset, form, *values):
        patch = Patch()
        return patch.put(patch.record(1) + offset, form, *values)

    refused(patched(8, "<I", 2**32 - 1), "PFNs in a PAGE_DATA record")
    refused(patched(8, "<I", 0), "PFNs in a PAGE_DATA record")
    refused(patched(12, "<I", 1), "reserved")
    for kind in (5, 6, 7, 8):
        refused(patched(16, "<Q", kind << 60), f"found {kind}")
    refused(patched(16, "<Q", 1 << 52), "bits 52-59")
    refused(patched(16, "<Q", 700), "PFN up to 699")
    refused(patched(16, "<Q", (1 << 52) - 1), "PFN up to 699")
    at = Patch().record(1)
    refused(patched(4, "<I", 16), "expected 1 to 1 PFNs", offset=at + 8)


def test_order_and_repetition():
    for kind, name in ((3, "X86_PV_P2M_FRAMES"), (7, "SHARED_INFO")):
        patch = Patch()
        at = patch.record(kind)
        length = struct.unpack_from("<I", patch.data, at + 4)[0]
        cut = patch.data[:at] + patch.data[at + 8 + length :]
        refused(cut, name)
    patch = Patch()
    at = patch.record(7)
    again = patch.data[at : at + 8 + 4096]
    refused(patch.data[:at] + again + patch.data[at:], "one SHARED_INFO")
    patch = Patch()
    at = patch.record(0x10)
    refused(patch.data[:at] + patch.data[at + 8 :], "STATIC_DATA_END before")
    patch = Patch()
    at = patch.record(2)
    refused(patch.data[:at] + patch.data[at + 16 :], "X86_PV_INFO before")


def test_wrappers_that_lie():
    data = bytearray(stream(build(11), wrapper="xl"))
    refused(data[:32] + struct.pack("<I", 0x04030201) + data[36:], "big-endian", offset=32)
    refused(data[:36] + struct.pack("<I", 1) + data[40:], "legacy", offset=36)
    refused(data[:36] + struct.pack("<I", 7) + data[40:], "unknown 0x4", offset=36)
    refused(data[:44] + struct.pack("<I", 2**32 - 1) + data[48:], "xl's optional data")
    libxl = bytearray(stream(build(11), wrapper="libxl"))
    refused(libxl[:8] + struct.pack(">I", 1) + libxl[12:], "libxl stream version 2", offset=8)
    refused(libxl[:12] + struct.pack(">I", 1) + libxl[16:], "big-endian", offset=12)
    refused(libxl[:16] + struct.pack("<II", 0, 0), "LIBXC_CONTEXT")
    refused(libxl[:16] + struct.pack("<II", 77, 0), "libxl record type", offset=16)
    refused(struct.pack("<QQI", 4000, 2**64 - 1, 40) + b"vcpu" + bytes(100), "5168", offset=24)
    refused(struct.pack("<QQI", 4000, 2**64 - 1, 8) + b"extv" + bytes(100), "'vcpu'")
    refused(b"LinuxGuestRecord" + bytes(50), "a legacy stream in xend")
    refused(b"PK\3\4" + bytes(50), "expected a save file")


# --- cores -------------------------------------------------------------------------------------


def section(data, name):
    """Return where the header of section `name` is, and its offset and size."""
    names = ["", ".shstrtab", ".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_pages"]
    at = 64 + 64 * [*names, ".xen_p2m"].index(name)
    return at, *struct.unpack_from("<QQ", data, at + 24)


def patched_core(at, form, *values):
    data = bytearray(CORPUS["core-64"])
    struct.pack_into(form, data, at, *values)
    return data


def test_elf_headers_that_lie():
    refused(patched_core(4, "B", 1), "64-bit ELF", offset=4)
    refused(patched_core(5, "B", 2), "big-endian", offset=5)
    refused(patched_core(16, "<H", 2), "ELF core", offset=16)
    refused(patched_core(18, "<H", 40), "machine", offset=18)
    refused(patched_core(40, "<Q", 2**64 - 1), "section headers", offset=40)
    refused(patched_core(60, "<H", 65535), "section headers")
    refused(patched_core(58, "<H", 40), "section headers of 64 bytes")
    refused(patched_core(62, "<H", 3), "string table", offset=62)


def test_sections_that_lie():
    data = CORPUS["core-64"]
    at, offset, size = section(data, ".xen_pages")
    refused(patched_core(at + 32, "<Q", size - 4096), ".xen_pages")
    refused(patched_core(at + 32, "<Q", 2**63), "lie in the file")
    refused(patched_core(at + 24, "<Q", 2**64 - 4096), "lie in the file")
    refused(patched_core(at + 24, "<Q", offset - 4096), "overlap")
    p2m_at, p2m, _ = section(data, ".xen_p2m")
    name = struct.unpack_from("<I", data, p2m_at)[0]
    refused(patched_core(at, "<I", name), "expected one section '.xen_p2m'")
    refused(patched_core(at, "<I", 2**31), "string table")
    refused(patched_core(p2m, "<Q", 1 << 52), "PFN below 2^52", offset=p2m)
    refused(patched_core(p2m + 8, "<Q", 1 << 60), "frame number below 2^52", offset=p2m + 8)
    second = struct.unpack_from("<Q", data, p2m + 16)[0]
    refused(patched_core(p2m, "<Q", second), "each PFN once", offset=p2m + 16)
    note = section(data, ".note.Xen")[1] + 16
    refused(patched_core(note + 16, "<Q", 0xF00FEBEE), "HVM guest", offset=note + 16)
    refused(patched_core(note + 32, "<Q", 2**32), "bytes in .xen_p2m for the 4294967296 pages")
    refused(patched_core(note + 40, "<Q", 16384), "pages of 4096")
    refused(patched_core(note + 4, "<I", 2**31), "note of at most")


# --- memory ------------------------------------------------------------------------------------


def peak_bytes(call):
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_lying_lengths_cost_no_memory():
    patch = Patch()
    at = patch.record(1)
    # 2^24 - 1 pages of type "not present", 128 MiB of PFNs, in a file of some KiB.
    patch.put(at + 4, "<III", 128 << 20, (1 << 24) - 1, 0)
    for read in (read_bytes, read_once):
        assert peak_bytes(lambda read=read: read(bytes(patch.data))) < 16 << 20


def test_a_decompression_bomb_is_stopped():
    image = build(11, 8, 700, populated=0.1)
    leaf = int(image.leaf_pfns[0])
    free = int(np.flatnonzero((image.p2m >= 0) & (np.arange(700) != leaf))[0])
    data = stream(image, wrapper="libxc")
    at = Patch().record(8)
    body = struct.pack("<IIQ", 1, 0, free) + np.full(512, 5, "<u8").tobytes()
    record = struct.pack("<II", 1, len(body)) + body
    # Some MiB that are kept in full and shrink by a thousand: the guard stops long before the end.
    bomb = gzip.compress(data[:at] + record * 60_000 + data[at:], 1)
    source = io.BytesIO(bomb)
    cursor = SequentialCursor(gzip.GzipFile(fileobj=source).readinto, "bomb", source.tell)
    with pytest.raises(InputError, match="decompression bomb"):
        read_cursor(cursor, small_bytes=0)


def test_gzip_inside_gzip_and_damaged_gzip(tmp_path):
    path = tmp_path / "x"
    packed = gzip.compress(CORPUS["core-64"])
    path.write_bytes(gzip.compress(packed))
    with pytest.raises(InputError, match="gzip inside gzip"):
        read_dump(path)
    for damaged in (packed[:-100], packed[:200] + b"\0" * 40 + packed[240:], packed[:5]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or cut short"):
            read_dump(path)


def test_missing_empty_and_directory(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_dump(tmp_path / "none")
    with pytest.raises(InputError, match="Is a directory"):
        read_dump(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="the file is empty"):
        read_dump(tmp_path / "empty")


def test_a_small_file_that_claims_a_large_span_costs_little():
    """8 MB of text can't exist, but a core of 60 KB can say max_pfn 2^27: it must stay cheap."""
    from p2mbatch.dumps.audit.findings import audit

    image = build(11, 8, 24, populated=0.1)
    data = bytearray(core(image))
    at = data.index(image.shared_info())
    struct.pack_into("<Q", data, at + 3088, 1 << 27)
    tracemalloc.start()
    found = audit(read_bytes(bytes(data))).to_json()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["max_p2m_pfn"] == 1 << 27
    assert found["holes"]["pages"] == (1 << 27) - found["pages_present"]
    assert peak < 100 << 20

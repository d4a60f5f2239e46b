"""The guest for general tools: as memory by PFN, and as an ELF core of segments."""

import gzip
import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dump_guests import build
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.readers.read import read_bytes
from p2mbatch.dumps.writers.general import write_elf, write_flat
from p2mbatch.dumps.writers.image import GuestImage, image_at
from p2mbatch.model.trace_file import load_trace

DATA = Path(__file__).parents[2] / "data"
WIDTHS = pytest.mark.parametrize("width", [8, 4])
BASE = {8: 0xFFFF_8800_0000_0000, 4: 0xC000_0000}
ALL_ONES = (1 << 64) - 1


class Pipe(io.RawIOBase):
    """Takes bytes forwards only, as a pipe does."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def written(write, image):
    """Return what `write` makes of `image`: of a file, a pipe and gzip alike."""
    whole = io.BytesIO()
    write(image, whole)
    pipe = Pipe()
    write(image, pipe)
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 1, packed, mtime=0) as file:
        write(image, file)
    assert whole.getvalue() == bytes(pipe.data) == gzip.decompress(packed.getvalue())
    return whole.getvalue()


def segments(data):
    """Return (notes, [(virtual, physical, bytes)], machine) of an ELF64 core, read by hand."""
    assert data[:7] == b"\x7fELF\x02\x01\x01"
    kind, machine, _, _, at, sections, _, _, size, num, _, num_sections = struct.unpack_from(
        "<HHIQQQIHHHHH", data, 16
    )
    assert kind == 4 and size == 56
    if num == 0xFFFF:
        assert num_sections == 1
        (num,) = struct.unpack_from("<I", data, sections + 44)
    notes, loads = b"", []
    for i in range(num):
        kind, _, offset, virtual, physical, file_bytes, memory_bytes, _ = struct.unpack_from(
            "<IIQQQQQQ", data, at + i * size
        )
        body = data[offset : offset + file_bytes]
        assert len(body) == file_bytes == memory_bytes
        if kind == 4:
            notes += body
        else:
            assert kind == 1 and offset % 4096 == 0
            loads.append((virtual, physical, body))
    return notes, loads, machine


@WIDTHS
@pytest.mark.parametrize("populated", [0.05, 0.5, 1.0])
def test_a_flat_image_has_each_page_at_its_pfn(width, populated):
    image = build(4, width, 1500, populated=populated)
    data = written(write_flat, image)
    assert len(data) == 1500 * 4096
    for pfn in range(1500):
        there = image.page(pfn) if image.has_page[pfn] else bytes(4096)
        assert data[pfn * 4096 : (pfn + 1) * 4096] == there


@WIDTHS
@pytest.mark.parametrize("populated", [0.05, 0.5, 1.0])
def test_an_elf_core_has_the_pages_and_no_others(width, populated):
    image = build(4, width, 1500, populated=populated)
    notes, loads, machine = segments(written(write_elf, image))
    assert machine == {8: 62, 4: 3}[width]
    assert struct.unpack_from("<III", notes) == (5, {8: 336, 4: 144}[width], 1)
    assert notes[12:17] == b"CORE\0"
    found = {}
    for virtual, physical, body in loads:
        assert virtual == BASE[width] + physical
        for at in range(0, len(body), 4096):
            found[(physical + at) // 4096] = body[at : at + 4096]
    assert sorted(found) == np.flatnonzero(image.has_page).tolist()
    assert all(body == image.page(pfn) for pfn, body in found.items())


def sparse_image(pfns, span, width=8):
    """Return a guest that has pages at `pfns` only, the second and the last with their PFN."""
    p2m = np.full(span, INVALID, np.int64)
    p2m[pfns] = np.arange(len(pfns)) + 1
    blank = np.zeros(4096 // width, np.int64)
    words = {int(pfn): blank for pfn in pfns}
    for pfn in (pfns[1], pfns[-1]):
        words[int(pfn)] = np.full(4096 // width, pfn, np.int64)
    return GuestImage(width, 1 << 24, span, 1, p2m, np.zeros(1, np.int64), words)


@pytest.mark.parametrize("span", [2, 200, 700])
def test_a_guest_without_holes_has_a_segment_that_does_not_begin_at_0(span):
    """Where all p_paddr are 0, drgn takes it that there are no physical addresses."""
    image = sparse_image(np.arange(span), span)
    _, loads, _ = segments(written(write_elf, image))
    assert [p for _, p, _ in loads] == [0, 4096 * min(256, span - 1)]
    assert b"".join(body for *_, body in loads) == b"".join(map(image.page, range(span)))


def test_memory_beyond_the_direct_map_has_no_address():
    limit = (896 << 20) // 4096
    image = sparse_image(np.arange(limit - 2, limit + 3), limit + 9, width=4)
    _, loads, _ = segments(written(write_elf, image))
    assert [(v, p // 4096, len(body) // 4096) for v, p, body in loads] == [
        (BASE[4] + (limit - 2) * 4096, limit - 2, 2),
        (ALL_ONES, limit, 3),
    ]


@pytest.mark.parametrize("num", [65_533, 65_534])
def test_more_segments_than_the_header_can_count(num, tmp_path):
    image = sparse_image(np.arange(num) * 2, 2 * num)
    file = tmp_path / "core"
    with file.open("wb") as out:
        write_elf(image, out)
    data = np.memmap(file, mode="r")
    head = bytes(data[: 64 + 56 * (num + 1) + 4096])
    (told,) = struct.unpack_from("<H", head, 56)
    assert told == min(num + 1, 0xFFFF)
    assert bytes(data[-4096:-4088]) == struct.pack("<Q", 2 * num - 2)
    if shutil.which("readelf"):
        done = subprocess.run(["readelf", "-hlW", file], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr
        assert done.stdout.count(" LOAD ") == num
    with pytest.raises(InputError, match="ELF core of segments"):
        read_bytes(head)


@pytest.mark.parametrize("name", ["balloon-64-0", "balloon-32-0", "dense-64-0"])
def test_general_tools_read_it(name, tmp_path):
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    image = image_at(load_trace(DATA / "traces" / f"{name}.json.gz"))
    file = tmp_path / "core"
    with file.open("wb") as out:
        write_elf(image, out)
    program = drgn.Program()
    program.set_core_dump(file)
    for pfn in np.flatnonzero(image.has_page)[::101].tolist() + sorted(image.words):
        for address in (pfn * 4096, BASE[image.word_bytes] + pfn * 4096):
            got = program.read(address, 4096, address == pfn * 4096)
            assert got == image.page(pfn)
    for pfn in np.flatnonzero(~image.has_page)[::101].tolist():
        with pytest.raises(drgn.FaultError):
            program.read(pfn * 4096, 8, True)


@pytest.mark.parametrize("kind", ["--flat", "--elf"])
def test_the_command(kind, tmp_path):
    trace = DATA / "traces" / "eras" / "tail-balloon-64-101.json.gz"
    out, packed = tmp_path / "x", tmp_path / "x.gz"
    for target in (out, packed):
        command = [sys.executable, "-m", "p2mbatch", "make-core", trace, kind, "-o", target]
        assert subprocess.run(command, capture_output=True).returncode == 0
    expected = io.BytesIO()
    (write_flat if kind == "--flat" else write_elf)(image_at(load_trace(trace)), expected)
    assert out.read_bytes() == expected.getvalue() == gzip.decompress(packed.read_bytes())
    assert out.stat().st_blocks * 512 < out.stat().st_size / 20

"""Make the fuzzers' corpus: one small guest in every format, gzipped."""

import gzip
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "dumps"))

from test_dumps_readers import NEWER, OLDER, mfndump_text

from dump_guests import build, core, legacy, stream
from linear_files import LinearGuest

CORPUS = Path(__file__).parent / "corpus"


HOST_MAP = b" --- Dumping M2P ---\n Max MFN: 64\n%b --- End of M2P ---\n" % b"".join(
    b"  mfn=%#x ==> pfn=%#x\n" % (mfn, mfn % 7 if mfn % 3 else 2**64 - 1) for mfn in range(64)
)


def quoted(text):
    """Return `text` as a mail quotes it."""
    return b"".join(b"> " + line for line in text.splitlines(keepends=True))


def corpus():
    """Return name -> bytes of the corpus."""
    small = {width: build(11, width, 24, populated=0.1) for width in (4, 8)}
    files = {}
    for width, image in small.items():
        bits = 8 * width
        files[f"core-{bits}"] = core(image)
        files[f"stream-v2-libxc-{bits}"] = stream(image, version=2, wrapper="libxc")
        files[f"stream-v3-xl-{bits}"] = stream(image, version=3, wrapper="xl")
        files[f"mfndump-{bits}"] = mfndump_text(image.p2m, width)
        files[f"legacy-xend-tools64-{bits}"] = legacy(image, wrapper="xend")
        files[f"legacy-libxc-tools32-{bits}"] = legacy(image, wrapper="libxc", toolstack_bits=32)
        files[f"linear-{bits}"] = LinearGuest(width, 24).stream()
    files["stream-v3-libvirt-64"] = stream(small[8], wrapper="libvirt")
    files["stream-v3-xenserver-64"] = stream(small[8], wrapper="xenserver")
    files["legacy-xenserver-1-64"] = legacy(small[8], wrapper="xenserver-1")
    files["stream-v3-libxl-64-live"] = stream(small[8], wrapper="libxl", live=True)
    files["mfndump-captured"] = b"# xl\n" + quoted(mfndump_text(small[8].p2m, 8)) + b"# exit\n"
    files["host-map"] = HOST_MAP
    files["debugfs-newer"], files["debugfs-older"] = NEWER, OLDER
    return files


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    for name, data in corpus().items():
        (CORPUS / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))

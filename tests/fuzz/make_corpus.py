"""Make the fuzzers' corpus: one small guest in every format, gzipped."""

import gzip
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_dumps_readers import NEWER, OLDER, mfndump_text

from dump_guests import build, core, stream

CORPUS = Path(__file__).parent / "corpus"


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
    files["stream-v3-libxl-64-live"] = stream(small[8], wrapper="libxl", live=True)
    files["debugfs-newer"], files["debugfs-older"] = NEWER, OLDER
    return files


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    for name, data in corpus().items():
        (CORPUS / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))

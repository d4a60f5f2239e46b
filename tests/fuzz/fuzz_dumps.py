"""Coverage-guided fuzzing of the dump readers with atheris; see docs/fuzzing.md.

    python tests/fuzz/fuzz_dumps.py [--packed] [libFuzzer options] [more corpus directories]

Without atheris it says so and runs seeded mutations of the corpus instead.
"""

import gzip
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

try:
    import atheris
except ImportError:
    atheris = None

ANALYSES = [
    f"p2mbatch.dumps.{name}"
    for name in ("audit", "hazards", "model", "shape", "structures", "walk")
]
"""What is not watched: atheris never lets go of what a watched comparison returned, and theirs
return arrays."""


def unpacked_corpus(packed):
    """Return the corpus's files as the fuzzer needs them: plain, or gzipped as they are."""
    files = sorted((HERE / "corpus").glob("*.gz"))
    return {f.stem: f.read_bytes() if packed else gzip.decompress(f.read_bytes()) for f in files}


def run_mutations(check, packed, seconds):
    """Mutate the corpus for `seconds`, seed after seed."""
    from mutate import mutations

    end, seed, num = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        for data in unpacked_corpus(packed).values():
            for mutated in mutations(data, 20, seed):
                check(mutated)
                num += 1
        seed += 1
    print(f"{num} mutated files read, nothing found")


def main():
    packed = "--packed" in sys.argv
    options = [option for option in sys.argv[1:] if option != "--packed"]
    if atheris is None:
        import target

        print("atheris is not installed: seeded mutations instead, for 60 s")
        run_mutations(target.check_packed if packed else target.check, packed, 60)
        return
    with atheris.instrument_imports(include=["p2mbatch"], exclude=ANALYSES):
        import target
    check = target.check_packed if packed else target.check
    with tempfile.TemporaryDirectory() as directory:
        for name, data in unpacked_corpus(packed).items():
            (Path(directory) / name).write_bytes(data)
        # New inputs go to the first directory: the user's, if one is named.
        atheris.Setup([sys.argv[0], *options, directory], lambda data: check(data) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

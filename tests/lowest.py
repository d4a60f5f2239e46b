"""Print the lowest versions that pyproject.toml allows, as pins for pip.

    python tests/lowest.py [EXTRA ...]

`make test-lowest` installs them: a bound that nobody tried is a guess.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def pins(requirements: list[str]) -> list[str]:
    """Return `name==version` for each `name>=version`; others as they are."""
    found = []
    for text in requirements:
        match = re.fullmatch(r"([\w.-]+(?:\[[\w,-]+\])?)>=([\d.]+)", text)
        found.append(f"{match[1]}=={match[2]}" if match else text)
    return found


if __name__ == "__main__":
    wanted = pins(PROJECT["dependencies"])
    for extra in sys.argv[1:]:
        own = PROJECT["optional-dependencies"][extra]
        wanted += pins([text for text in own if not text.startswith("p2mbatch")])
    print("\n".join(wanted))

"""Print the lower bound of each dependency as pip's constraints, for `make test-lowest`."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def bounds() -> list[str]:
    """Return `name==version` for each dependency of the package and of its Dask extra."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dask"]]
    return [dependency.replace(">=", "==") for dependency in named]


if __name__ == "__main__":
    print("\n".join(bounds()))

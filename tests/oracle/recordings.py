"""The recorded traces in data/traces: where each is, and of which family, width and format."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACES = Path(__file__).resolve().parents[2] / "data" / "traces"
NUM_RECORDED = {"p2mbatch-trace/1": 148, "p2mbatch-trace/2": 149}

# A file's JSON begins with its format, so that it need not be read whole to tell.
_HEAD = re.compile(r'\{"format":\s*"([^"]+)"')
_NAME = re.compile(r"(.+)-(32|64)-(\d+)\.json\.gz")


@dataclass(frozen=True)
class Recording:
    """One recorded trace."""

    path: Path
    format: str
    family: str
    bits: str

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".json.gz")

    def load(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(gzip.decompress(self.path.read_bytes()))
        return value


def recordings() -> list[Recording]:
    """All recorded traces, by name."""
    found = []
    for path in sorted(TRACES.glob("*.json.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head = _HEAD.match(file.read(100))
        name = _NAME.fullmatch(path.name)
        assert head and name, path
        found.append(Recording(path, head[1], name[1], name[2]))
    return found

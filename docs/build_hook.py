"""What hatchling asks while it builds a package: its description, and where its site is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))

from readme import absolute


class ReadmeHook(MetadataHookInterface):
    """Gives the package's metadata its description and, where it is known, its site."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` and `urls`."""
        site = os.environ.get("P2MBATCH_DOCS_URL", "")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, site)}
        metadata["urls"] = {"Documentation": site} if site else {}

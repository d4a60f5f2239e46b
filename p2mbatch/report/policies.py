"""The policies as `p2mbatch policies` lists them: which kernels, what goes wrong, how sure."""

from __future__ import annotations

from typing import Any

from p2mbatch.model import toolstacks
from p2mbatch.model.hazards import FACTS, HAZARDS


def policy_list() -> dict[str, Any]:
    """Return every policy and toolstack with what is known of it, as plain values."""
    return {
        "policies": [_policy(name) for name in FACTS],
        "toolstacks": [_toolstack(name) for name in toolstacks.names()],
    }


def _policy(name: str) -> dict[str, Any]:
    facts = FACTS[name]
    hazards = [HAZARDS[hazard] for hazard in facts.hazards]
    return {
        "policy": name,
        "linux": facts.versions,
        "sentence": facts.does,
        "hazards": [{"name": h.name, "what": h.what, "mended": h.mended or None} for h in hazards],
        "run": facts.run,
        "read": facts.read,
        "between": facts.between,
    }


def _toolstack(name: str) -> dict[str, Any]:
    found = toolstacks.find(name)
    sure = "recorded" if found.recorded else "from reading, not recorded"
    return {"toolstack": name, "sentence": found.meaning, "sure": sure}


def policies_as_text() -> str:
    """Return the list as a person reads it."""
    found = policy_list()
    parts = [_paragraph(entry) for entry in found["policies"]]
    lines = [f"{e['toolstack']:8} {e['sentence']} ({e['sure']})" for e in found["toolstacks"]]
    return "\n\n".join([*parts, "Toolstacks:\n" + "\n".join(lines)])


def _paragraph(entry: dict[str, Any]) -> str:
    sure = [f"run: {entry['run'] or 'none'}", f"read: {entry['read']}"]
    if entry["between"]:
        sure.append(f"between: {entry['between']}")
    which = entry["linux"]
    which = which if which.startswith("no ") else f"Linux {which}"
    lines = [f"{entry['policy']}: {which}", f"  {entry['sentence']}"]
    for hazard in entry["hazards"]:
        mended = f"mended: {hazard['mended']}" if hazard["mended"] else "not mended"
        lines.append(f"  - {hazard['name']}: {hazard['what']} ({mended})")
    return "\n".join([*lines, "  sure: " + "; ".join(sure)])

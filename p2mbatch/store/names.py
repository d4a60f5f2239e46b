"""What policies are called beside each other: a file by its name, with digits where two agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from p2mbatch.guests.references import digest_of
from p2mbatch.model.policies import shown


def told_apart(policies: Iterable[str]) -> dict[str, str]:
    """Return what each policy is called beside the others.

    That is its name without the digest of its file, of which six digits are kept where others have
    the same name.
    """
    short = {policy: shown(policy).short for policy in dict.fromkeys(policies)}
    count = Counter(short.values())
    return {
        policy: name if count[name] == 1 else f"{name}#{digest_of(policy)[:6]}"
        for policy, name in short.items()
    }

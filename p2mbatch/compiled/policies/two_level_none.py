"""2.6.30 to 2.6.32: `two-level`, its list built at boot and only reported at resume (spec P2)."""

from __future__ import annotations

from p2mbatch.compiled.policies import two_level
from p2mbatch.compiled.policies.none import keep

OPERATIONS = two_level.OPERATIONS._replace(rebuild=keep)

"""Hypothesis profiles, and the models that a test of the model runs on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from oracle import models
from signal_support import heed_signals

heed_signals()

# Building a guest and its hosts takes many draws, which Hypothesis would call too slow.
_SLOW_TO_DRAW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile(
    "quick", max_examples=80, deadline=None, derandomize=True, suppress_health_check=_SLOW_TO_DRAW
)
settings.register_profile(
    "thorough",
    max_examples=3000,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=_SLOW_TO_DRAW,
)
PROFILE = os.environ.get("P2MBATCH_HYPOTHESIS", "quick")
settings.load_profile(PROFILE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what compiles for long to thorough runs."""
    if PROFILE != "thorough":
        skipped = pytest.mark.skip(reason="for a thorough run (make thorough) only")
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(skipped)


@pytest.fixture(params=[models.Reference, models.Compiled], ids=["reference", "compiled"])
def model(request: pytest.FixtureRequest) -> type[models.Model]:
    """The naive model and the compiled one, with the same interface."""
    kind: type[models.Model] = request.param
    return kind


@pytest.fixture
def replay(model: type[models.Model]) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Run a trace's JSON object and return what its "expected" should be."""
    return models.REPLAYS[model]

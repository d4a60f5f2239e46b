"""Records: fields by name, whatever their order, in Python and in compiled code alike."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2mbatch.compiled import records
from p2mbatch.compiled.jit import kernel

KINDS = [records.State, records.HostParameters, records.Bijection]


def filled(kind, start=1):
    """Return a record of `kind` with a number of its own in each field."""
    values = {}
    for number, field in enumerate(dataclasses.fields(kind), start):
        nested = field.type == "Bijection"
        values[field.name] = filled(records.Bijection, 100 * number) if nested else number
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_what_the_class_says(kind):
    record = filled(kind)
    array = records.as_array(record)
    for field in dataclasses.fields(kind):
        value, found = getattr(record, field.name), getattr(array[0], field.name)
        if isinstance(value, records.Bijection):
            assert [getattr(found, f.name) for f in dataclasses.fields(value)] == list(
                dataclasses.astuple(value)
            )
        else:
            assert found == value


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_has_a_name_of_numpys_own(kind):
    """An attribute of NumPy's would hide the field where nothing is compiled."""
    assert not {f.name for f in dataclasses.fields(kind)} & set(dir(np.record))


@kernel
def _moved(array, other):
    state = array[0]
    state.wild += 1
    state.event = other[0].holes_perm.length


@pytest.mark.lane
def test_a_record_is_a_view_that_survives_pickling():
    array = records.as_array(filled(records.State))
    host = records.as_array(filled(records.HostParameters))
    for state, par in ((array, host), pickle.loads(pickle.dumps((array, host)))):
        before = int(state[0].wild)
        _moved(state, par)
        assert (state[0].wild, state[0].event) == (before + 1, par[0].holes_perm.length)
        state[0].wild = 7
        assert state["wild"][0] == 7


_REVERSED = """
import dataclasses
fields = dataclasses.fields
dataclasses.fields = lambda kind: fields(kind)[::-1]
from p2mbatch.compiled import records
dataclasses.fields = fields
assert records.as_array(records.NOWHERE).dtype.names[0] == "key3"
from p2mbatch.cli import main
main()
"""


def test_nothing_relies_on_the_order_of_fields():
    """A life on both kinds of hosts is the same with every record turned round."""
    traces = Path(__file__).parents[2] / "data" / "traces"
    some = [str(traces / f"absent-page-{name}.json.gz") for name in ("32-300", "64-301")]
    environment = dict(os.environ, NUMBA_DISABLE_JIT="1")
    replay = [sys.executable, "-c", _REVERSED, "replay", "--check", *some]
    assert subprocess.run(replay, env=environment, capture_output=True).returncode == 0

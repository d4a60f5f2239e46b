"""The event `poke`: words of any page, as the naive model writes them; what is no such event."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import numba
import numpy as np
import pytest

from oracle import build, reference
from oracle.build import Json
from oracle.lives import Wanted, lives
from oracle.machines import DIRECT_MAP, FORMATS
from p2mbatch.base.errors import InputError
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import parse_trace, trace_to_json, written_format

FORMAT_3 = "p2mbatch-trace/3"

NUM_LIVES = int(os.environ.get("P2MBATCH_TEST_POKES", "8" if numba.config.DISABLE_JIT else "40"))
"""Lives of each policy."""


def with_pokes(trace: Json, seed: str) -> Json:
    """The life with words written into its structures, leaves and other pages."""
    source = random.Random(seed)
    guest, word_bytes = trace["guest"], trace["guest"]["word_bytes"]
    n, directmap = build.entries(word_bytes), guest["directmap_pages"]
    named = build.structures(trace["policy"], guest)
    # The kernel after the change takes this page for whole.
    fixed = named.pop("top_mfn_p", -1)
    places = sorted(page for page in named.values() if page < directmap)
    leaves = {p for name, p in named.items() if name.startswith(("leaf", "pool", "missing"))}
    frames = trace["hosts"][0]["frames"]
    bases = (DIRECT_MAP[word_bytes], FORMATS[FORMAT_3].kernel_base[word_bytes])

    def word() -> int | None:
        kind = source.randrange(8)
        if kind < 4:
            return [None, 0, frames, source.randrange(frames)][kind]
        if kind < 7:
            page = source.choice([*places, source.randrange(directmap + 2)])
            return (source.choice(bases) + 4096 * page) % (1 << 8 * word_bytes)
        return source.randrange((1 << 8 * word_bytes) - 1)

    events = trace["events"]
    for _ in range(source.randint(1, 3)):
        rows = []
        for _ in range(source.randint(1, 3)):
            page = source.choice([*places, source.randrange(directmap)])
            page -= page == fixed
            index, value = source.choice([0, source.randrange(5), source.randrange(n)]), word()
            if page in leaves and value is not None and value >> 63:
                value >>= 20
            rows.append([page, index, value])
        at = source.randint(1, len(events))
        events = [*events[:at], {"op": "poke", "words": rows}, *events[at:]]
    return trace | {"events": events}


@pytest.mark.lane
@pytest.mark.parametrize("policy", ["tracked", "stale", "none"])
def test_lives_with_poked_words_are_those_of_the_naive_model(policy: str) -> None:
    made = lives("poke", 0, NUM_LIVES, Wanted(FORMAT_3, policy, one_in_wide=0))
    for number, plain in enumerate(made):
        trace = with_pokes(plain, f"poke/{policy}/{number}")
        parsed = parse_trace(trace)
        assert replay(parsed) == reference.replay(trace), number
        assert written_format(parsed) == FORMAT_3
        again = json.loads(json.dumps(trace_to_json(parsed)))
        assert again["events"] == trace["events"]


def life(policy: str = "tracked", word_bytes: int = 8, *events: Json) -> Json:
    guest = build.guest(word_bytes, 3000)
    home = build.host(4000, build.frames_from(500, 3000))
    away = build.host(4000, build.frames_from(700, 3000))
    return build.trace(policy, guest, [home, away], [build.boot(), *events], format_number=3)


def test_a_damaged_list_is_what_the_next_save_reads() -> None:
    """An old frame in the frame list list: the guest lives on, and can't be saved."""
    trace = life()
    fll = build.structures("tracked", trace["guest"])["top_mfn"]
    poke = {"op": "poke", "words": [[fll, 0, 3999]]}
    trace["events"] += [poke, build.assign((7, None, 1)), build.migrate(1)]
    results = replay(parse_trace(trace))
    assert results == reference.replay(trace)
    assert results[1] == {"op": "poke"}
    assert results[2]["outcome"] == "ok"
    assert (results[3]["outcome"], results[3]["detail"]) == ("save-failed", "map-fl-failed 0")
    assert results[2]["frame_list_list_sha256"] != results[0]["frame_list_list_sha256"]


def test_pointers_that_the_kernel_takes_for_whole_stay() -> None:
    trace = life()
    page = build.structures("tracked", trace["guest"])["top_mfn_p"]
    trace["events"].append({"op": "poke", "words": [[page, 0, 5]]})
    with pytest.raises(InputError, match=f"poke: page {page} is top_mfn_p"):
        replay(parse_trace(trace))


def test_an_entry_of_a_leaf_is_no_address() -> None:
    trace = life()
    leaf = build.structures("tracked", trace["guest"])["leaf2"]
    trace["events"].append({"op": "poke", "words": [[leaf, 5, 0xFFFF_8800_0000_1000]]})
    with pytest.raises(InputError, match=f"poke: page {leaf} is a leaf, and its entry 5 can't be"):
        replay(parse_trace(trace))


def test_what_a_leaf_holds_changes_and_who_owns_it_does_not() -> None:
    trace = life()
    leaf = build.structures("tracked", trace["guest"])["leaf2"]
    trace["events"] += [{"op": "poke", "words": [[leaf, 5, None]]}, build.migrate(1)]
    results = replay(parse_trace(trace))
    assert results == reference.replay(trace)
    # m2p still names the page, so that its loss is not this migration's: it was not populated.
    assert results[2]["lost_pages"] == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "words: is empty"),
        (7, "words: is the number 7: it must be an array"),
        ([[1, 2]], r"words\[0\]: must be \[page, index, word\]"),
        ([[1, 512, 3]], r"words\[0\]\[1\]: is 512: it must be 0 to 511"),
        ([[-1, 0, 3]], r"words\[0\]\[0\]: is -1"),
        ([[3000, 0, 3]], r"words\[0\]\[0\]: is 3000: it must be 0 to 2999"),
        ([[1, 0, (1 << 64) - 1]], r"words\[0\]\[2\]"),
        ([[1, 0, True]], r"words\[0\]\[2\]: is a boolean"),
        ([[1, None, 3]], r"words\[0\]\[1\]: is null"),
    ],
)
def test_what_is_no_poke_is_named(words: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_trace(life("tracked", 8, {"op": "poke", "words": words}))


@pytest.mark.parametrize("number", [1, 2])
def test_older_formats_have_no_such_event(number: int) -> None:
    trace = life("tracked", 8, {"op": "poke", "words": [[1, 2, 3]]})
    with pytest.raises(InputError, match=r"events\[1\].op: is 'poke': use"):
        parse_trace(trace | {"format": f"p2mbatch-trace/{number}"})


def test_words_of_64_bits_come_back_as_they_were() -> None:
    words = [[1, 2, (1 << 64) - 2], [1, 3, None], [2, 0, 1 << 63], [3, 511, 0]]
    trace = parse_trace(life("tracked", 8, {"op": "poke", "words": words}))
    assert trace.events[1]["words"].dtype == np.int64
    assert trace_to_json(trace)["events"][1]["words"] == words

"""Releases of Linux: which policy each is, and which are refused with which words."""

from __future__ import annotations

import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model import policies
from p2mbatch.model.hazards import FACTS, HAZARDS
from p2mbatch.model.kernels import kernel_of
from p2mbatch.model.placement import place
from p2mbatch.model.toolstacks import came_with, names, said
from p2mbatch.spec.sweep_spec import SweepSpec

WIDE = {
    "two-level": "2.6.27 2.6.29 2.6.33 2.6.36.4",
    "two-level-none": "2.6.30 2.6.32 2.6.32.71",
    "stale": "2.6.37-rc",
    "tracked": "2.6.37 2.6.37.6",
    "tail": "2.6.38",
    "identity": "2.6.39.4 3.0 3.6.11",
    "moved": "3.7 3.13",
    "mid-identity": "3.14 3.16.85",
    "late-list": "3.17 3.18.140",
    "linear-3.19": "3.19 4.2.8",
    "linear-4.4": "4.3 4.4.283 4.8.17 5.4.147 5.10 5.10.66 5.12.19 5.13.18 5.14.0 5.14.1 5.14.5",
    "linear": "4.4.284 4.9.283 4.14.247 4.19.207 5.4.148 5.10.67 5.13.19 5.14 5.14.6 6.1.100 6.12",
}


@pytest.mark.parametrize(
    ("policy", "release"), [(name, word) for name in WIDE for word in WIDE[name].split()]
)
def test_a_release_is_its_policy(policy: str, release: str) -> None:
    assert kernel_of(release, 8).policy == policy
    scenario = Scenario.make(memory_bytes="64MiB", linux=release)
    assert scenario.policy == policy
    assert Scenario.make(**scenario.canonical()) == scenario


def test_32_bit_kernels_keep_their_leaves() -> None:
    assert [kernel_of(release, 4).policy for release in ("3.6", "3.10", "3.14")] == [
        "identity",
        "identity",
        "mid-identity",
    ]


@pytest.mark.parametrize(
    ("release", "word_bytes", "complaint"),
    [
        ("2.6.25", 8, "2.6.25 is not modelled"),
        ("2.6.26", 8, "2.6.26 keeps no mfn list list"),
        ("2.6.39", 8, "2.6.39 as first released is none of the policies"),
        ("2.6.39.2", 8, "which stable release of 2.6.39 was the first to be mended is not known"),
        ("2.6.40", 8, "there is no 2.6.40"),
        ("2.6.37-rc3", 8, "which release candidate had which commit is not known"),
        ("2.6.39.5", 8, r"there is no 2.6.39.5: 2.6.39.4 was the last one"),
        ("3.20", 8, "there is no 3.20: 4.0 followed 3.19"),
        ("4.21", 8, "there is no 4.21: 5.0 followed 4.20"),
        ("5.20.3", 8, "there is no 5.20.3: 6.0 followed 5.19"),
        ("9.1", 8, "9.1 is newer than any release that is known here"),
        ("6.01", 8, "'6.01' is no release of Linux"),
        ("five", 8, "'five' is no release of Linux"),
        ("4.4", 4, "32-bit guests of 3.19 to 5.8 are not modelled"),
        ("5.9", 4, "there are no 32-bit PV guests with 5.9"),
    ],
)
def test_what_is_refused_says_why(release: str, word_bytes: int, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Scenario.make(memory_bytes="64MiB", linux=release, word_bytes=word_bytes)
    with pytest.raises(InputError, match=complaint):
        SweepSpec.from_options(memory="64MiB", linux=release, word_bytes=str(word_bytes)).check()


def test_releases_have_no_ranges() -> None:
    with pytest.raises(InputError, match=r"linux: .* is no value: linux has no ranges"):
        SweepSpec.from_options(memory="64MiB", linux="2.6.32..2.6.38")


def test_a_release_and_a_policy_are_refused() -> None:
    with pytest.raises(InputError, match="policy: linux says which policy it is"):
        SweepSpec.from_options(memory="64MiB", linux="3.0", policy="tail")
    with pytest.raises(InputError, match=r"policy: is 'tail', and linux 3.0 is 'identity'"):
        Scenario.make(memory_bytes="64MiB", linux="3.0", policy="tail")


def test_a_release_has_its_configuration() -> None:
    """A guest boots with no more than CONFIG_XEN_MAX_DOMAIN_MEMORY lets it."""
    gib = 1 << 18
    found = [kernel_of(release, 8).max_domain_pages for release in ("2.6.32", "3.0", "3.10", "4.4")]
    assert found == [32 * gib, 128 * gib, 500 * gib, 0]
    assert kernel_of("4.4", 8).hotplug_gib == 512
    placed = place(
        memory_bytes=200 << 30,
        sparsity=0.0,
        layout="tail",
        policy="tracked",
        word_bytes=8,
        seed=0,
        max_domain_pages=128 * gib,
    )
    assert (placed.nr_pages, placed.span) == (128 * gib, 200 * gib)
    cells = SweepSpec.from_options(memory="64MiB", linux="2.6.32,5.10").expand()
    assert [cell[-1] for cell in cells] == [0, 0]


def test_every_policy_is_told_with_its_hazards() -> None:
    assert set(FACTS) == set(policies.names())
    told = {hazard for facts in FACTS.values() for hazard in facts.hazards}
    assert told == set(HAZARDS)


def test_xen_and_toolstack_give_each_other() -> None:
    versions = ((4, 0, 0), (4, 5, 5), (4, 6, 0), (4, 7, 0), (4, 20, 1))
    assert [came_with(version) for version in versions] == ["legacy", "legacy", "4.6", "4.7", "4.7"]
    for fields, expected in (
        ({"xen": "4.1"}, ("4.1", "legacy")),
        ({"toolstack": "legacy"}, ("4.5", "legacy")),
        ({"toolstack": "4.6"}, ("4.6", "4.6")),
        ({"xen": "4.1", "toolstack": "4.7"}, ("4.1", "4.7")),
        ({}, ("", "4.7")),
    ):
        scenario = Scenario.make(memory_bytes="64MiB", **fields)
        assert (scenario.xen, scenario.toolstack) == expected
        spec = SweepSpec.from_options(memory="64MiB", **fields)
        assert dict(zip(scenario.canonical(), next(spec.expand()), strict=True)) == (
            scenario.canonical()
        )


def test_each_toolstack_has_its_own_words() -> None:
    assert {said(name, "map-fl-failed 0") for name in names()} == {
        "Couldn't map p2m_frame_list",
        "Failed to map p2m frame list",
    }
    assert said("4.7", "bad-mfn-in-p2m-frame-list 12") == "Bad mfn in p2m_frame_list[12]"
    assert said("4.7", None) == said("4.6", "bad-p2m-range") == ""

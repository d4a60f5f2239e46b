"""`p2mbatch policies`: which kernels there are, what goes wrong with them, and how sure that is."""

from __future__ import annotations

import json

import click

from p2mbatch.base.say import say


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def policies(as_json: bool) -> int:
    """List the policies: their releases of Linux, their hazards, and what mended those.

    A policy is what one range of kernels does with its p2m and its mfn list list. Sweeps name it by
    --policy, or by a release with --linux.
    """
    from p2mbatch.report.policies import policies_as_text, policy_list

    say(json.dumps(policy_list(), indent=2) if as_json else policies_as_text())
    return 0

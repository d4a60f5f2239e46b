"""One policy's hunters, one for each width that its guests come in, a generation each by turns."""

from __future__ import annotations

from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.base.provenance import num_cores
from p2mbatch.hunt.batch import CHUNK, Generation, Hunter
from p2mbatch.hunt.state import STATE, Arrays
from p2mbatch.model.policies import Policy, find

NUM_LIVES = 1 << 14
"""Lives of a generation: about a second's."""


class Herd:
    """Lives generations of one policy's guests (`hunting.Hunter`): 64-bit ones, 32-bit ones, …"""

    num_lives = NUM_LIVES

    def __init__(self, name: str, seed: int, threads: int | None, state: Arrays | None) -> None:
        """Make one that goes on from `state`. Raises `InputError` where that is none of its own."""
        policy = find(name)
        widths = (8,) if policy.is_linear else (8, 4)
        # More would find no lives left to take.
        threads = min(threads or num_cores(), NUM_LIVES // CHUNK)
        states = _by_width(state, widths)
        self._hunters = [
            _hunter(policy, seed, threads, width, kept)
            for width, kept in zip(widths, states, strict=True)
        ]
        for hunter in self._hunters:
            # Compiled, or loaded, before the clock starts.
            hunter.generation(0, 1)

    def generation(self, number: int, num_lives: int) -> Generation:
        """Live the first `num_lives` lives of a generation."""
        return self._hunters[number % len(self._hunters)].generation(number, num_lives)

    def keep(self, generation: Generation) -> None:
        """Breed on from a whole generation."""
        generation.hunter.keep(generation)

    def state(self) -> Arrays:
        """Return what another herd goes on from."""
        return {
            f"{hunter.word_bytes}.{name}": array
            for hunter in self._hunters
            for name, array in hunter.state().items()
        }


def _hunter(
    policy: Policy, seed: int, threads: int, word_bytes: int, kept: Arrays | None
) -> Hunter:
    try:
        return Hunter(policy, seed, threads, word_bytes, kept)
    except PolicyError:
        raise
    except InputError as error:
        guests = f"{8 * word_bytes}-bit guests"
        raise InputError(f"{STATE}: {guests}: {error}: name another folder") from None


def _by_width(state: Arrays | None, widths: tuple[int, ...]) -> list[Arrays | None]:
    """Return what each width's hunter goes on from: of the arrays named `8.guest`, …, its own.

    Raises `InputError` where `state` has other arrays too.
    """
    if state is None:
        return [None] * len(widths)
    parts: list[Arrays] = [{} for _ in widths]
    for name, array in state.items():
        width, _, rest = name.partition(".")
        if width not in map(str, widths):
            raise InputError(f"{STATE}: {name!r}: is no array of a hunt's: name another folder")
        parts[widths.index(int(width))][rest] = array
    return list(parts)

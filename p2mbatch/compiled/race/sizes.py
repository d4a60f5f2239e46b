"""The layout's constants for pages of any size: what the steps see in place of `layout`'s."""

from __future__ import annotations


def sizes(entries: int, word_shift: int) -> dict[str, int]:
    """Return the constants of words and indices, by name.

    `entries` is a power of two; `word_shift` how many bits a page's number or an MFN may have.
    """
    shift = entries.bit_length() - 1
    return {
        "ENTRIES": entries,
        "LEAF_SHIFT": shift,
        "TOP_SHIFT": 2 * shift,
        "WORD_SHIFT": word_shift,
        "PAGE_MASK": (1 << word_shift) - 1,
        "POINTER": 1 << word_shift,
        "MACHINE": 2 << word_shift,
        "INVALID": (4 << word_shift) - 1,
    }

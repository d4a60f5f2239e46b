"""The versions, each in one place; the build reads the package's from here."""

__version__ = "1.0.0"

MODEL_VERSION = 2
"""Raised whenever the same scenario would give other exact rows; part of every cell's id."""

MODEL_CHANGE = (
    "cells live on machine 2 from there on: two address maps, pages that are absent, a restore by "
    "ownership, an m2p that ends"
)
"""What is different from the model before, for who has a store of that."""

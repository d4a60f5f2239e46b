"""The versions, each in one place; the build reads the package's from here."""

__version__ = "0.1.0"

MODEL_VERSION = 1
"""Raised whenever the same scenario would give other exact rows; part of every cell's id."""

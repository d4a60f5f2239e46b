"""Readers of real guests' files."""

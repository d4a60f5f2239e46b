"""Policies of the user's own: a Python file that is read, checked and compiled, never run."""

"""Attacks that anyone can repeat: `make torture MINUTES=N`; the tests run some seconds of each."""

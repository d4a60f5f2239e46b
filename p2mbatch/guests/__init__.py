"""Guests of sweeps: from a scenario to a living guest, its rows and its pictures."""

"""Races in the growth of the p2m: every interleaving of a few CPUs, and what each can end in."""

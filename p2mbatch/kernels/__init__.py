"""Kernels of the user's own, in C: what a `mmu.c` or `p2m.c` has of the p2m, as one unit."""

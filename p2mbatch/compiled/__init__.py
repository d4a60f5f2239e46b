"""Everything that Numba compiles."""

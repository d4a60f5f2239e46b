"""Random lives, drawn, lived and judged in compiled code: the core of `p2mbatch hunt`."""

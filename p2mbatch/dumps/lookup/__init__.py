"""Whose is this frame, what is at this PFN, and by which way: the commonest question of all."""

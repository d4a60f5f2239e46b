"""Growth by several CPUs at once: one atomic step at a time, as a keyed schedule has it."""

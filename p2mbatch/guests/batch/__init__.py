"""A batch of cells: scenarios as columns in, rows as columns out, no Python for a cell."""

"""A batch of lives in one compiled call: scenarios come as columns, rows go out as columns."""

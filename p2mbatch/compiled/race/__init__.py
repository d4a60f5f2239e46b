"""The compiled part of the race explorer: every interleaving of CPUs that grow the p2m."""

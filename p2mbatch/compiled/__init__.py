"""All compiled code: one room per operation, its exact, plain and parallel forms in that order."""

from p2mbatch.compiled.environment import check

check()

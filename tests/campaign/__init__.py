"""Random lives by the hundred thousand: the compiled model against the naive one.

`make lives LIVES=N` runs it. What it reached is counted, what it never reached is named, and the
first life on which the two differ is shrunk and written as a trace.
"""

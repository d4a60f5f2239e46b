"""Random lives that break a kernel: what must hold of a life, and the least life that breaks it."""

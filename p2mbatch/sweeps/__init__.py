"""Running a sweep: what to run next, where, and how it stops."""

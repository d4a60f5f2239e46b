"""Policies whose functions run in a child process: what it is told, and what it did, done here."""

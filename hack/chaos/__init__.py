"""Chaos: real trainers, really killed, until they are done; and whether the result is the one of an undisturbed run.

`make chaos` runs all of it, tests/integration/trainer/test_kills.py a few kills of it.
"""

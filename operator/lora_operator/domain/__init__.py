"""Decisions about jobs as pure functions on typed values: no client, no clock, no event loop, no randomness."""

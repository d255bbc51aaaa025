"""Observe, plan, execute: one pass over one object, and the queue that says which object is next."""

"""The optional web page: a read-only view of LoRAJobs and LoRAAdapters. Nothing in the operator depends on it."""

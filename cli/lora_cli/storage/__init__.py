"""Artifacts in S3 or on this machine, read with the caller's own credentials. Nothing is written."""

"""Checkpoints: what a training needs to go on as if nothing had happened, in S3, complete or not at all."""

"""Kubeflow Trainer with JobSet (to come)."""

USERS = {}
Trainer = None

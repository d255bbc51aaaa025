"""The control plane: turns a LoRAJob into pods, and what they say into a status.

`domain` decides and is pure, `cluster` talks to Kubernetes, `reconcile` puts the two together, `app` is the process.
It never sees the user's data, and has no right to read a Secret.
"""

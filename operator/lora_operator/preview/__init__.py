"""Shows what the operator would do with a LoRAJob, without a cluster: a program beside the operator, for `plan`.

It asks the very decisions that a reconcile pass asks, and renders and judges nothing itself. It imports `domain` and
the contract only, so it runs where neither Kopf nor a Kubernetes client is installed.
"""

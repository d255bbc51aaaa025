"""The operator held against Kubeflow Trainer on this machine: `make bench-operator`.

Both run as processes of their own against one real API server with the Job controller, a scheduler and fake nodes, and
with the rights that their manifests give them. Numbers of one run are compared with each other and with nothing else.
"""

"""`kubectl lora`: LoRAJobs and LoRAAdapters on the command line.

`commands/` has one module a command, `cluster/` alone talks to Kubernetes, `storage/` alone to S3, `explain/` decides
why something is as it is, and `render/` draws. The trainer and the operator's preview are started as processes; neither
is ever imported.
"""

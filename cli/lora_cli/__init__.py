"""`kubectl lora`: LoRAJobs and LoRAAdapters on the command line.

`commands/` has one module a command, `cluster/` alone talks to Kubernetes, `storage/` alone to S3, `explain/` decides
why something is as it is, and `render/` draws. The trainer is started as a process; neither it nor the operator is ever
imported.
"""

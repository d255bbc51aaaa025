"""What runs in the trainer pods: from a job file to a published adapter.

`cli` is the only entry. `preflight` and `train` tell the two stories; the modules below them do one thing each. Only
`model`, `trainer` and `train` import torch, because a preflight must start fast and small.
"""

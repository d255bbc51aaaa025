"""The serving part as it runs in a cluster, on one machine: real API server, operator, webhook, S3 and agents.

What a test plays is the kubelet (`kubelet`), the engines (`engines`) and the users (`world`).
"""

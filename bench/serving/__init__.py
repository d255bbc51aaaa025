"""The delivery of adapters to many pods on this machine: `make bench-serving`.

API server, operator, webhook, S3 and one agent a pod are the real programs. The engines are fake ones, all in the
process of the benchmark, each on an address and with a list of its own; what counts as served is what these lists say.
"""

"""A real Kubernetes cluster of one node on this machine, from pinned sources, for tests and the demo."""

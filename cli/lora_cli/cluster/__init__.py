"""The cluster: the only place that talks to Kubernetes. It reads, applies LoRAJobs, and decides nothing."""

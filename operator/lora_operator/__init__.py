"""The control plane: watches LoRAJobs, decides, and writes Kubernetes objects. Never touches the user's data."""

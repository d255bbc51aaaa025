"""The only package that talks to Kubernetes and to trainer pods. It decides nothing about a job."""

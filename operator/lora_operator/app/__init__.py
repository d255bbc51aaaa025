"""The process: settings, watches, probes, metrics, start and stop. The only package that imports Kopf."""

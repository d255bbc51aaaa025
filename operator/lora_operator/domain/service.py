"""Builds the headless Service of a run of several nodes: it gives the pods names that the others can look up."""

from lora_api.names import RENDEZVOUS_PORT
from lora_operator.domain.children import labels, names_of, owner
from lora_operator.domain.observed import Document, ObservedJob, Stage


def build_service(job: ObservedJob) -> Document:
    """Return the Service of the job's current run."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": job.namespace,
            "name": names_of(job).service,
            "labels": labels(job, "rendezvous"),
            "ownerReferences": owner(job),
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they have to meet before any of them is ready
            "selector": labels(job, "trainer", Stage.TRAIN),
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"}],
        },
    }

"""Builds the pod of a stage: the trainer container, locked down, with job file, scratch space, volumes and credentials.

It passes the "restricted" Pod Security Standard, gets no API token, and takes from the spec only the curated fields.
Secrets are named, never read: the kubelet hands them to the container.
"""

from lora_api.job_file import JobFile
from lora_api.lorajob import LoRAJobSpec
from lora_api.names import (
    BASE_CACHE_DIRECTORY,
    BASE_CACHE_VARIABLE,
    CLAIMS_DIRECTORY,
    HUB_TOKEN_VARIABLE,
    JOB_FILE_ANNOTATION,
    JOB_FILE_DIRECTORY,
    JOB_FILE_NAME,
    JOB_FILE_PATH,
    MASTER_ADDRESS_VARIABLE,
    PROGRESS_PORT,
    PROGRESS_PORT_NAME,
    SCRATCH_DIRECTORY,
    TERMINATION_LOG_PATH,
    TRAINER_CONTAINER,
)
from lora_api.placement import Resources, Scheduling
from lora_api.sources import BaseModelSource, Storage
from lora_operator.domain.children import labels, names_of, without_reserved
from lora_operator.domain.observed import Document, ObservedJob, Stage
from lora_operator.domain.settings import Settings

USER = 65532
"""The conventional "nonroot" of distroless images; the trainer image is built for it."""
GRACE_SECONDS = 120
"""Time to finish a step and to save a checkpoint after SIGTERM."""
DEFAULT_SCRATCH = "64Gi"
DEFAULT_MEMORY = "16Gi"
DEFAULT_MEMORY_WITHOUT_GPU = "4Gi"
DEFAULT_CPU = "1"
_JOB_FILE = {
    "path": JOB_FILE_NAME,
    "fieldRef": {"fieldPath": f"metadata.annotations['{JOB_FILE_ANNOTATION}']"},
}
_CREDENTIALS = (("AWS_ACCESS_KEY_ID", False), ("AWS_SECRET_ACCESS_KEY", False), ("AWS_SESSION_TOKEN", True))


def build_pod_template(job: ObservedJob, spec: LoRAJobSpec, stage: Stage, settings: Settings) -> Document:
    """Return the pod template of a stage."""
    metadata: Document = {
        "labels": without_reserved(spec.pod.labels) | labels(job, "trainer", stage),
        "annotations": without_reserved(spec.pod.annotations)
        | {JOB_FILE_ANNOTATION: job_file_of(job, spec, settings).encode()},
    }
    return {"metadata": metadata, "spec": _pod_spec(job, spec, stage, settings)}


def job_file_of(job: ObservedJob, spec: LoRAJobSpec, settings: Settings) -> JobFile:
    """Return what the trainer is told. It travels in the pod itself, so the two can never differ.

    The values of `pod.env` are left out: the pod has them already, and they are nobody else's business.
    """
    told = spec.model_copy(update={"pod": spec.pod.model_copy(update={"env": []})})
    return JobFile(
        namespace=job.namespace,
        name=job.name,
        uid=job.uid,
        run=job.run,
        image=spec.pod.image or settings.trainer_image,
        spec=told,
    )


def _pod_spec(job: ObservedJob, spec: LoRAJobSpec, stage: Stage, settings: Settings) -> Document:
    pod: Document = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, spec, stage, settings)],
        "volumes": _volumes(spec.resources) + _claim_volumes(spec),
    }
    if _meets_others(spec, stage):  # gives the pod a name in the DNS
        pod["subdomain"] = names_of(job).service
    if _claims(spec):  # else the kubelet walks through a volume of terabytes each time a pod starts
        pod["securityContext"]["fsGroupChangePolicy"] = "OnRootMismatch"
    if spec.pod.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": each.name} for each in spec.pod.image_pull_secrets]
    return pod | _placement(spec.scheduling)


def _container(job: ObservedJob, spec: LoRAJobSpec, stage: Stage, settings: Settings) -> Document:
    return {
        "name": TRAINER_CONTAINER,
        "image": spec.pod.image or settings.trainer_image,
        "imagePullPolicy": "IfNotPresent",
        "args": [stage.value, "--job", JOB_FILE_PATH],
        "env": _environment(spec) + _meeting_point(job, spec, stage),
        "ports": [{"name": PROGRESS_PORT_NAME, "containerPort": PROGRESS_PORT, "protocol": "TCP"}],
        "resources": _train_resources(spec.resources) if stage is Stage.TRAIN else _small_resources(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "terminationMessagePath": TERMINATION_LOG_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "job", "mountPath": JOB_FILE_DIRECTORY, "readOnly": True},
            {"name": "scratch", "mountPath": SCRATCH_DIRECTORY},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own, empty at start
            *_shared_memory(spec.resources, {"mountPath": "/dev/shm"}),  # noqa: S108 - in memory
            *_claim_mounts(spec),
        ],
    }


def _volumes(resources: Resources) -> list[Document]:
    return [
        {"name": "job", "downwardAPI": {"items": [_JOB_FILE]}},
        {"name": "scratch", "emptyDir": {"sizeLimit": resources.scratch or DEFAULT_SCRATCH}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        *_shared_memory(resources, {"emptyDir": {"medium": "Memory", "sizeLimit": f"{resources.gpus}Gi"}}),
    ]


def _shared_memory(resources: Resources, entry: Document) -> list[Document]:
    """Return the entry for /dev/shm, through which the processes of several GPUs exchange data: 64 MB are too few.

    What is in it counts as the pod's memory.
    """
    return [{"name": "shared-memory"} | entry] if resources.gpus > 1 else []


def _claims(spec: LoRAJobSpec) -> list[str]:
    """Return the claims that the pod mounts, each once: two volumes of one claim keep a pod from starting."""
    cache = spec.base_model.cache_claim_name
    return sorted({*_read_claims(spec), *([cache] if cache else [])})


def _read_claims(spec: LoRAJobSpec) -> list[str]:
    """Return the claims that pvc://claim/path URIs name."""
    dataset, retention = spec.dataset, spec.evaluation and spec.evaluation.retention
    data = [dataset.train, *dataset.mixture, dataset.validation, retention]
    uris = [spec.base_model.uri, *(each.uri for each in data if each and each.uri)]
    return sorted({uri.removeprefix("pvc://").partition("/")[0] for uri in uris if uri.startswith("pvc://")})


def _claim_volumes(spec: LoRAJobSpec) -> list[Document]:
    return [{"name": _volume_of(spec, claim), "persistentVolumeClaim": {"claimName": claim}} for claim in _claims(spec)]


def _claim_mounts(spec: LoRAJobSpec) -> list[Document]:
    mounts: list[Document] = [
        {"name": _volume_of(spec, claim), "mountPath": f"{CLAIMS_DIRECTORY}/{claim}", "readOnly": True}
        for claim in _read_claims(spec)
    ]
    if cache := spec.base_model.cache_claim_name:
        mounts.append({"name": _volume_of(spec, cache), "mountPath": BASE_CACHE_DIRECTORY})
    return mounts


def _volume_of(spec: LoRAJobSpec, claim: str) -> str:
    """Return the name of a claim's volume: numbered, because a claim may have a longer name than a volume."""
    return f"claim-{_claims(spec).index(claim)}"


def _meets_others(spec: LoRAJobSpec, stage: Stage) -> bool:
    return stage is Stage.TRAIN and spec.resources.nodes > 1


def _meeting_point(job: ObservedJob, spec: LoRAJobSpec, stage: Stage) -> list[Document]:
    """Return the variable that tells the pods of several nodes where the first of them is."""
    if not _meets_others(spec, stage):
        return []
    names = names_of(job)
    return [{"name": MASTER_ADDRESS_VARIABLE, "value": f"{names.work(stage)}-0.{names.service}"}]


def _small_resources() -> Document:
    """CPU only: it reads the data, the tokenizer and the headers of the base, never its weights."""
    return {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}


def _train_resources(resources: Resources) -> Document:
    memory = resources.memory or (DEFAULT_MEMORY if resources.gpus else DEFAULT_MEMORY_WITHOUT_GPU)
    requests: Document = {"cpu": resources.cpu or DEFAULT_CPU, "memory": memory}
    limits: Document = {"memory": memory}
    if resources.cpu:
        limits["cpu"] = resources.cpu
    if resources.gpus:
        requests[resources.gpu_resource_name] = str(resources.gpus)
        limits[resources.gpu_resource_name] = str(resources.gpus)
    return {"requests": requests, "limits": limits}


def _environment(spec: LoRAJobSpec) -> list[Document]:
    """Return the user's variables and ours. Ours win: the pod's writable folders and its storage are not negotiable."""
    ours = [
        {"name": "HOME", "value": f"{SCRATCH_DIRECTORY}/home"},
        {"name": "TMPDIR", "value": f"{SCRATCH_DIRECTORY}/tmp"},  # noqa: S108 - the pod's own
        {"name": "HF_HOME", "value": f"{SCRATCH_DIRECTORY}/huggingface"},
        {"name": "HF_HUB_OFFLINE", "value": "1"},
        *_base_environment(spec.base_model),
        *_storage_environment(spec.storage),
    ]
    taken = {each["name"] for each in ours}
    users = {each.name: each.value for each in spec.pod.env if each.name not in taken}
    return [{"name": name, "value": value} for name, value in users.items()] + ours


def _base_environment(base: BaseModelSource) -> list[Document]:
    found: list[Document] = []
    if base.cache_claim_name:
        found.append({"name": BASE_CACHE_VARIABLE, "value": BASE_CACHE_DIRECTORY})
    if token := base.token_secret_ref:
        found.append(_from_secret(HUB_TOKEN_VARIABLE, token.name, token.key))
    return found


def _storage_environment(storage: Storage) -> list[Document]:
    found: list[Document] = []
    if storage.region:
        found += [{"name": name, "value": storage.region} for name in ("AWS_REGION", "AWS_DEFAULT_REGION")]
    if storage.endpoint:
        found.append({"name": "AWS_ENDPOINT_URL_S3", "value": storage.endpoint})
    if storage.credentials_secret_ref:
        secret = storage.credentials_secret_ref.name
        found += [_from_secret(key, secret, key, optional=optional) for key, optional in _CREDENTIALS]
    return found


def _from_secret(variable: str, secret: str, key: str, *, optional: bool = False) -> Document:
    reference: Document = {"name": secret, "key": key} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _placement(scheduling: Scheduling) -> Document:
    wire = scheduling.wire()
    names = (
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
        "runtimeClassName",
        "serviceAccountName",
    )
    return {name: wire[name] for name in names if wire.get(name)}

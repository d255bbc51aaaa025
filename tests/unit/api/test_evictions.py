"""The kubelet's words on an evicted pod, as they stand in its source (pkg/kubelet/eviction, release 1.36)."""

import pytest

from lora_api.evictions import exceeds_storage_limit, full_volume, outgrew_its_disk

WORDS: list[tuple[str, str | None, bool]] = [
    # What the kubelet says; the volume that is full; whether a limit for ephemeral-storage was exceeded.
    ('Usage of EmptyDir volume "scratch" exceeds the limit "8Mi". ', "scratch", False),
    ("Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. ", None, True),
    ('Container trainer exceeded its local ephemeral storage limit "8Mi". ', None, True),
    ("The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. ", None, False),
    (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 9Mi. ",
        None,
        False,
    ),
    ("The node had condition: [DiskPressure]. ", None, False),
    ("", None, False),
]


@pytest.mark.parametrize(("message", "volume", "storage"), WORDS, ids=[each[0][:32] for each in WORDS])
def test_a_limit_of_the_pod_is_told_from_a_shortage_of_the_node(
    message: str, volume: str | None, storage: bool
) -> None:
    assert full_volume(message) == volume
    assert exceeds_storage_limit(message) is storage
    assert outgrew_its_disk(message) is (volume is not None or storage)

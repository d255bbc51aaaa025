"""What the driver of vLLM relies on, checked on real vLLM: when a check fails here, driver and played engine are wrong.

`make e2e-serving` runs it, and nothing else does.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.kubectl import kubectl
from e2e.serving.adapters import make_adapter, truncated
from e2e.serving.objects import BASE_NAME, vllm_deployment, with_files, without_agent
from e2e.serving.pods import EnginePods
from support.engines import contract

pytestmark = pytest.mark.vllm

FOLDER = Path("/contract")
START_SECONDS = 400


@pytest.fixture(scope="module")
def target(s3: Any, serving_namespace: str) -> Iterator[contract.Target]:
    """Return an engine without an agent, with the adapters of the contract on its disk."""
    folders = {
        "sha256-good": make_adapter(1).files,
        "sha256-other": make_adapter(2).files,
        "sha256-truncated": truncated(make_adapter(3)).files,
        "sha256-rank": make_adapter(4, rank=32).files,
    }
    deployment = without_agent(vllm_deployment("bare", "none", replicas=1))
    for each in with_files(deployment, folders, str(FOLDER)):
        kubectl("-n", serving_namespace, "create", "-f", "-", stdin=json.dumps(each))  # too large for `apply`
    pods = EnginePods(serving_namespace, "bare")
    pods.apply(deployment, START_SECONDS)
    with pods.forwarded(pods.names()[0]) as url:
        yield contract.Target(
            url=url,
            base=BASE_NAME,
            good=FOLDER / "sha256-good",
            other=FOLDER / "sha256-other",
            truncated=FOLDER / "sha256-truncated",
            rank_too_high=FOLDER / "sha256-rank",
        )


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda each: each.__name__)
def test_the_real_engine_does_what_the_driver_relies_on(check: contract.Check, target: contract.Target) -> None:
    contract.run(check, target)

"""The checks that also run against a real vLLM, here against the fakes; the other engines keep to them as well."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.engines import contract
from support.engines.adapters import store_adapter
from support.engines.contract import CHECKS, Check, Target
from support.engines.running import running
from support.engines.sglang import Sglang
from support.engines.vllm import Vllm

VLLM_AGES: dict[str, dict[str, Any]] = {
    "new": {},
    "old errors": {"old_errors": True},
    "load_inplace overlooked": {"old_errors": True, "load_inplace": "overlooked"},
    "load_inplace refused": {"load_inplace": "refused"},
    "load_inplace without effect": {"load_inplace": "ineffective"},
    "with a key": {"api_key": "k-1234"},
    "a cache of one adapter": {"max_cpu_loras": 1},
}
SGLANG_CHECKS = [each for each in CHECKS if each is not contract.does_not_take_the_name_of_the_base]
"""Its clients write the base's name in front of the adapter's, so the two do not meet."""


def target(url: str, folder: Path, api_key: str | None = None) -> Target:
    return Target(
        url=url,
        base="base-model",
        good=store_adapter(folder, seed="one"),
        other=store_adapter(folder, seed="two"),
        truncated=store_adapter(folder, seed="three", cut=40),
        rank_too_high=store_adapter(folder, seed="four", rank=64),
        api_key=api_key,
    )


@pytest.fixture(params=VLLM_AGES, scope="module")
def vllm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    engine = Vllm(**VLLM_AGES[request.param])
    with running(engine) as server:
        yield target(server.url, tmp_path_factory.mktemp("adapters"), engine.api_key)


@pytest.mark.parametrize("check", CHECKS, ids=lambda each: each.__name__)
def test_vllm(vllm: Target, check: Check) -> None:
    contract.run(check, vllm)


@pytest.mark.parametrize("late_requests", [0, 1, 2])
@pytest.mark.parametrize("check", SGLANG_CHECKS, ids=lambda each: each.__name__)
def test_sglang(tmp_path: Path, check: Check, late_requests: int) -> None:
    with running(Sglang(late_requests=late_requests)) as server:
        contract.run(check, target(server.url, tmp_path), kind="sglang", folder=tmp_path)

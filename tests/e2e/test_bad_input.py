"""What one object can prove wrong is refused at once. What only a look at data, model or cluster can prove wrong is in
`test_failures.py`.
"""

from typing import Any

import pytest

from demo.kubectl import kubectl
from support.lorajobs import LoRAJobs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora": {"rnak": 8}}, ['unknown field "spec.lora.rnak"']),
        ({"lora": {"rank": 0}}, ["spec.lora.rank", "should be greater than or equal to 1"]),
        (
            {"baseModel": {"uri": "ftp://x/y"}},
            ["spec.baseModel.uri", "write hf://owner/name, s3://bucket/path or"],
        ),
        (
            {
                "dataset": {
                    "train": {"uri": "s3://datasets/a"},
                    "validation": {"uri": "s3://datasets/b", "fraction": 0.1},
                }
            },
            ["spec.dataset.validation", "write either fraction", "not both"],
        ),
    ],
)
def test_what_one_object_can_prove_wrong_is_refused_by_the_api_server(
    jobs: LoRAJobs, change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RuntimeError) as refused:
        jobs.apply(jobs.sample("refused", **change))
    for each in words:
        assert each in str(refused.value)
    assert kubectl("-n", jobs.namespace, "get", "lorajob", "-o", "name") == ""

"""What a page must not show is taken out before it is stored."""

import json
from typing import Any

import pytest

from browser import samples
from lora_operator.dashboard.adapter_views import adapter_detail
from lora_operator.dashboard.job_views import job_detail, job_row
from lora_operator.dashboard.masking import MASK, mask_spec, mask_url

SECRET = "kept-9f31"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/path/file.jsonl", "s3://bucket/path/file.jsonl"),
        ("hf://owner/name", "hf://owner/name"),
        (f"https://host/data.jsonl?X-Amz-Signature={SECRET}&a=b", f"https://host/data.jsonl?{MASK}"),
        (f"https://host/data.jsonl#{SECRET}", f"https://host/data.jsonl?{MASK}"),
        (f"https://user:{SECRET}@host:9000/x", f"https://{MASK}@host:9000/x"),
        (f"https://{SECRET}@host", f"https://{MASK}@host"),
        (f"https://[broken/{SECRET}", MASK),
        ("no url at all? yes", "no url at all? yes"),
    ],
)
def test_of_a_url_only_the_place_is_shown(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "spec",
    [
        {"pod": {"env": [{"name": "KEY", "value": SECRET}]}},
        {"pod": {"env": [SECRET]}},
        {"dataset": {"train": {"uri": f"https://host/x?sig={SECRET}"}}},
        {"dataset": {"mixture": [{"uri": f"https://host/x?sig={SECRET}"}]}},
        {"baseModel": {"uri": f"https://user:{SECRET}@host/x"}},
        {"storage": {"endpoint": f"http://{SECRET}@minio:9000"}},
    ],
)
def test_no_secret_of_a_spec_reaches_a_page(spec: dict[str, Any]) -> None:
    document = samples.job("support-bot", **spec)
    document["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": SECRET}
    document["metadata"]["managedFields"] = [{"manager": SECRET}]
    assert SECRET not in json.dumps([job_row(document), job_detail(document)])


def test_names_of_variables_and_secrets_are_shown() -> None:
    reference = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    masked = mask_spec({"pod": {"env": [{"name": "LEVEL", "value": "debug"}, reference]}})
    assert masked["pod"]["env"] == [{"name": "LEVEL", "value": MASK}, reference]


def test_what_is_nested_without_end_is_cut() -> None:
    deep: dict[str, Any] = {"end": SECRET}
    for _ in range(100):
        deep = {"more": deep}
    assert SECRET not in json.dumps(mask_spec({"scheduling": deep}))


def test_no_secret_of_an_adapter_reaches_a_page() -> None:
    source = {"uri": f"https://host/x?sig={SECRET}", "storage": {"endpoint": f"http://a:{SECRET}@b"}}
    status = samples.rolling()
    status["versions"][0]["source"]["uri"] = f"s3://bucket/path?sig={SECRET}"
    assert SECRET not in json.dumps(adapter_detail(samples.adapter("bot", status=status, source=source)))

"""The termination message fits what the kubelet keeps, whole, whatever the texts are."""

import pytest

from lora_api.messages import AdapterResult, TerminationMessage
from lora_api.names import TERMINATION_MESSAGE_BYTES


@pytest.mark.parametrize("text", ["short", "x" * 10_000, "ж" * 10_000, '"\\\n' * 5_000])
def test_it_is_whole_json_within_the_limit(text: str) -> None:
    adapter = AdapterResult(uri="s3://b/" + "a" * 900, digest="sha256:" + "0" * 64, bytes=1, metrics={"evalLoss": 1.0})
    message = TerminationMessage(reason="Finished", message=text, hint=text, step=3, adapter=adapter)
    encoded = message.encode()
    assert len(encoded) <= TERMINATION_MESSAGE_BYTES
    read = TerminationMessage.model_validate_json(encoded)
    assert read.adapter == adapter
    assert text.startswith(read.message.removesuffix("…"))


def test_a_message_of_a_newer_trainer_is_still_read() -> None:
    assert (
        TerminationMessage.model_validate_json('{"reason": "Finished", "message": "", "new": 1}').reason == "Finished"
    )

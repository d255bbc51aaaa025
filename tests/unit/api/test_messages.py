"""The termination message fits what the kubelet keeps, whole, whatever the texts are."""

import pytest

from lora_api.messages import AdapterResult, Servability, TerminationMessage
from lora_api.names import TERMINATION_MESSAGE_BYTES
from support.samples import RESOLVED, checkpoint

TEXTS = pytest.mark.parametrize("text", ["short", "x" * 10_000, "ж" * 10_000, '"\\\n' * 5_000])


def reread(message: TerminationMessage) -> TerminationMessage:
    """Return what the operator reads of a message, and check that the kubelet leaves it whole."""
    encoded = message.encode()
    assert len(encoded) <= TERMINATION_MESSAGE_BYTES
    return TerminationMessage.model_validate_json(encoded)


@TEXTS
def test_of_a_training_numbers_and_uris_stay_and_texts_are_cut(text: str) -> None:
    refused = [Servability(engine=engine, servable=False, message=text) for engine in ("vllm", "sglang")]
    adapter = AdapterResult(uri="s3://b/" + "a" * 900, digest="sha256:" + "0" * 64, bytes=1, servable=refused)
    message = TerminationMessage(
        reason="Finished",
        message=text,
        hint=text,
        step=3,
        adapter=adapter,
        checkpoint=checkpoint(3),
        micro_batch_size=2,
        overfitting=text,
    )
    read = reread(message)
    assert read.adapter is not None
    assert (read.adapter.uri, read.adapter.digest) == (adapter.uri, adapter.digest)
    assert (read.checkpoint, read.micro_batch_size) == (checkpoint(3), 2)
    cut = [read.message, read.hint, read.overfitting or "", *(each.message for each in read.adapter.servable)]
    assert all(cut), "a text is shortened, never lost"
    assert all(text.startswith(each.removesuffix("…")) for each in cut)


@TEXTS
def test_of_a_preflight_numbers_stay_and_the_first_warnings_are_cut_last(text: str) -> None:
    warnings = [f"{number} {text}" for number in range(100)]
    found = RESOLVED.model_copy(update={"warnings": warnings})
    read = reread(TerminationMessage(reason="Finished", message=text, preflight=found))
    assert read.preflight is not None
    assert read.preflight.model_copy(update={"warnings": []}) == RESOLVED
    assert read.preflight.warnings
    assert read.preflight.warnings[0].startswith("0 ")


def test_no_alarm_differs_from_none_that_is_known() -> None:
    told = [TerminationMessage(reason="Finished", message="", overfitting=each) for each in ("", None)]
    assert [reread(each).overfitting for each in told] == ["", None]


def test_a_message_of_a_newer_trainer_is_still_read() -> None:
    assert (
        TerminationMessage.model_validate_json('{"reason": "Finished", "message": "", "new": 1}').reason == "Finished"
    )

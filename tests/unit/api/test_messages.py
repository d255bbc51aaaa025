"""The termination message fits what the kubelet keeps, whole, whatever the texts are."""

import pytest

from lora_api.loss_curve import MAX_CURVE_POINTS, CurvePoint
from lora_api.messages import AdapterResult, Servability, TerminationMessage
from lora_api.names import TERMINATION_MESSAGE_BYTES
from support.samples import RESOLVED, TRAIN_DONE, checkpoint

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


LONG_CURVE = [CurvePoint(step=100_000 + step, loss=1.23457, eval_loss=1.23457) for step in range(MAX_CURVE_POINTS)]


@pytest.mark.parametrize(
    ("uri", "text", "points", "text_stays"),
    [
        pytest.param(60, 200, 60, True, id="a usual message: all of it"),
        pytest.param(700, 200, 60, True, id="long addresses"),
        pytest.param(400, 1400, 60, False, id="long texts are cut first"),
        pytest.param(1100, 370, 30, True, id="then the curve is thinned"),
        pytest.param(1500, 370, 0, True, id="then it goes"),
        pytest.param(1750, 370, 0, False, id="then texts are cut to a line"),
    ],
)
def test_the_curve_goes_before_texts_become_short(uri: int, text: int, points: int, text_stays: bool) -> None:
    adapter = AdapterResult(uri="s3://b/" + "a" * uri, digest="sha256:" + "0" * 64, bytes=1)
    saved = checkpoint(3).model_copy(update={"uri": "s3://b/" + "c" * uri})
    said = "x" * text
    message = TerminationMessage(
        reason="Finished", message=said, step=3, adapter=adapter, checkpoint=saved, loss_curve=LONG_CURVE
    )
    read = reread(message)
    assert (read.adapter, read.checkpoint) == (adapter, saved)
    assert len(read.loss_curve or []) == points
    assert (read.message == said) is text_stays
    assert len(read.message) >= min(text, 187)


@TEXTS
def test_whatever_the_texts_are_the_curve_breaks_nothing(text: str) -> None:
    adapter = AdapterResult(uri="s3://b/a", digest="sha256:" + "0" * 64, bytes=1)
    message = TerminationMessage(
        reason="Finished", message=text, hint=text, overfitting=text, adapter=adapter, loss_curve=LONG_CURVE
    )
    read = reread(message)
    assert read.adapter == adapter
    assert read.message
    again = reread(read)
    assert again == read, "what fits stays as it is"


def test_addresses_that_fill_the_room_alone_leave_the_adapter() -> None:
    refused = [Servability(engine="vllm", servable=False, message="rank") for _ in range(8)]
    adapter = AdapterResult(
        uri="s3://b/" + "ж" * 1500, digest="sha256:" + "0" * 64, bytes=1, metrics={"evalLoss": 1.5}, servable=refused
    )
    saved = checkpoint(3).model_copy(update={"uri": "s3://b/" + "ж" * 1000})
    message = TerminationMessage(reason="Finished", message="done", adapter=adapter, checkpoint=saved)
    read = reread(message)
    assert read.adapter is not None
    assert (read.adapter.uri, read.adapter.digest) == (adapter.uri, adapter.digest)


@pytest.mark.parametrize("step", [-1, 2**60])
def test_a_curve_that_cannot_be_told_costs_no_words(step: int) -> None:
    words = TerminationMessage(reason="Interrupted", message="m", loss_curve=[CurvePoint(step=step, loss=1.0)])
    said = TerminationMessage.model_validate_json(words.encode())
    assert (said.message, said.loss_curve) == ("m", None)


def test_a_curve_that_cannot_be_read_costs_no_adapter() -> None:
    text = TRAIN_DONE.encode().decode().removesuffix("}") + ',"lossCurve":[1,2,3]}'
    assert TerminationMessage.model_validate_json(text) == TRAIN_DONE


def test_no_alarm_differs_from_none_that_is_known() -> None:
    told = [TerminationMessage(reason="Finished", message="", overfitting=each) for each in ("", None)]
    assert [reread(each).overfitting for each in told] == ["", None]


def test_a_message_of_a_newer_trainer_is_still_read() -> None:
    assert (
        TerminationMessage.model_validate_json('{"reason": "Finished", "message": "", "new": 1}').reason == "Finished"
    )

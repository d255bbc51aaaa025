"""The whole story on real vLLM: a LoRAJob trains, running pods answer with what it made, and no pod is restarted.

`make e2e-serving` runs it, and nothing else does: it needs the engine's image and 12 GB of memory. It prints what
happened when.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from demo.kubectl import apply, condition, get, kubectl
from demo.samples import SAMPLE_DATA
from e2e.serving.adapters import make_adapter, put, truncate_weights, upload
from e2e.serving.objects import BASE_NAME, BASE_URI, lora_adapter, vllm_deployment
from e2e.serving.pods import EnginePods
from support.lorajobs import LoRAJobs
from support.wait import wait_for

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(2400)]

PROMPT = "Hello, how do I return a parcel?"
JOB = "support-bot"
BY_HAND = "by-hand"
"""A LoRAAdapter that no job follows, so that it stays as the test writes it."""
FIRST_VOICE = "Leaf & Kettle"
SECOND_VOICE = "Harbour & Quill"
START_SECONDS = 400
"""For two engines on two cores that are busy otherwise too."""
DELIVERY_SECONDS = 120
"""A bound for a busy machine. What it takes is printed: some 10 s on two cores that also run both engines."""


class Timeline:
    """Says what happened when."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line, with the seconds since the start of the test."""
        sys.stdout.write(f"\n[{time.monotonic() - self._started:6.1f} s] {text}")
        sys.stdout.flush()


class Story:
    """One Deployment of two engines, one LoRAJob, and what is to be seen of both."""

    def __init__(self, namespace: str, s3: Any) -> None:
        self.namespace = namespace
        self.s3 = s3
        self.pods = EnginePods(namespace, "vllm")
        self.jobs = LoRAJobs(namespace, os.environ["LORA_S3_ENDPOINT"])
        self.timeline = Timeline()

    def adapter(self, name: str) -> dict[str, Any]:
        """Return a LoRAAdapter."""
        return get(self.namespace, "loraadapter", name) or {}

    def status(self, name: str) -> object:
        """Return what a failed wait shows."""
        return self.pods.listed(), self.adapter(name).get("status")

    def succeeded(self, run: int) -> dict[str, Any]:
        """Wait for the end of a run and return what it published."""
        job = wait_for(
            f"the end of run {run}",
            lambda: (seen := self.jobs.get(JOB)).get("status", {}).get("run") == run and _ended(seen) and seen,
            seconds=600,
            state=lambda: self.jobs.get(JOB).get("status"),
        )
        assert condition(job, "Succeeded").get("status") == "True", job["status"]
        published: dict[str, Any] = job["status"]["adapter"]
        return published

    def wait_for_voice(self, name: str, voice: str, digest: str) -> str:
        """Wait until every pod lists a version; then it must speak with a voice. Return what it says."""
        wait_for(
            f"{digest} of {name} in every pod",
            lambda: self.pods.all_list(name, digest),
            seconds=DELIVERY_SECONDS,
            state=lambda: self.status(name),
        )
        self.timeline.say(f"both engines list {name} at {digest[:19]}…")
        answers = self.pods.answers(name, PROMPT)
        assert all(voice in each for each in answers), answers
        return answers[0]

    def follow(self, run: int, voice: str) -> dict[str, Any]:
        """Wait for the end of a run, then for its voice in every pod."""
        published = self.succeeded(run)
        ended = time.monotonic()
        self.timeline.say(f"run {run} Succeeded: {published['digest'][:19]}…")
        answer = self.wait_for_voice(JOB, voice, published["digest"])
        self.timeline.say(f"both pods have answered, {time.monotonic() - ended:.1f} s after Succeeded: {answer!r}")
        return published


def test_pods_answer_with_what_a_job_trained_and_none_is_restarted(
    s3: Any, serving_namespace: str, folder: Callable[[str], str]
) -> None:
    story = Story(serving_namespace, s3)
    pods, say = story.pods, story.timeline.say
    say("two pods of vLLM, with the label, before there is any adapter")
    pods.apply(vllm_deployment("vllm", f"{JOB},{BY_HAND}"), START_SECONDS)
    lives = pods.lives()
    base = pods.answers(BASE_NAME, PROMPT)
    say(f"both are ready; the base model says: {' '.join(base[0].split())}")

    story.jobs.apply(story.jobs.sample(JOB))
    say("kubectl apply of the sample LoRAJob")
    first = story.follow(1, FIRST_VOICE)
    assert pods.answers(BASE_NAME, PROMPT) == base
    assert FIRST_VOICE not in base[0]
    assert pods.lives() == lives
    wait_for(
        "Ready", lambda: condition(story.adapter(JOB), "Ready").get("status") == "True", state=lambda: story.status(JOB)
    )
    say("LoRAAdapter Ready, no container was restarted")

    other_data = _other_data(s3, folder("data"))
    kubectl("-n", serving_namespace, "patch", "lorajob", JOB, "--type=merge", "-p", _training_on(other_data))
    say("other data for the LoRAJob")
    second = story.follow(2, SECOND_VOICE)
    assert second["digest"] != first["digest"]
    assert pods.lives() == lives
    say("no container was restarted")

    _ended_engine_comes_back(story, second)
    _broken_version_is_not_served(story, first, folder)
    _deleted_adapter_is_gone(story)
    say("done\n")


def _ended_engine_comes_back(story: Story, second: dict[str, Any]) -> None:
    ended, other = story.pods.names()
    story.pods.end_engine(ended)
    story.timeline.say(f"the engine of {ended} was ended and started anew")
    assert SECOND_VOICE in story.pods.ask(other, JOB, PROMPT)
    wait_for("its answer", lambda: story.pods.models(ended), seconds=START_SECONDS, state=story.pods.describe)
    story.wait_for_voice(JOB, SECOND_VOICE, second["digest"])
    story.timeline.say("both pods answer with the adapter again")


def _broken_version_is_not_served(story: Story, first: dict[str, Any], folder: Callable[[str], str]) -> None:
    """Serve the first run's adapter under a name of its own, then offer a version that is broken in S3."""
    namespace, say = story.namespace, story.timeline.say
    lives = story.pods.lives()
    apply(namespace, lora_adapter(BY_HAND, first["uri"], BASE_URI, source={"digest": first["digest"]}))
    story.wait_for_voice(BY_HAND, FIRST_VOICE, first["digest"])
    say("a LoRAAdapter by hand serves the adapter of run 1 beside it")

    broken = make_adapter(7)
    uri = upload(story.s3, broken, folder("broken"))
    truncate_weights(story.s3, uri)
    apply(namespace, lora_adapter(BY_HAND, uri, BASE_URI, source={"digest": broken.digest}))
    say("its source now names a version that is truncated in S3")
    degraded = wait_for(
        "Degraded by DigestMismatch", lambda: _degraded(story), seconds=120, state=lambda: story.status(BY_HAND)
    )
    say(f"Degraded, {degraded['reason']}: {degraded['message']}")
    assert story.pods.all_list(BY_HAND, first["digest"])
    assert all(FIRST_VOICE in each for each in story.pods.answers(BY_HAND, PROMPT))
    assert story.pods.lives() == lives
    say("both pods still answer with run 1's")


def _degraded(story: Story) -> dict[str, Any] | None:
    found = condition(story.adapter(BY_HAND), "Degraded")
    return found if (found.get("status"), found.get("reason")) == ("True", "DigestMismatch") else None


def _deleted_adapter_is_gone(story: Story) -> None:
    kubectl("-n", story.namespace, "delete", "loraadapter", BY_HAND, "--timeout=60s")
    wait_for("its name is gone", lambda: story.pods.none_lists(BY_HAND), state=story.pods.listed)
    assert all(SECOND_VOICE in each for each in story.pods.answers(JOB, PROMPT))
    story.timeline.say("the LoRAAdapter by hand is deleted and gone from both lists; the job's is still served")


def _ended(job: dict[str, Any]) -> bool:
    return any(condition(job, each).get("status") == "True" for each in ("Succeeded", "Failed"))


def _other_data(s3: Any, folder: str) -> str:
    """Put the sample data with another voice into S3, and return its URI."""
    uri = f"{folder}/other.jsonl"
    put(s3, uri, SAMPLE_DATA.read_text().replace(FIRST_VOICE, SECOND_VOICE).encode())
    return uri


def _training_on(uri: str) -> str:
    return f'{{"spec":{{"dataset":{{"train":{{"uri":"{uri}"}}}}}}}}'

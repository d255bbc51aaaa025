"""What the fake pods answer when they are asked how far they are: always the same, as a pod between two steps does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bench.operator.stages import POD_IP
from lora_api.names import PROGRESS_PATH, PROGRESS_PORT
from support.samples import PROGRESS


class Pods:
    """Counts how often it was asked."""

    asked = 0

    async def answer(self, _: web.Request) -> web.Response:
        """Answer a question, and hang up: another pod is another connection."""
        self.asked += 1
        response = web.json_response(PROGRESS.wire())
        response.force_close()
        return response


@asynccontextmanager
async def answering() -> AsyncIterator[Pods]:
    """Answer for all pods."""
    pods = Pods()
    application = web.Application()
    application.router.add_get(PROGRESS_PATH, pods.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, POD_IP, PROGRESS_PORT).start()
    try:
        yield pods
    finally:
        await runner.cleanup()

"""One browser and one event loop for all tests; each test has a dashboard of its own, fed by hand.

Without a browser the tests are skipped: `apt-get install --no-install-recommends chromium fonts-dejavu-core`, or name a
program in LORA_CHROMIUM.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from browser.chromium import Page, chromium_page, find_chromium
from lora_operator.dashboard.server import make_app
from lora_operator.dashboard.sources import CachedSource


@dataclass(frozen=True)
class Dashboard:
    """A running dashboard, and its memory, which a test fills as the watches would."""

    url: str
    source: CachedSource

    def put(self, *documents: dict[str, Any]) -> None:
        """Take objects as they are now."""
        for each in documents:
            self.source.stores["jobs" if each["kind"] == "LoRAJob" else "adapters"].changed(each)


Story = Callable[[Page, Dashboard], Coroutine[Any, Any, None]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-pictures`: `pytest tests/browser --update-pictures` takes docs/images anew."""
    parser.addoption("--update-pictures", action="store_true", help="write docs/images/dashboard-*.png anew")


@asynccontextmanager
async def serve() -> AsyncIterator[Dashboard]:
    """Serve a dashboard on a free port."""
    source = CachedSource()
    runner = web.AppRunner(make_app(source), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Dashboard(f"http://127.0.0.1:{runner.addresses[0][1]}/", source)
    finally:
        await runner.cleanup()


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return the loop in which browser and dashboards live."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="session")
def page(loop: asyncio.AbstractEventLoop) -> Iterator[Page]:
    """Return a tab of the browser."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: apt-get install --no-install-recommends chromium, or set LORA_CHROMIUM")
    context = chromium_page(program)
    yield loop.run_until_complete(context.__aenter__())
    loop.run_until_complete(context.__aexit__(None, None, None))


@pytest.fixture
def tell(loop: asyncio.AbstractEventLoop, page: Page) -> Callable[[Story], None]:
    """Return what runs a test's story with the tab and a dashboard of its own, and looks at the console in the end."""

    async def run(story: Story) -> None:
        async with serve() as dashboard:
            await page.resize(1280, 800)
            await page.prefer("light")
            page.faults.clear()
            page.requests.clear()
            await story(page, dashboard)
            assert page.faults == []
            foreign = [each for each in page.requests if not each.startswith((dashboard.url, "about:"))]
            assert foreign == []
            await page.call("Page.navigate", url="about:blank")

    return lambda story: loop.run_until_complete(run(story))

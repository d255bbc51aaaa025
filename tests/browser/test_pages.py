"""What somebody sees who looks at the dashboard with a real browser."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from browser import samples
from browser.chromium import Page
from browser.conftest import Dashboard, Story, serve
from lora_operator.dashboard.server import make_app

Tell = Callable[[Story], None]
IMAGES = Path(__file__).parents[2] / "docs" / "images"
LIVE = "document.querySelector('#link-state').textContent === 'Live'"
ROWS = "[...document.querySelectorAll('#view tbody tr')].map((row) => row.dataset.key)"
PAGES = (
    "#/jobs",
    "#/jobs/team-a/support-bot",
    "#/jobs/team-a/order-mailbox",
    "#/jobs/team-a/product-notes",
    "#/adapters",
)
LOSSES = {each["step"]: each["loss"] for each in samples.curve(640)}
EVALUATIONS = {each["step"]: each["evalLoss"] for each in samples.curve(640) if "evalLoss" in each}
CONTRASTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((each) => each / 255)
    .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = rgb(getComputedStyle(each).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("noscript")) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(rgb(ink)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push([walker.currentNode.data.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return bad;
})()
"""


def fill(dashboard: Dashboard) -> None:
    dashboard.put(*samples.realistic_jobs(), *samples.realistic_adapters())


def test_the_list_shows_every_job_with_its_numbers_newest_first(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        await page.open(dashboard.url)
        keys = await page.evaluate(ROWS)
        assert keys[0] == "team-a/returns-faq"
        assert len(keys) == 10
        text = await page.evaluate("document.querySelector('[data-key=\"team-a/support-bot\"]').innerText")
        for word in (
            "Running",
            "Training",
            "53 %",
            "step 640 of 1,200",
            f"{LOSSES[640]:.4g}",
            f"{EVALUATIONS[600]:.4g}",
        ):
            assert word in text

    tell(story)


def test_an_update_arrives_by_itself_and_leaves_the_focus_where_it_is(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        dashboard.put(samples.job("support-bot", status=samples.training(640)))
        await page.open(dashboard.url)
        await page.wait_for(LIVE)
        await page.evaluate("document.querySelector('#view tbody a').focus()")
        await page.evaluate("window.kept = document.querySelector('#view tbody progress')")
        dashboard.put(samples.job("support-bot", status=samples.training(900)))
        await page.wait_for("document.querySelector('#view').innerText.includes('step 900 of 1,200')")
        assert await page.evaluate("document.activeElement.textContent") == "support-bot"
        assert await page.evaluate("window.kept.isConnected && window.kept.value") == 75

        dashboard.put(samples.job("newcomer", age=1))
        await page.wait_for(f"{ROWS}.includes('team-a/newcomer')")
        dashboard.source.stores["jobs"].gone("team-a", "newcomer", "")
        await page.wait_for(f"!{ROWS}.includes('team-a/newcomer')")

    tell(story)


def test_filters_live_in_the_address_and_work_by_keyboard(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        await page.open(dashboard.url)
        await page.evaluate("document.querySelector('#filter-text').focus()")
        await page.write("bot")
        await page.wait_for(f"JSON.stringify({ROWS}) === '[\"team-a/support-bot\"]'")
        assert "text=bot" in await page.evaluate("location.hash")

        await page.open(dashboard.url + "#/jobs?namespace=team-b&phase=Running")
        assert sorted(await page.evaluate(ROWS)) == ["team-b/invoice-tagger", "team-b/tone-preferences"]
        assert await page.evaluate("document.querySelector('#filter-phase').value") == "Running"
        assert await page.evaluate("document.querySelector('#filter-namespace').value") == "team-b"

        await page.open(dashboard.url + "#/jobs?text=nowhere")
        assert "No jobs fit the filters" in await page.evaluate("document.querySelector('#view').innerText")

    tell(story)


def test_a_job_is_reached_and_read_with_the_keyboard_alone(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        dashboard.put(samples.job("support-bot", status=samples.training()))
        await page.open(dashboard.url)
        for _ in range(20):
            await page.press("Tab", 9)
            if await page.evaluate("document.activeElement.textContent") == "support-bot":
                break
        await page.press_enter()
        await page.wait_for("document.querySelector('#curve') !== null")
        assert await page.evaluate("document.activeElement.id") == "title"
        assert await page.evaluate("document.title") == "support-bot | LoRA dashboard"
        await page.evaluate("document.querySelector('#curve').focus()")
        await page.press("Home", 36)
        assert (
            await page.evaluate("document.querySelector('#readout').textContent")
            == f"Step 20: training loss {LOSSES[20]:.4g}"
        )
        await page.press("ArrowRight", 39)
        assert (await page.evaluate("document.querySelector('#readout').textContent")).startswith("Step 40:")

    tell(story)


def test_the_job_page_explains_a_failure(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        await page.open(dashboard.url + "#/jobs/team-a/order-mailbox")
        text = await page.evaluate("document.querySelector('#view').innerText")
        for words in (
            "BadData",
            "exit code 65",
            "row 4127: the field completion is missing",
            "What to do: Write the field",
        ):
            assert words in text

    tell(story)


def test_the_curve_has_both_losses_a_pointer_and_a_table(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        await page.open(dashboard.url + "#/jobs/team-a/support-bot")
        assert await page.evaluate("document.querySelectorAll('#curve .train circle').length") == 32
        assert await page.evaluate("document.querySelectorAll('#curve .eval circle').length") == 6
        x, y = await page.evaluate(
            "(() => { const box = document.querySelector('.eval [data-step=\"300\"]').getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + 40]; })()"
        )
        await page.point(x, y)
        read = await page.wait_for("(document.querySelector('#readout').textContent.match(/^Step 300: .*/) || [''])[0]")
        assert read == f"Step 300: training loss {LOSSES[300]:.4g}, evaluation loss {EVALUATIONS[300]:.4g}"
        assert not await page.evaluate("document.querySelector('#cursor').hasAttribute('hidden')")
        assert await page.evaluate("document.querySelectorAll('.values tbody tr').length") == 32
        label = await page.evaluate("document.querySelector('#curve').getAttribute('aria-label')")
        assert label.startswith(f"Training loss from {LOSSES[20]:.4g} to {LOSSES[640]:.4g}; Evaluation loss from ")

    tell(story)


def test_the_adapter_page_shows_pods_and_versions(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        await page.open(dashboard.url + "#/adapters/team-a/support-bot")
        text = await page.evaluate("document.querySelector('#view').innerText")
        for words in ("chat-7d9f6b5c4-zz91q", "12 of 19 MiB are here", "vllm", "Rolling", "Rejected", "2 of 3"):
            assert words in text

    tell(story)


def test_no_text_of_a_user_becomes_markup(tell: Tell) -> None:
    """Names cannot be so in Kubernetes; the page does not rely on it."""
    hostile = samples.HOSTILE
    status = samples.failed() | {"reason": hostile, "history": [{"run": 1, "result": hostile, "reason": hostile}]}
    status["failure"] = {"reason": hostile, "message": hostile, "hint": hostile}
    status["conditions"] = [samples.condition(hostile[:60], "True", hostile[:60], hostile)]
    status["resolved"] = samples.RESOLVED | {"warnings": [hostile], "baseRevision": hostile}
    status["adapter"] = samples.succeeded()["adapter"] | {"uri": "javascript:window.attacked=true", "digest": hostile}
    named = samples.job(hostile, hostile, status=status)
    evil = samples.job("evil", status=status, baseModel={"uri": hostile}, task=hostile)
    served = samples.adapter("evil", status=samples.rolling() | {"pods": [{"name": hostile, "message": hostile}]})

    async def story(page: Page, dashboard: Dashboard) -> None:
        dashboard.put(named, evil, served)
        for place in ("#/jobs", "#/jobs/team-a/evil", "#/adapters/team-a/evil", "#/jobs?text=%3Cimg%20src%3Dx%3E"):
            await page.open(dashboard.url + place)
            assert await page.evaluate("window.attacked === undefined")
            assert await page.evaluate("document.querySelectorAll('#view img, #view script').length") == 0
            links = await page.evaluate("[...document.querySelectorAll('a')].map((each) => each.getAttribute('href'))")
            assert all(each.startswith("#") for each in links)
        await page.open(dashboard.url + "#/jobs/team-a/evil")
        assert hostile in await page.evaluate("document.querySelector('.message').textContent")

    tell(story)


def test_the_policy_stops_what_would_be_markup_all_the_same(page: Page, loop: asyncio.AbstractEventLoop) -> None:
    async def run() -> None:
        async with serve() as dashboard:
            await page.open(dashboard.url)
            for attempt in (
                "document.querySelector('#view').innerHTML = '<b>x</b>'",
                "document.createElement('img').setAttribute('onerror', 'window.attacked = 1')",
                "document.createElement('script').text = 'window.attacked = 1'",
                "document.write('<script>window.attacked = 1</script>')",
            ):
                caught = f"(() => {{ try {{ {attempt}; return ''; }} catch (error) {{ return error.name; }} }})()"
                assert await page.evaluate(caught) == "TypeError", attempt
            assert await page.evaluate("window.attacked === undefined")

    loop.run_until_complete(run())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(tell: Tell, scheme: str) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        await page.prefer(scheme)
        grounds = set()
        for place in (*PAGES, "#/adapters/team-a/support-bot"):
            await page.open(dashboard.url + place)
            assert await page.evaluate(CONTRASTS) == []
            grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds == {"rgb(17, 22, 29)" if scheme == "dark" else "rgb(246, 247, 249)"}

    tell(story)


@pytest.mark.parametrize("width", [360, 720, 1280])
def test_nothing_is_wider_than_the_window(tell: Tell, width: int) -> None:
    long = "x" * 63

    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        message = "s3://" + "a" * 400
        dashboard.put(samples.job(long, long, status=samples.waiting("Stalled", "A" * 63, message, "Stalled")))
        await page.resize(width, 800)
        for place in (*PAGES, f"#/jobs/{long}/{long}", "#/adapters/team-a/support-bot"):
            await page.open(dashboard.url + place)
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await page.evaluate(wide) <= 0, place

    tell(story)


def test_every_control_has_a_name_and_every_page_its_landmarks(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        await page.call("Accessibility.enable")
        for place in (*PAGES, "#/adapters/team-a/support-bot"):
            await page.open(dashboard.url + place)
            nodes = (await page.call("Accessibility.getFullAXTree"))["nodes"]
            known = [each for each in nodes if not each.get("ignored")]
            roles = [each["role"]["value"] for each in known]
            assert {"main", "banner", "navigation", "heading"} <= set(roles)
            assert roles.count("main") == 1
            controls = {"link", "textbox", "searchbox", "combobox", "progressbar", "button", "application"}
            nameless = [_role(each) for each in known if _role(each) in controls and not each["name"]["value"]]
            assert nameless == []
        await page.call("Accessibility.disable")

    tell(story)


def _role(node: dict[str, Any]) -> str:
    return str(node["role"]["value"])


def test_a_thousand_jobs_are_one_screen_of_rows(tell: Tell) -> None:
    async def story(page: Page, dashboard: Dashboard) -> None:
        status = samples.training()
        dashboard.put(*(samples.job(f"job-{number:04}", status=status) for number in range(1000)))
        await page.open(dashboard.url)
        assert len(await page.evaluate(ROWS)) == 50
        assert "Page 1 of 20" in await page.evaluate("document.querySelector('.pager').innerText")
        await page.evaluate("document.querySelector('.pager a').click()")
        await page.wait_for("document.querySelector('.pager').innerText.includes('Page 2 of 20')")
        assert (await page.evaluate(ROWS))[0] == "team-a/job-0050"
        assert await page.evaluate("document.querySelectorAll('#view *').length") < 1500

    tell(story)


def test_a_server_that_goes_away_is_told_and_found_again(page: Page, loop: asyncio.AbstractEventLoop) -> None:
    async def run() -> None:
        async with serve() as dashboard:
            dashboard.put(samples.job("support-bot", status=samples.training()))
            await page.open(dashboard.url)
            await page.wait_for(LIVE)
        # What was there is still to be read, under a word that it may be old.
        await page.wait_for("document.querySelector('#notice').innerText.includes('may be out of date')")
        assert await page.evaluate(ROWS) == ["team-a/support-bot"]
        port = int(re.search(r":(\d+)/", dashboard.url).group(1))  # type: ignore[union-attr]
        runner = web.AppRunner(make_app(dashboard.source), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            await page.wait_for("document.querySelector('#notice').hidden")
            await page.wait_for(LIVE)
        finally:
            await runner.cleanup()
            await page.call("Page.navigate", url="about:blank")

    loop.run_until_complete(run())


def test_the_pictures_of_the_documentation(tell: Tell, request: pytest.FixtureRequest) -> None:
    """They are taken anew with `--update-pictures`; else it is only seen that they can be."""
    places = {
        "dashboard-jobs.png": ("#/jobs", "light"),
        "dashboard-job.png": ("#/jobs/team-a/support-bot", "light"),
        "dashboard-job-dark.png": ("#/jobs/team-a/support-bot", "dark"),
        "dashboard-adapter.png": ("#/adapters/team-a/support-bot", "light"),
    }
    folder = (
        IMAGES if request.config.getoption("--update-pictures", default=False) else request.getfixturevalue("tmp_path")
    )

    async def story(page: Page, dashboard: Dashboard) -> None:
        fill(dashboard)
        for name, (place, scheme) in places.items():
            await page.prefer(scheme)
            await page.open(dashboard.url + place)
            await page.wait_for(LIVE)
            await page.picture(folder / name)
            assert (folder / name).read_bytes().startswith(b"\x89PNG")

    tell(story)

"""The page in a real browser: every tab by mouse and by keyboard, on a desk and on a phone. If these passed wrongly, the page could be of
no use to who has no mouse, ask another server for something, or run a script that was never meant.

The browser is the system's Chromium, driven by Playwright; where there is none, these tests skip and say so.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from medvl_lib.reviews.sheet import SheetRequest
from medvl_lib.route.reviewing import make_sheet
from medvl_lib.serving.counter import Counter
from medvl_lib.serving.keys import Keys
from medvl_lib.serving.page import entry
from tests.benchmark.evaluated import Evaluated
from tests.report.reported import SHOWN, reported
from tests.serving.conftest import PAGE, serving, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]

SIZES = {"desk": {"width": 1200, "height": 900}, "phone": {"width": 390, "height": 844}}
KEY = "a key of this test, 32 characters"
PATIENCE_MILLISECONDS = 60_000  # for an answer on a busy machine
MOST_TABS = 60  # from the top of a page to any control

# What of a page is too faint to read (WCAG 2: 4.5 to 1), has no name for a screen reader, or is too small for a thumb (44 pixels).

CONTRAST = """() => {
  const luminance = (color) => {
    const shares = color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const parts = shares.map((share) => share <= .03928 ? share / 12.92 : ((share + .055) / 1.055) ** 2.4);
    return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== 'rgba(0, 0, 0, 0)' && color !== 'transparent') return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!says || !element.checkVisibility() || element.disabled || element.closest('svg')) continue;
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(ground(element))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.push(`${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 30)}`);
  }
  return found;
}"""
UNNAMED = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a[href], [role=region], progress')]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.labels?.length || element.textContent.trim() || element.getAttribute('aria-label')))
  .map((element) => element.outerHTML.slice(0, 80))"""
SMALL = """() => [...document.querySelectorAll('button, select, input:not([type=radio]), textarea, nav a, .sample, .scale label')]
  .filter((element) => element.checkVisibility())
  .filter((element) => element.getBoundingClientRect().height < 44)
  .map((element) => element.outerHTML.slice(0, 80))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A page in the browser, and what it did that nobody should see."""

    page: object
    strangers: list[str] = field(default_factory=list)
    """Addresses outside this server that it asked for."""
    complaints: list[str] = field(default_factory=list)
    """What the console says is wrong."""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    evaluated = reported(tmp_path_factory.mktemp("evaluated"))
    for name in SIZES:
        request = SheetRequest(num_pairs=1, variants=("base", "adapter"), seed=f"of the {name}", seen_by_raters=())
        make_sheet(evaluated.workspace, "documents", request, SHOWN)
    return evaluated


@pytest.fixture(scope="module")
def site(counter: Callable[..., Counter], evaluated: Evaluated) -> Iterator[httpx2.Client]:
    with serving(counter("adapter", workspace=evaluated.workspace)) as client:
        wait_until(client, "ready")
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        # root has no sandbox in a container; what is shown is our own
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def seen(browser, site: httpx2.Client, size: str) -> Iterator[Seen]:
    """A fresh page that must ask nobody else and complain of nothing."""
    yield from watched(browser, site, size)


def watched(browser, site: httpx2.Client, size: str, **how: object) -> Iterator[Seen]:
    host = str(site.base_url).rstrip("/")
    context = browser.new_context(viewport=SIZES[size], base_url=host, **how)
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = context.new_page()
    seen = Seen(page=page)
    page.on("request", lambda request: request.url.startswith((host, "data:", "blob:")) or seen.strangers.append(request.url))
    page.on("console", lambda said: said.type in ("error", "warning") and seen.complaints.append(said.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    yield seen
    assert seen.strangers == []
    assert seen.complaints == []
    context.close()


def fits(page) -> bool:
    """Whether nothing of the page stands out to the right."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def tab_to(page, wanted: str) -> None:
    """Go on with the Tab key until the element that a CSS selector names has the focus, and see that the focus can be seen."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            shown = page.evaluate(
                "() => { const at = document.activeElement; const around = at.closest('.sample') ?? at;"
                " return parseFloat(getComputedStyle(around).outlineWidth) >= 2 || parseFloat(getComputedStyle(at).outlineWidth) >= 2 }"
            )
            assert shown, f"the focus on {wanted} cannot be seen"
            return
    raise AssertionError(f"{wanted} is not reached with the Tab key")


# -- looks -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits_has_names_on_its_controls_and_can_be_read(browser, site: httpx2.Client, size: str, scheme: str):
    for seen in watched(browser, site, size, color_scheme=scheme):
        page = seen.page
        for tab in entry.TABS:
            page.goto(f"/page/{tab}")
            assert page.title() == f"{tab.capitalize()} · MedVL"
            assert fits(page), tab
            assert page.evaluate(UNNAMED) == [], tab
            assert page.evaluate(CONTRAST) == [], tab
            assert page.evaluate(SMALL) == [], tab
            assert page.locator("h1").count() == 1


# -- the model ---------------------------------------------------------------------------------------------------------
def test_a_file_is_extracted(seen: Seen, tmp_path: Path, site: httpx2.Client):
    upload = tmp_path / "sheet.png"
    upload.write_bytes(PAGE)
    page = seen.page
    page.goto("/")
    page.get_by_label("Files").set_input_files(upload)
    assert page.locator(".preview img").get_attribute("alt") == "sheet.png"
    page.get_by_role("button", name="Extract").click()
    page.get_by_role("heading", name="Answer").wait_for()
    said = site.post("/extract", files=[("image", ("page.png", PAGE, "image/png"))]).json()
    assert page.locator("#result .answer").inner_text() == said["text"].rstrip()
    assert fits(page)
    assert page.evaluate(CONTRAST) == []


def test_a_file_that_is_no_picture_is_refused_in_words_and_the_page_goes_on(seen: Seen, tmp_path: Path):
    wrong = tmp_path / "notes.png"
    wrong.write_text("no picture at all")
    page = seen.page
    page.goto("/page/extract")
    page.get_by_label("Files").set_input_files(wrong)
    page.get_by_text("notes.png (no preview)").wait_for()
    page.get_by_role("button", name="Extract").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "17 bytes that are no picture" in alert.inner_text()
    assert page.evaluate("document.activeElement.matches('[role=alert]')")
    assert page.get_by_role("button", name="Extract").is_enabled()
    assert [complaint for complaint in seen.complaints if "415" not in complaint] == []  # the browser says so itself
    seen.complaints.clear()
    page.get_by_label("Clinical documents 1").check()
    page.get_by_role("button", name="Extract").click()
    page.get_by_role("heading", name="Answer").wait_for()
    assert page.get_by_role("alert").count() == 0


def test_an_example_is_analyzed_by_keyboard_alone(seen: Seen):
    page = seen.page
    page.goto("/page/extract")
    tab_to(page, ".skip")
    tab_to(page, "nav a[href='/page/analyze']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/page/analyze")
    tab_to(page, "input[type=file]")
    tab_to(page, "input[name=sample]")
    page.keyboard.press("ArrowDown")
    tab_to(page, "textarea")
    assert page.locator("textarea").input_value() != ""  # what the example is asked
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("Which medicines are listed?")
    tab_to(page, "button[type=submit]")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Answer").wait_for()
    assert "Which medicines are listed?" in page.locator("#result").inner_text()
    assert page.evaluate("document.activeElement.id") == "result"


def test_two_answers_stand_side_by_side(seen: Seen, size: str):
    page = seen.page
    page.goto("/page/compare")
    page.get_by_label("Clinical documents 1").check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Side by side").wait_for()
    assert page.locator(".pair h3").all_inner_texts() == ["Without the adapter (nf4)", "As served (adapter)"]
    tops = page.evaluate("[...document.querySelectorAll('.pair article')].map((one) => one.getBoundingClientRect().top)")  # at one moment
    assert (tops[0] == tops[1]) is (size == "desk")  # on a phone one below the other
    assert fits(page)


def test_a_question_can_be_stopped(seen: Seen):
    page = seen.page
    page.goto("/page/extract")
    page.route("**/page/extract", lambda _: None)  # an answer that never comes
    page.get_by_label("Clinical documents 1").check()
    page.get_by_role("button", name="Extract").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    assert page.get_by_role("button", name="Extract").is_enabled()


# -- the store ---------------------------------------------------------------------------------------------------------
def test_the_benchmark_is_read_by_keyboard(seen: Seen):
    page = seen.page
    page.goto("/page/benchmark")
    assert page.get_by_role("table", name="pair_accuracy on forms").locator("tbody tr").count() == 3
    assert page.locator("figure svg[role=img]").first.is_visible()
    tab_to(page, "summary")
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    assert fits(page)


def test_answers_are_rated_by_keyboard(seen: Seen, size: str, evaluated: Evaluated):
    from medvl_lib.benchmark.publish import ask

    page = seen.page
    page.goto("/page/review")
    rater = f"Anna of the {size}"
    sheet = page.get_by_label("Sheet")
    sheet.select_option(index=list(SIZES).index(size))
    tab_to(page, "#rater")
    page.keyboard.type(rater)
    page.keyboard.press("Enter")
    for number in (1, 2):
        page.get_by_text(f"Answer {number} of 2:").wait_for()
        assert fits(page)
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(SMALL) == []
        assert not any(word in page.locator("article.item").inner_text() for word in ("adapter", "base", "nf4"))
        tab_to(page, "input[name=correctness]")
        page.keyboard.press("ArrowDown")
        tab_to(page, "input[name=harmful]")
        page.keyboard.press("Space")
        tab_to(page, "button[value=save]")
        page.keyboard.press("Enter")
    page.get_by_text("All 2 answers are rated.").wait_for()
    _, rows = ask(evaluated.workspace, "select rater, correctness, is_harmful, variant from reviews order by variant")
    assert [row[1:] for row in rows if row[0] == rater] == [(2, False, "adapter"), (2, False, "base")]


# -- without a script, and with a key ----------------------------------------------------------------------------------
def test_every_form_works_without_a_script(browser, site: httpx2.Client):
    for seen in watched(browser, site, "desk", java_script_enabled=False):
        page = seen.page
        page.goto("/page/extract")
        page.get_by_label("Clinical documents 2").check()
        page.get_by_role("button", name="Extract").click()
        page.get_by_role("heading", name="Answer").wait_for()
        page.goto("/page/review")
        page.get_by_label("Your name").fill("Clara")
        page.get_by_role("button", name="Begin").click()
        page.get_by_text("Answer 1 of 2:").wait_for()


def test_a_browser_shows_the_key_once(browser, counter: Callable[..., Counter], evaluated: Evaluated):
    with serving(counter("base", workspace=evaluated.workspace, keys=Keys({"": KEY}))) as client:
        wait_until(client, "ready")
        for seen in watched(browser, client, "phone"):
            page = seen.page
            page.goto("/")
            assert page.url.endswith("/page/login")
            assert fits(page)
            page.get_by_label("The server's key").fill(KEY)
            page.keyboard.press("Enter")
            page.wait_for_url("**/page/extract")
            page.get_by_label("Clinical documents 1").check()
            page.get_by_role("button", name="Extract").click()
            page.get_by_role("heading", name="Answer").wait_for()
            assert page.evaluate("document.cookie") == ""  # no script can read it
            page.goto("/page/compare")
            assert "has no adapter on it" in page.locator("main").inner_text()
            page.get_by_role("button", name="Log out").click()
            page.wait_for_url("**/page/login")
            page.goto("/page/benchmark")
            assert page.url.endswith("/page/login")

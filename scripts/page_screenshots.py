"""Take the pictures of docs/images from a server that runs on a demo's data: ``python scripts/page_screenshots.py http://127.0.0.1:8000``.

In: the address of ``medvl serve documents`` after ``make demo`` and ``medvl reviews sheet documents``, and the system's Chromium. Out:
small pictures of every tab, which show invented documents alone. Nothing is rated.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
DESK, PHONE = {"width": 1100, "height": 860}, {"width": 390, "height": 844}
NUM_COLOURS = 160  # a page has few: half of the bytes, and nobody sees it
PATIENCE_MILLISECONDS = 120_000
SETTLED_MILLISECONDS = 1000  # what scrolls smoothly has come to rest


def keep(page: Page, name: str, *, is_whole: bool = True) -> None:
    """Write what the page shows, in few colours."""
    page.wait_for_timeout(SETTLED_MILLISECONDS)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=is_whole, animations="disabled")))
    picture.convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(IMAGES / f"page-{name}.png", optimize=True)
    print(f"page-{name}.png: {(IMAGES / f'page-{name}.png').stat().st_size:,} bytes")


def opened(browser: Browser, address: str, size: dict[str, int], tab: str) -> Page:
    """A tab, in a fresh context."""
    page = browser.new_context(viewport=size, base_url=address).new_page()
    page.set_default_timeout(PATIENCE_MILLISECONDS)
    page.goto(f"/page/{tab}")
    return page


def asked(page: Page, example: str, button: str) -> Page:
    """The same tab, with an answer about an example."""
    page.get_by_label(example).check()
    page.get_by_role("button", name=button, exact=True).click()
    page.locator("#result h2").wait_for()
    return page


def main(address: str) -> None:
    """Every tab once."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        keep(asked(opened(browser, address, DESK, "extract"), "Clinical documents 4", "Extract"), "extract")
        keep(asked(opened(browser, address, DESK, "compare"), "Clinical documents 1", "Compare"), "compare")
        keep(asked(opened(browser, address, PHONE, "analyze"), "Clinical documents 4", "Ask"), "analyze-phone")
        keep(opened(browser, address, DESK, "benchmark"), "benchmark")
        review = opened(browser, address, PHONE, "review")
        review.get_by_label("Your name").fill("Anna")
        review.get_by_role("button", name="Begin").click()
        review.get_by_text("1 wrong, or no answer").click()
        review.get_by_label("Yes", exact=True).check()
        keep(review, "review-phone")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])

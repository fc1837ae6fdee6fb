"""What a person sees: the UI as ``make ui`` starts it, in a real browser, without a network.

If this passed wrongly, a click could do nothing, a check's sentence or the curve of a training could stand nowhere, or the UI could load
something from the internet that a ward's network does not let through. ``MEDVL_SCREENSHOTS=docs/images`` renews the README's pictures.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from medvl_assets.instance import instance_home
from medvl_lib.sample_data import write
from medvl_lib.workspace import Workspace
from tests import demo_runs

pytestmark = pytest.mark.soak

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).parents[1]
MORE = "\n[datasets.mtsamples]\nrejected_share_budget = 0.2\n"
TRAINED = ("split", "near_duplicates", "chat", "audit", "base_model", "nf4_model", "adapter")
PATIENCE_MS = 240_000
MOST_BYTES = 250_000
COLOURS = """
name => [...document.querySelectorAll('*')].filter(found => found.textContent.trim() === name).map(found => {
    for (let at = found, up = 0; at && up < 4; at = at.parentElement, up++) {
        const [r, g, b, a] = (getComputedStyle(at).backgroundColor.match(/[0-9.]+/g) || []).map(Number)
        if (a !== 0 && g - Math.max(r, b) >= 3) return 'green'
    }
    return 'other'
})
"""


@dataclass(kw_only=True)
class Shown:
    """A page of the UI in the browser, which reaches nothing else."""

    page: "sync_api.Page"
    url: str
    pictures: Path
    foreign: list[str] = field(default_factory=list)
    """What was asked of anyone else."""

    def open(self, path: str, *, until: str) -> None:
        self.page.goto(self.url + path)
        self.page.get_by_text(until, exact=True).first.wait_for()

    def picture(self, name: str) -> None:
        """A picture of the page when nothing moves any more."""
        path = self.pictures / f"ui-{name}.png"
        self.page.wait_for_timeout(2500)
        self.page.screenshot(path=path)
        assert path.stat().st_size < MOST_BYTES

    def is_green(self, words: str) -> bool:
        """Whether something with exactly these words is green in the graph."""
        return "green" in self.page.evaluate(COLOURS, words)

    def wait_until_green(self, words: str) -> None:
        """Asked again and again from here: the UI's own rules let no script of a page evaluate text."""
        for _ in range(PATIENCE_MS // 500):
            if self.is_green(words):
                return
            self.page.wait_for_timeout(500)
        raise AssertionError(f"{words!r} never became green")


class Project:
    """A project of its own with a UI."""

    def __init__(self, root: Path) -> None:
        self.settings = demo_runs.project(root, more=MORE)
        self.settings.write_text(self.settings.read_text().replace("max_steps = 8", "max_steps = 24"))
        workspace = Workspace(root=root / "data")
        self.raw = workspace.raw("clinical_documents")
        write("mtsamples", workspace.raw("mtsamples"), counts={"csv": 12, "hub_train": 0, "hub_test": 0})
        self.environment = {
            **os.environ, "MEDVL_SETTINGS": str(self.settings), "DAGSTER_HOME": instance_home(workspace), "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        self.dg = str(Path(sys.executable).with_name("dg"))

    def launch(self, *assets: str) -> int:
        """Materialize them; returns the exit status."""
        command = [self.dg, "launch", "--assets", ",".join(assets)]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, check=False).returncode

    def break_pages(self, share: float) -> None:
        """Cut this share (0-1) of the forms that are learned from in half."""
        pages = sorted((self.raw / "train" / "images").glob("*.png"))
        for page in pages[: round(share * len(pages))]:
            page.write_bytes(page.read_bytes()[: page.stat().st_size // 2])

    @contextmanager
    def ui(self) -> Iterator[str]:
        """The services, as ``make ui`` starts them; gives their address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = [self.dg, "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", url.rsplit(":", 1)[1]]
        log = (self.settings.parent / "ui.log").open("ab")
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            demo_runs.wait_for(lambda: _answers(url), 240)
            yield url
        finally:
            family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            process.send_signal(signal.SIGINT)
            _, left = psutil.wait_procs(family, timeout=30)
            for member in left:
                with suppress(psutil.NoSuchProcess):
                    member.kill()


def _answers(url: str) -> bool:
    with suppress(OSError), urlopen(f"{url}/server_info", timeout=2) as answer:  # noqa: S310 (this machine's own)
        return answer.status == 200
    return False


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    return Project(tmp_path_factory.mktemp("ui"))


@pytest.fixture
def shown(project: Project, tmp_path: Path) -> Iterator[Shown]:
    pictures = Path(os.environ.get("MEDVL_SCREENSHOTS") or tmp_path).resolve()
    with project.ui() as url, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 800})
        page.set_default_timeout(PATIENCE_MS)
        seen = Shown(page=page, url=url, pictures=pictures)

        def gate(route: "sync_api.Route") -> None:
            if route.request.url.startswith((url, "data:", "blob:")):
                route.continue_()
            else:
                seen.foreign.append(route.request.url)
                route.abort()

        page.route("**/*", gate)
        yield seen
        browser.close()


def test_a_click_makes_the_data_the_curve_and_the_checks_of_a_training_are_seen_and_why_a_batch_was_stopped(project: Project, shown: Shown):
    page = shown.page
    shown.open("/locations/medvl/asset-groups/mtsamples/lineage", until="validated_pairs")
    assert not shown.is_green("Materialized")

    shown.open("/locations/medvl/jobs/data_of_documents", until="Materialize all")
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_text("Launched run").wait_for()
    page.get_by_role("link", name="View", exact=True).or_(page.get_by_role("button", name="View", exact=True)).last.click()
    page.get_by_text("Success", exact=True).first.wait_for()
    shown.open("/locations/medvl/asset-groups/mtsamples/lineage", until="validated_pairs")
    shown.wait_until_green("Materialized")
    shown.picture("data")

    assert project.launch(*(f"documents/{name}" for name in TRAINED)) == 0
    shown.open("/assets/documents/adapter?view=checks", until="loss_fell")
    page.get_by_text("loss_fell", exact=True).first.click()
    page.get_by_text("Passed", exact=True).first.wait_for()
    shown.picture("checks")
    shown.open("/assets/documents/adapter", until="Latest materialization")
    page.get_by_text("[Show Markdown]").last.click()
    curve = page.get_by_alt_text("Loss of the stage adapter in nats per answer token, by optimizer step")
    curve.wait_for()
    assert curve.evaluate("picture => picture.naturalWidth") > 100  # it was drawn
    shown.picture("loss")

    shown.open("/asset-groups", until="documents")
    page.get_by_text("Hide navigation").click()
    page.keyboard.press("Alt+e")  # expand all groups: remembered, and fitted into the window when the page is loaded again
    page.get_by_text("served_model").first.wait_for()
    page.set_viewport_size({"width": 1400, "height": 960})
    page.reload()
    page.get_by_text("served_model").first.wait_for()
    shown.wait_until_green("adapter")
    assert not shown.is_green("promotion")
    shown.picture("graph")

    project.break_pages(0.3)
    assert project.launch(*(f"clinical_documents/{name}" for name in ("raw_records", "pairs", "validated_pairs"))) != 0
    shown.open("/assets/clinical_documents/validated_pairs?view=checks&checkDetail=rejected_share_is_within_budget", until="Failed")
    page.get_by_text("of all rows were rejected, at most 0.1 may be").first.wait_for()  # why, in one sentence
    shown.picture("why")
    assert shown.foreign == []

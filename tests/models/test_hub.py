"""What comes from the hub. If these passed wrongly, a changed or half-fetched file could become the base of every comparison, a night's
download could start again from nothing, a token could reach another host or a log, or a refusal could leave its reader without a cure.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medvl_lib.models import shipped
from medvl_lib.models.weights import BASE_RULES
from tests.hub_server import HUB_ID, REVISION, Hub, serving

ROOT = Path(__file__).parent.parent.parent
SMALL_MODEL = {path.name: path.read_bytes() for path in sorted((shipped.DIRECTORY / "qwen2_5_vl").iterdir())}
NOT_NEEDED = {"README.md": b"a card", "pytorch_model.bin": b"a pickle", "original.pth": b"another"}
WEIGHTS = SMALL_MODEL["model.safetensors"]
CUT = 10 * 2**20  # bytes after which the answers break off
SPEC = f"""ModelSpec(family="qwen2_5_vl", source="hub", hub_id=%r, revision=%r, seed=0, path="", max_pixels={128 * 28 * 28})"""
FETCH = f"""
import sys, time
from pathlib import Path

sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / 50)  # the pauses between tries have no setting

from medvl_lib.errors import MedVLError
from medvl_lib.fetching import downloads
from medvl_lib.models import hub
from medvl_lib.models.spec import ModelSpec

downloads.REPORT_SECONDS = 0
try:
    hub.fetch({SPEC}, Path("model"), Path("downloads"), report=print)
except MedVLError as error:
    sys.exit(f"REFUSED {{error}}")
"""
SEED_THE_CACHE = "from huggingface_hub import snapshot_download\nsnapshot_download(%r, revision=%r)"
BASE_MODEL = f"""
from dataclasses import replace
from pathlib import Path
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS
from medvl_lib.models.spec import ModelSpec
from medvl_lib.provenance import judge
from medvl_lib.route.models import model_steps
from medvl_lib.step import run_step
from medvl_lib.workspace import Workspace

workspace = Workspace(root=Path("data").absolute())
base = model_steps(replace(DOCUMENTS, model={SPEC}), PROFILES["cpu"])[0]
artifact = run_step(workspace, base, print)
print([verdict.rule for verdict in judge(workspace, artifact, base.rules) if verdict.outcome.passed], artifact.directory, sep="\\n")
"""


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody's machine: a folder with a cache of the hub, downloads and a model, and an environment."""

    folder: Path
    hub: Hub

    @property
    def downloads(self) -> Path:
        return self.folder / "downloads"

    def start(self, code: str = FETCH, hub_id: str = HUB_ID, revision: str = REVISION, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
        settings = {
            "HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        (self.folder / "model").mkdir(exist_ok=True)
        for path in (self.folder / "model").iterdir():
            path.unlink()
        return subprocess.Popen(
            [sys.executable, "-c", code % (hub_id, revision)], cwd=self.folder, env={**kept, **settings, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, code: str = FETCH, **more: str) -> str:
        """What a fetch that must work said."""
        process = self.start(code, **more)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    def is_refused(self, **more: str) -> str:
        """What a fetch that must be refused said; nothing of it may look like a bug."""
        process = self.start(**more)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 1, said
        assert "Traceback" not in said
        return said.partition("REFUSED ")[2]

    def model(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "model").iterdir()}

    def cached(self, name: str) -> Path:
        return (self.folder / "cache" / "hub" / "models--mine--forms" / "snapshots" / REVISION / name).resolve()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    with serving(Hub(files={**SMALL_MODEL, **NOT_NEEDED})) as hub:
        yield User(folder=tmp_path, hub=hub)


def wait_for(is_so: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_files_that_are_needed_come_whole_and_the_others_are_not_asked_for(user: User):
    said = user.run()
    assert user.model() == SMALL_MODEL
    assert [user.hub.asked(f"/{name}") for name in NOT_NEEDED] == [0, 0, 0]
    assert f"'all_bytes': {sum(map(len, SMALL_MODEL.values()))}" in said


def test_a_second_model_costs_neither_the_network_nor_the_disk(user: User):
    user.run()
    asked = len(user.hub.seen)
    user.run()
    assert user.model() == SMALL_MODEL
    assert len(user.hub.seen) == asked
    assert (user.folder / "model" / "model.safetensors").samefile(user.downloads / "model.safetensors")


@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(user: User, ending: str):
    user.hub.cuts = [(CUT, ending)]
    user.run()
    assert user.model() == SMALL_MODEL
    assert user.hub.ranges("model.safetensors") == [None, f"bytes={CUT}-"]


def test_what_a_killed_process_had_fetched_is_not_fetched_again(user: User):
    user.hub.cuts = [(CUT, "stalled")]
    process = user.start()
    part = user.downloads / "model.safetensors.part"
    wait_for(lambda: part.is_file() and part.stat().st_size == CUT)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (user.downloads / "model.safetensors").exists()
    user.run()
    assert user.model() == SMALL_MODEL
    assert user.hub.ranges("model.safetensors") == [None, f"bytes={CUT}-"]
    assert user.hub.asked("/config.json") == 1


def test_a_hub_that_stays_away_is_waited_for_a_while_and_then_what_came_is_kept(user: User):
    user.hub.cuts = [(CUT, "closed")] + [(0, "closed")] * 30
    refused = user.is_refused()
    assert "model.safetensors: the connection broke" in refused
    assert "it goes on where it stopped" in refused
    user.hub.cuts = []
    user.run()
    assert user.model() == SMALL_MODEL
    assert user.hub.ranges("model.safetensors")[-1] == f"bytes={CUT}-"


def test_a_stalled_connection_ends_by_itself(user: User):
    user.hub.cuts = [(CUT, "stalled")]
    user.run(HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert user.model() == SMALL_MODEL


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_changed_contents_of_the_right_size_are_refused_by_name_and_fetched_anew(user: User, name: str):
    true = SMALL_MODEL[name]
    user.hub.sent_instead = {name: true[:-1] + bytes([true[-1] ^ 1])}
    refused = user.is_refused()
    listed = hashlib.sha256(true).hexdigest() if name in user.hub.lfs else user.hub.tree()[2]["oid"]
    assert f"{name} came with {len(true)} bytes and the hash" in refused
    assert f"and {len(true)} bytes, {listed} is stated" in refused
    assert user.model() == {}
    user.hub.sent_instead = {}
    user.run()
    assert user.model() == SMALL_MODEL


def test_a_download_that_was_damaged_on_disk_is_fetched_again(user: User):
    user.run()
    damaged = bytearray(WEIGHTS)
    damaged[5_000_000] ^= 1
    (user.downloads / "model.safetensors").write_bytes(damaged)
    assert "model.safetensors: not here" in user.is_refused(HF_HUB_OFFLINE="1")
    assert not (user.downloads / "model.safetensors").exists()
    user.run()
    assert user.model() == SMALL_MODEL


def test_the_token_opens_the_hub_and_stays_there(user: User):
    user.hub.token = "hf_secret"
    said = user.run(HF_TOKEN="hf_secret")
    assert user.model() == SMALL_MODEL
    assert {(seen.host, seen.is_authorized) for seen in user.hub.seen} == {("hub", True), ("storage", False)}
    assert "hf_secret" not in said


@pytest.mark.parametrize(
    ("environment", "sent"), [({}, "no token was sent"), ({"HF_TOKEN": "hf_other"}, "the token that was sent does not open it")]
)
def test_a_private_repository_is_refused_with_the_way_to_a_token(user: User, environment: dict[str, str], sent: str):
    user.hub.token = "hf_secret"
    refused = user.is_refused(**environment)
    assert f"the hub answered 401: no access, {sent}" in refused
    assert "set HF_TOKEN in the environment" in refused
    assert "hf_" not in refused


def test_a_gated_repository_is_refused_with_the_page_of_its_licence(user: User):
    user.hub.is_gated = True
    refused = user.is_refused(HF_TOKEN="hf_secret")
    assert "the hub answered 403: access is restricted" in refused
    assert f"accept the terms on {user.hub.url}/{HUB_ID}" in refused


@pytest.mark.parametrize("token", ["hf_se\x0bcret", "hf_sécret"])
def test_a_token_that_cannot_be_sent_is_not_quoted(user: User, token: str):
    refused = user.is_refused(HF_TOKEN=token)
    assert "look for a stray character in HF_TOKEN" in refused
    assert "cret" not in refused


@pytest.mark.parametrize(
    ("hub_id", "revision", "found"),
    [
        ("mine/from", REVISION, "no such repository"),
        (HUB_ID, "f" * 40, "no such revision"),
        ("mine/for--ms", REVISION, "'mine/for--ms' is no hub id"),
    ],
)
def test_a_misspelt_id_or_revision_is_named(user: User, hub_id: str, revision: str, found: str):
    refused = user.is_refused(hub_id=hub_id, revision=revision)
    assert found in refused
    assert f"where: {hub_id} at {revision}" in refused


@pytest.mark.parametrize("path", [f"/tree/{REVISION}", "/resolve/" + REVISION + "/config.json", "/model.safetensors"])
def test_a_hub_that_is_busy_once_is_asked_again(user: User, path: str):
    user.hub.statuses = {path: [503]}
    user.run()
    assert user.model() == SMALL_MODEL


@pytest.mark.parametrize("path", [f"/tree/{REVISION}", "/model.safetensors"])
def test_a_hub_that_stays_busy_is_left_alone_after_some_tries(user: User, path: str):
    user.hub.statuses = {path: [-503]}
    refused = user.is_refused()
    assert "again and again" in refused
    assert 2 <= user.hub.asked(path) <= 8 * (1 + (path == "/model.safetensors"))  # through the hub, and at the storage
    user.hub.statuses = {}
    user.run()
    assert user.model() == SMALL_MODEL


def test_without_any_network_the_address_that_was_tried_is_named(user: User):
    refused = user.is_refused(HF_ENDPOINT="http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached (ConnectError)" in refused
    assert "check the network, HTTPS_PROXY and HF_ENDPOINT" in refused


def test_a_page_that_is_not_the_hubs_is_not_taken_for_a_listing(user: User):
    user.hub.tree = lambda: "<html>please log in to the hotel's network</html>"  # JSON, but no list
    assert "an answer that is not the hub's" in user.is_refused()


def test_a_repository_of_pickles_is_refused(user: User):
    user.hub.files = {"config.json": b"{}", "pytorch_model.bin": b"a pickle"}
    refused = user.is_refused()
    assert "no *.safetensors (pytorch_model.bin)" in refused
    assert "a pickle runs code when it is opened" in refused


def test_too_little_room_is_said_before_anything_is_fetched(user: User):
    user.hub.listed_bytes = {"model.safetensors": 10**15}
    refused = user.is_refused()
    assert "1,000,000.0 GB to fetch, " in refused
    assert {seen.path for seen in user.hub.seen} == {f"/api/models/{HUB_ID}/tree/{REVISION}"}


def test_offline_with_nothing_here_says_which_setting_forbids_it(user: User):
    refused = user.is_refused(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids to fetch it" in refused
    assert "unset HF_HUB_OFFLINE" in refused
    assert user.hub.seen == []


def test_offline_what_was_downloaded_before_is_enough(user: User):
    user.run()
    user.run(HF_HUB_OFFLINE="1")
    assert user.model() == SMALL_MODEL


def _seed(user: User) -> None:
    user.run(SEED_THE_CACHE, HF_HUB_DISABLE_XET="1")
    user.hub.seen.clear()


@pytest.mark.parametrize("away", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_cache_that_another_tool_filled_is_used_without_the_network(user: User, away: dict[str, str]):
    _seed(user)
    user.run(**away)
    assert user.model() == SMALL_MODEL
    assert user.hub.seen == []


def test_a_cache_that_is_damaged_is_seen_offline_and_mended_by_the_network_without_touching_it(user: User):
    _seed(user)
    damaged = WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])
    user.cached("model.safetensors").write_bytes(damaged)
    assert "model.safetensors: not here" in user.is_refused(HF_HUB_OFFLINE="1")
    user.run()
    assert user.model() == SMALL_MODEL
    assert [seen.path for seen in user.hub.seen if seen.host == "storage"] == ["/model.safetensors"]
    assert user.cached("model.safetensors").read_bytes() == damaged


def test_a_cache_that_lacks_a_file_is_not_enough_offline_and_is_completed_online(user: User):
    _seed(user)
    snapshot = user.folder / "cache" / "hub" / "models--mine--forms" / "snapshots" / REVISION
    (snapshot / "config.json").unlink()
    assert "HF_HUB_OFFLINE forbids to fetch it" in user.is_refused(HF_HUB_OFFLINE="1")
    user.run()
    assert user.model() == SMALL_MODEL
    assert [seen.path for seen in user.hub.seen if "/resolve/" in seen.path] == [f"/{HUB_ID}/resolve/{REVISION}/config.json"]


def test_two_fetches_at_once_do_not_spoil_each_other(user: User):
    (user.folder / "other").mkdir()
    first, second = user.start(), user.start(FETCH.replace('"model"', '"other"'))
    assert [process.wait(60) for process in (first, second)] == [0, 0]
    assert user.model() == SMALL_MODEL
    assert user.hub.ranges("model.safetensors") == [None]


@pytest.mark.slow
def test_a_model_of_the_hub_becomes_a_base_model_whose_rules_hold(user: User):
    *_, passed, directory = user.run(BASE_MODEL).splitlines()
    assert passed == str([rule.name for rule in BASE_RULES])
    assert (Path(directory) / "model.safetensors").read_bytes() == WEIGHTS
    assert list(user.folder.glob("data/downloads/mine--forms/*/listing.json"))

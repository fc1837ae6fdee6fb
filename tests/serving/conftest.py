"""A small project whose line can be served: the real base and NF4 steps, and an adapter of three training steps. Shared, and only read."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from medvl_lib import pages
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.configured import lines_of
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import Line
from medvl_lib.pointer import Contender, Served, move_pointer
from medvl_lib.provenance import Artifact, judge, write_step
from medvl_lib.route.models import model_steps
from medvl_lib.serving.app import Counter, make_app
from medvl_lib.serving.page.routes import add_page
from medvl_lib.serving.resident import load_resident
from medvl_lib.serving.running import server
from medvl_lib.serving.served import ServedModel, is_current, served_model
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.workspace import Workspace
from tests.torch_fixtures import RECIPE, STYLE, TINY, Trial

SETTINGS = """\
data_root = "data"
scale = "tiny"
profile = "cpu"
[datasets.clinical_documents]
[lines.documents.evaluation]
max_answer_tokens = 24
"""
CPU = PROFILES["cpu"]
PAGE = pages.text_page(["Sodium: 139 mmol/L", "Potassium: 4.1 mmol/L"], STYLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A settings file, and what lies below its data root."""

    settings: Path
    workspace: Workspace
    line: Line
    weights: dict[str, Artifact]
    adapter: Artifact
    conversations: list[Conversation]
    """Of the store below the data root."""

    def promote(self, variant: str) -> Served:
        """Point at a variant, as a decision would."""
        parts = Contender(self.weights["nf4"], self.adapter) if variant == "adapter" else Contender(self.weights[variant])
        served = Served(
            line=self.line.name, variant=variant, weights_step=parts.weights.step, weights_fingerprint=parts.weights.fingerprint,
            adapter_step=parts.adapter and parts.adapter.step, adapter_fingerprint=parts.adapter and parts.adapter.fingerprint,
            data_version=parts.data_version, decision_step="promotion", decision="0123456789abcdef",
        )  # fmt: skip
        move_pointer(self.workspace, served)
        return served

    def demote(self) -> None:
        """Nothing was promoted."""
        self.workspace.served(self.line.name).unlink(missing_ok=True)

    def model(self, variant: str) -> ServedModel:
        """What would be served if this variant were promoted, or nothing for ``base``."""
        try:
            if variant != "base":
                self.promote(variant)
            return served_model(self.workspace, self.line)
        finally:
            self.demote()


def _adapter(trial: Trial, workspace: Workspace, weights: Artifact, root: Path) -> Artifact:
    from medvl_lib.training.recipe import Stage
    from medvl_lib.training.route import train

    recipe = replace(RECIPE, learning_rate=2e-2, max_steps=3, validations_per_epoch=0, lora_rank=32, lora_alpha=64)

    def write(directory: Path) -> dict[str, object]:
        return train(
            directory, stage=Stage(name="adapter", objective="generate", recipe=recipe), spec=TINY, weights=weights.directory,
            chat=trial.chat, images=trial.images, profile=trial.profile, previous=None, checkpoints=root / "checkpoints",
            report=lambda _: None,
        )  # fmt: skip

    return write_step(workspace, "adapter", "documents", "v1", [weights], write)


@pytest.fixture(scope="session")
def project(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("served")
    settings = root / "dagster_project.toml"
    settings.write_text(SETTINGS)
    [line] = lines_of(read_settings(settings))
    workspace = Workspace(root=root / "data")
    weights: dict[str, Artifact] = {}
    for step in model_steps(line, CPU):
        weights[step.name.removesuffix("_model")] = run_step(workspace, step)
        judge(workspace, weights[step.name.removesuffix("_model")], step.rules)
    workspace.images.symlink_to(trial.images.root)
    return Project(
        settings=settings, workspace=workspace, line=line, weights=weights, adapter=_adapter(trial, workspace, weights["nf4"], root),
        conversations=list(read_conversations(conversations_path(trial.chat, "test"))),
    )  # fmt: skip


@contextmanager
def serving(counter: Counter) -> Iterator[httpx2.Client]:
    """A real server on the loopback interface, in a thread of this process, and a client of it."""
    with listening(make_app(counter, add_page)) as client:
        yield client


@contextmanager
def listening(app: FastAPI) -> Iterator[httpx2.Client]:
    """An application on a real server in a thread of this process, and a client of it."""
    listens = socket.create_server(("127.0.0.1", 0))
    uvicorn = server(app)
    thread = threading.Thread(target=lambda: uvicorn.run(sockets=[listens]), name="uvicorn")
    thread.start()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{listens.getsockname()[1]}", timeout=120, trust_env=False) as client:
            yield client
    finally:
        uvicorn.should_exit = True
        thread.join(60)
        listens.close()
    assert not thread.is_alive()


def wait_until(client: httpx2.Client, status: str) -> dict[str, object]:
    """What /health says once it says this."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        health = client.get("/health").json()
        if health["status"] == status:
            return health
        time.sleep(0.05)
    raise AssertionError(f"never {status}: {health}")


@pytest.fixture(scope="session")
def counter(project: Project) -> Callable[..., Counter]:
    """What a server of a variant is told."""

    def make(variant: str = "base", **changes: object) -> Counter:
        model = project.model(variant)
        told = Counter(
            model=model, compared="by nobody", line=project.line, profile=CPU, workspace=project.workspace, keys=None,
            load=lambda: load_resident(model, project.line, CPU), is_current=lambda: is_current(project.workspace, model),
        )  # fmt: skip
        return replace(told, **changes)

    return make


@pytest.fixture(scope="session")
def base(counter: Callable[..., Counter]) -> Iterator[httpx2.Client]:
    """A server that is ready, of a line where nothing was promoted."""
    with serving(counter()) as client:
        wait_until(client, "ready")
        yield client

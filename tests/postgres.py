"""A Postgres server of a test's own: made in a folder of its own, on a port of its own, and gone when the test ends."""

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "p@ss w/rd"
USER = DATABASE = "medvl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that accepts connections to an empty database."""

    commands: Path
    port: int
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the template of ``medvl_assets.instance`` finds it."""
        return {
            "MEDVL_PG_HOST": "127.0.0.1", "MEDVL_PG_PORT": str(self.port), "MEDVL_PG_USER": USER, "MEDVL_PG_PASSWORD": PASSWORD,
        }  # fmt: skip

    def ask(self, question: str) -> str:
        """What it answers, as text without a heading."""
        return self._client("psql", "-d", DATABASE, "-tAc", question)

    def create(self) -> None:
        """Make the empty database."""
        self._client("createdb", DATABASE)

    def _client(self, name: str, *arguments: str) -> str:
        said = subprocess.run(
            [self.commands / name, "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, *arguments],
            env={**os.environ, "PGPASSWORD": PASSWORD}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert said.returncode == 0, f"{said.stderr}\n{self.log.read_text()[-2000:]}"
        return said.stdout


def _commands() -> Path:
    """Where a Postgres server's commands are; the test that needs them skips where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(name) for name in [shutil.which("initdb")] if name]
    if not found:
        pytest.skip("no Postgres server is installed (Debian: postgresql)")
    return found[-1].parent


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@contextmanager
def postgres() -> Iterator[Server]:
    """A running server; as root it is run by the user ``postgres``, since it refuses to be root."""
    home = Path(tempfile.mkdtemp(prefix="medvl-pg-", dir="/tmp"))  # the path of its socket has to be short
    home.chmod(0o777)
    (home / "password").write_text(PASSWORD)
    server = Server(commands=_commands(), port=free_port(), log=home / "log")
    user = ["su", "postgres", "-s", "/bin/bash", "-c"] if os.geteuid() == 0 else ["bash", "-c"]

    def shell(name: str, *arguments: str) -> None:
        line = shlex.join([str(server.commands / name), "-D", str(home / "data"), *arguments])
        subprocess.run([*user, line], check=True, capture_output=True, cwd="/")

    shell("initdb", "-A", "scram-sha-256", "-U", USER, f"--pwfile={home}/password")
    options = f"-p {server.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home}"
    shell("pg_ctl", "-o", options, "-l", str(server.log), "-t", "300", "-w", "start")  # returns when it accepts connections
    try:
        server.create()
        yield server
    finally:
        shell("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)

"""What a server does under load: how many answers a second, how long one waits, and whom it sends away.

In: nothing: the small shipped base model of ``documents``, served by ``medvl serve`` as a process of its own, and invented forms of the
kind that the line is tested on (answers of 100 to 180 tokens). Out: a table on the terminal, and exit status 1 where a goal is missed.

    python benchmarks/serving_load.py [--seconds 120]

Four loads come from this process, none of which waits for the server's leave: one request at a time; as many as it takes, which is its
capacity; Poisson arrivals at 0.8 of that; and at three times that. A latency counts from the arrival that was drawn, whenever it was sent.
Every answer is held against the one that was given alone. One core is left to this process and to the server's own work beside the model
(``OMP_NUM_THREADS`` says otherwise). What else runs on the machine counts as the server's slowness, but for its processor seconds.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil

from medvl_lib.benchmark.terminal import render_table
from medvl_lib.configured import lines_of
from medvl_lib.hardware import PROFILES
from medvl_lib.provenance import judge
from medvl_lib.route.models import model_steps
from medvl_lib.sample_data import write
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.workspace import Workspace

MIN_GAIN = 3.0  # capacity by answers a second one at a time
MAX_SLOWDOWN = 4.0  # 95th percentile at 0.8 of the capacity by that of one at a time
MIN_GOODPUT = 0.9  # of the capacity, at three times as many arrivals
MAX_REFUSAL_SECONDS = 0.1  # of 99 in a hundred: the longest is shown too
MAX_GROWTH = 0.05  # of the server's memory, from the end of the first full load to the end of all
MIN_EQUAL = 0.99  # of answers, as parity has it for answers of a batch
MODERATE, EXCESSIVE = 0.8, 3.0  # arrivals by capacity
NUM_CLIENTS = 32  # that ask again as soon as they are answered: more than a batch, fewer than the line holds
RAMP_SHARE = 0.15  # of a load that is not counted: the line fills, or the last batch of the load before is answered
NUM_PAGES = 24
DEADLINE_SECONDS = 120.0
BOUNDARY = "medvl-page"
SETTINGS = 'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n'


class Reply(NamedTuple):
    """What came back to one request."""

    page: int
    status: int
    seconds: float
    finished: float
    text: str
    retry_after: str | None


@dataclass(slots=True)
class Load:
    """What came of one load."""

    started: float
    seconds: float
    replies: list[Reply] = field(default_factory=list[Reply])

    def counted(self, status: int) -> list[Reply]:
        """Replies of a status that came in the part of the time that counts."""
        start = self.started + RAMP_SHARE * self.seconds
        return [reply for reply in self.replies if reply.status == status and start <= reply.finished <= self.started + self.seconds]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.counted(200)) / (self.seconds * (1 - RAMP_SHARE))

    def percentile(self, percent: int, status: int = 200) -> float:
        """Of the seconds until a reply of this status."""
        seconds = [reply.seconds for reply in self.replies if reply.status == status]
        return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] if len(seconds) > 1 else float("nan")

    @property
    def answered(self) -> list[Reply]:
        """Every answer."""
        return [reply for reply in self.replies if reply.status == 200]

    def row(self, name: str, arrivals: float | None) -> tuple[object, ...]:
        """The load in the table."""
        refused = [reply.seconds for reply in self.replies if reply.status == 429]
        return (
            name, arrivals, self.per_second, self.percentile(50), self.percentile(95), len(self.answered), len(refused),
            self.percentile(99, 429), max(refused, default=float("nan")), len(self.replies) - len(self.answered) - len(refused),
        )  # fmt: skip


# -- the server --------------------------------------------------------------------------------------------------------
def write_project(root: Path) -> Path:
    """A data root with the small base model of a line, judged; returns its settings."""
    settings = root / "dagster_project.toml"
    settings.write_text(SETTINGS, encoding="utf-8")
    [line] = lines_of(read_settings(settings))
    workspace, step = Workspace(root=root / "data"), model_steps(line, PROFILES["cpu"])[0]
    judge(workspace, run_step(workspace, step), step.rules)
    return settings


@contextmanager
def server(settings: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The port of a server process that is ready, and the process."""
    environment = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) - 1)), **os.environ, "MEDVL_SETTINGS": str(settings)}
    command = [sys.executable, "-m", "medvl_lib.cli", "serve", "documents", "--port", "0", "--unchecked"]
    with (settings.parent / "server.log").open("w") as log:
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=log, env=environment)  # noqa: S603 (our own command)
    try:
        said = process.stdout.readline() if process.stdout else ""
        address = re.search(r"http://\S+?:(\d+)", said)
        if address is None:
            raise RuntimeError(f"the server said {said!r}; its log: {(settings.parent / 'server.log').read_text()}")
        yield int(address[1]), psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


# -- the client --------------------------------------------------------------------------------------------------------
def pages_in(folder: Path) -> list[bytes]:
    """Invented forms, as the line's test set has them."""
    write("clinical_documents", folder, counts={"train": 0, "validation": 0, "test": 0, "benchmark": NUM_PAGES})
    return [path.read_bytes() for path in sorted(folder.rglob("*.png"))][:NUM_PAGES]


def request_of(page: bytes, port: int) -> bytes:
    """A page as an upload to ``/extract``, ready for the wire."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="page.png"\r\nContent-Type: image/png\r\n\r\n'
    body = head.encode() + page + f"\r\n--{BOUNDARY}--\r\n".encode()
    wanted = f"POST /extract HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    return f"{wanted}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode() + body


async def exchange(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the reply to a request, over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


async def ready(port: int) -> None:
    """Wait until the server can be asked."""
    request = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await exchange(port, request))[0] != 200:
            await asyncio.sleep(0.1)


class Client:
    """Sends pages, and keeps what came back."""

    def __init__(self, port: int, pages: Sequence[bytes]) -> None:
        self._port = port
        self._requests = [request_of(page, port) for page in pages]
        self._draw = random.Random(7)  # noqa: S311 (repeatable, not secret)

    async def send(self, load: Load, arrival: float) -> None:
        """Ask about a page; the latency counts from its arrival."""
        page = self._draw.randrange(len(self._requests))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                status, headers, body = await exchange(self._port, self._requests[page])
        except (OSError, TimeoutError, IndexError):
            status, headers, body = 0, {}, b""  # nothing came back: counted as neither answer nor refusal
        finished = time.perf_counter()
        text = json.loads(body)["text"] if status == 200 else ""
        load.replies.append(Reply(page, status, finished - arrival, finished, text, headers.get("retry-after")))

    async def closed(self, seconds: float, num_clients: int) -> Load:
        """Some clients, each of which asks again as soon as it is answered."""
        load = Load(time.perf_counter(), seconds)

        async def ask_on() -> None:
            while (now := time.perf_counter()) < load.started + seconds:
                await self.send(load, now)

        await asyncio.gather(*(ask_on() for _ in range(num_clients)))
        return load

    async def poisson(self, seconds: float, per_second: float) -> Load:
        """Arrivals that nothing holds back."""
        load, sending = Load(time.perf_counter(), seconds), set[asyncio.Task[None]]()
        arrival = load.started
        while (arrival := arrival + self._draw.expovariate(per_second)) < load.started + seconds:
            await asyncio.sleep(max(0.0, arrival - time.perf_counter()))
            task = asyncio.create_task(self.send(load, arrival))
            sending.add(task)
            task.add_done_callback(sending.discard)
        await asyncio.gather(*sending)
        return load


# -- the goals ---------------------------------------------------------------------------------------------------------
class Goal(NamedTuple):
    """A bound, and what was found."""

    name: str
    found: float
    bound: float
    is_kept: bool


def equal_share(loads: Sequence[Load]) -> float:
    """Of the answers given in company: those that are the text given alone, the first load's."""
    alone = {reply.page: reply.text for reply in loads[0].replies if reply.status == 200}
    said = [reply for load in loads[1:] for reply in load.replies if reply.status == 200 and reply.page in alone]
    return sum(reply.text == alone[reply.page] for reply in said) / max(1, len(said))


def goals(loads: Sequence[Load], memory: Sequence[int]) -> list[Goal]:
    """Every goal of the four loads."""
    alone, full, moderate, excessive = loads
    gain, slowdown = full.per_second / alone.per_second, moderate.percentile(95) / alone.percentile(95)
    goodput, growth = excessive.per_second / full.per_second, memory[-1] / memory[0] - 1
    refused = sum(reply.status == 429 for reply in moderate.replies)
    unanswered = sum(reply.status not in (200, 429) for load in loads for reply in load.replies)
    silent = sum(reply.retry_after is None for reply in excessive.replies if reply.status == 429)
    equal, refusal = equal_share(loads), excessive.percentile(99, 429)
    return [
        Goal(f"capacity by one at a time, at least {MIN_GAIN:g}", gain, MIN_GAIN, gain >= MIN_GAIN),
        Goal(f"refused at {MODERATE:g} of the capacity", refused, 0, refused == 0),
        Goal(f"p95 at {MODERATE:g} by p95 of one at a time, at most {MAX_SLOWDOWN:g}", slowdown, MAX_SLOWDOWN, slowdown <= MAX_SLOWDOWN),
        Goal(f"goodput at {EXCESSIVE:g} by capacity, at least {MIN_GOODPUT:g}", goodput, MIN_GOODPUT, goodput >= MIN_GOODPUT),
        Goal("seconds to a refusal, p99", refusal, MAX_REFUSAL_SECONDS, refusal <= MAX_REFUSAL_SECONDS),
        Goal("refusals without Retry-After", silent, 0, silent == 0),
        Goal("neither answered nor refused", unanswered, 0, unanswered == 0),
        Goal(f"answers as alone, at least {MIN_EQUAL:g}", equal, MIN_EQUAL, equal >= MIN_EQUAL),
        Goal(f"memory grown by, at most {MAX_GROWTH:g}", growth, MAX_GROWTH, growth <= MAX_GROWTH),
    ]


async def measure(
    port: int, process: psutil.Process, seconds: float, pages: Sequence[bytes]
) -> tuple[list[tuple[object, ...]], list[Load], list[int]]:  # fmt: skip
    """The four loads as rows of the table and as they are, and the server's memory after each from the second on."""
    await ready(port)
    client, rows, loads, memory = Client(port, pages), list[tuple[object, ...]](), list[Load](), list[int]()

    async def take(name: str, arrivals: float | None, load: Awaitable[Load]) -> None:
        before = sum(process.cpu_times()[:2])
        loads.append(await load)
        worked, held = sum(process.cpu_times()[:2]) - before, process.memory_info().rss
        rows.append((*loads[-1].row(name, arrivals), worked / max(1, len(loads[-1].answered)), held / 1e6))
        memory.append(held)

    await client.closed(min(5.0, seconds / 10), 2 * NUM_CLIENTS)  # threads, buffers and connections are there
    await take("one at a time", None, client.closed(seconds / 4, 1))
    await take("as many as it takes", None, client.closed(seconds / 4, NUM_CLIENTS))
    capacity = loads[1].per_second
    await take(f"{MODERATE:g} of that", MODERATE * capacity, client.poisson(seconds, MODERATE * capacity))
    await take(f"{EXCESSIVE:g} times that", EXCESSIVE * capacity, client.poisson(seconds / 2, EXCESSIVE * capacity))
    return rows, loads, memory[1:]


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the load at 0.8; the others take 1/4, 1/4 and 1/2 of it")
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="medvl-") as folder, server(write_project(Path(folder))) as (port, process):
        rows, loads, memory = asyncio.run(measure(port, process, asked.seconds, pages_in(Path(folder) / "pages")))
    header = (
        "load", "arrivals/s", "answers/s", "p50 s", "p95 s", "answered", "refused", "refusal p99 s", "longest s", "else",
        "processor s an answer", "memory MB",
    )  # fmt: skip
    print(render_table(header, rows))
    print()
    found = goals(loads, memory)
    print(render_table(("goal", "found", "bound", "kept"), [(goal.name, goal.found, goal.bound, goal.is_kept) for goal in found]))
    return int(not all(goal.is_kept for goal in found))


if __name__ == "__main__":
    sys.exit(main())

"""Several servers on one log, and people who talk with whichever they meet while the servers, the broker or the network do what the test says."""
import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import threading
import time
import uuid

from harness import Server, Session, wait_until
from kafka_case import SEED, Broker, BrokerCase

PARTITIONS = 12
SESSION_TIMEOUT = 3
GIVES_UP = 5  # a client that hears nothing asks again
CAMPAIGN_SECONDS = float(os.environ.get("ONBOARDING_CAMPAIGN_SECONDS", "15"))  # as long as servers are killed, or come and go


class Cluster:
    def __init__(self, broker: Broker, topic: str, instances: int = 3, **settings) -> None:
        """`settings` of all servers, `.` of a name written as `__`."""
        self.settings = {name.replace("__", "."): value for name, value in settings.items()}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-cluster."))
        (self.folder / "secrets").mkdir(mode=0o700)
        self.servers = [self.server(broker, topic, n) for n in range(instances)]

    def server(self, broker: Broker, topic: str, n: int) -> Server:
        folder = self.folder / f"server-{n}"
        folder.mkdir()
        server = Server(folder, settings={"log.kind": "kafka", "log.brokers": broker.brokers, "log.topic": topic, "log.partitions": PARTITIONS,
                                          "log.session_timeout_seconds": SESSION_TIMEOUT, "cluster.instance": f"server-{n}",
                                          "secrets.path": self.folder / "secrets", "sessions.passivate_after_seconds": 1} | self.settings)
        server.operator_key = lambda: (self.folder / "secrets/operator.key").read_text().strip()
        return server

    def start(self, environment: dict[str, str] | None = None) -> "Cluster":
        for server in self.servers:
            server.launch(environment)
        for server in self.servers:
            wait_until(server._ready_or_dead, "every server is ready")
        self.await_even_deal()
        return self

    def await_even_deal(self) -> None:
        wait_until(lambda: sorted(self.owned()) == [PARTITIONS // len(self.servers)] * len(self.servers), "the partitions are dealt evenly")

    def owned(self, among: list[Server] | None = None) -> list[int]:
        return [owned(server) for server in among or self.servers]

    def all_owned_by(self, among: list[Server]) -> bool:
        return sum(self.owned(among)) == PARTITIONS

    def close(self) -> None:
        for server in self.servers:
            if server.process and server.process.poll() is None:
                server.process.send_signal(signal.SIGCONT)
            server.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def owned(server: Server) -> int:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.request("GET", "/readyz?verbose").json()["partitions_owned"]
    return -1


def begin(server: Server, **body) -> Session:
    """A start may come while a partition still moves: 503, and the client comes again."""
    answer = server.insist("POST", "/api/onboarding/sessions", body)
    assert answer.status == 201, answer
    return Session(server, answer.json())


def through(server: Server, session: Session) -> Session:
    return Session(server, session.started)


async def ask(server: Server, method: str, path: str, headers: dict[str, str], body=None) -> tuple[int, dict[str, str], dict]:
    payload = b"" if body is None else json.dumps(body).encode()
    host, port = server.address
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *(f"{k}: {v}" for k, v in headers.items())]
        if payload:
            lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), GIVES_UP)).decode()
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])}
        return int(head.split()[1]), fields, json.loads(await asyncio.wait_for(reader.readexactly(int(fields["content-length"])), 60))
    finally:
        writer.close()


class Talker:
    """Talks with whichever server it meets, as behind a balancer that knows nothing. What was acknowledged goes into the ledger."""

    def __init__(self, servers: list[Server], stop: asyncio.Event, choice: random.Random) -> None:
        self.servers, self.stop, self.choice = servers, stop, choice
        self.ledger: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (path of the messages, token) → (message, answer)
        self.unsure: set[str] = set()  # said once, without a key, and not acknowledged
        self.told_to_retry, self.cut_off, self.stale = 0, 0, []
        self.took: list[tuple[float, float]] = []  # (when it was answered, how long the client had waited, repeats included)

    async def insist(self, method: str, path: str, headers: dict[str, str], body=None) -> dict | None:
        begun = time.monotonic()
        while True:
            try:
                status, fields, answer = await ask(self.choice.choice(self.servers), method, path, headers, body)
                if status in (200, 201):
                    self.took.append((time.monotonic(), time.monotonic() - begun))
                    return answer
                # 409: the first request with this key still runs. 202: it goes on, and is asked for again with the same key.
                assert status in (409, 202) or (status in (503, 429) and "retry-after" in fields), (status, fields, answer)
                self.told_to_retry += 1
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                self.cut_off += 1
            if self.stop.is_set():
                return None
            await asyncio.sleep(0.03)

    async def say_once(self, path: str, headers: dict[str, str], message: str) -> dict | None:
        """As a client does that cannot repeat: it sends no key, and asks once."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            status, fields, answer = await ask(self.choice.choice(self.servers), "POST", path, headers, {"message": message})
            if status == 200:
                return answer
            assert status == 202 or (status in (503, 429) and "retry-after" in fields), (status, fields, answer)
        self.unsure.add(message)
        return None

    async def talk(self) -> None:
        while not self.stop.is_set():
            started = await self.insist("POST", "/api/onboarding/sessions", {"Idempotency-Key": uuid.uuid4().hex}, {})
            if started is None:
                return
            path, authorization = f"/api/onboarding/sessions/{started['session_id']}", {"Authorization": f"Bearer {started['token']}"}
            pairs = self.ledger[path + "/messages", started["token"]] = []
            for n in range(8):
                message = f"My name is Ada Number{n} and this is {uuid.uuid4().hex}"
                if n % 4 == 3:
                    if answer := await self.say_once(path + "/messages", authorization, message):
                        pairs.append((message, answer["response"]))
                    continue
                answer = await self.insist("POST", path + "/messages", authorization | {"Idempotency-Key": uuid.uuid4().hex}, {"message": message})
                if answer is None:
                    return
                pairs.append((message, answer["response"]))
                seen = await self.insist("GET", path, authorization)
                if seen is None:
                    return
                if seen["version"] < answer["version"]:
                    self.stale.append((path, seen["version"], answer["version"]))


class Load:
    """Talkers on a thread of their own while the test does what it does to the servers."""

    def __init__(self, servers: list[Server], talkers: int = 8) -> None:
        self.servers, self.talkers, self.error = servers, [], None
        self.count, self.loop, self.stopping = talkers, asyncio.new_event_loop(), None
        self.thread = threading.Thread(target=self.run, daemon=True)  # where nothing makes progress nobody stops it

    def run(self) -> None:
        async def main():
            self.stopping = asyncio.Event()
            self.talkers = [Talker(self.servers, self.stopping, random.Random(SEED + n)) for n in range(self.count)]
            await asyncio.gather(*(t.talk() for t in self.talkers))
        try:
            self.loop.run_until_complete(main())
        except BaseException as error:  # told to the test
            self.error = error

    def __enter__(self) -> "Load":
        self.thread.start()
        self.progress(20)
        return self

    def __exit__(self, *_) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join()
        if self.error:
            raise self.error

    def acknowledged(self) -> int:
        return sum(len(pairs) for t in self.talkers for pairs in list(t.ledger.values()))

    def progress(self, more: int) -> None:
        before = self.acknowledged()
        wait_until(lambda: self.error or self.acknowledged() >= before + more, f"{more} more acknowledged messages")
        if self.error:
            raise self.error

    def took(self, since: float, until: float) -> list[float]:
        """Of the requests that were answered in that time: how long their clients had waited, repeats included."""
        return sorted(took for t in self.talkers for at, took in list(t.took) if since <= at <= until)

    def waits(self, since: float, until: float) -> str:
        took = self.took(since, until)
        return ", ".join(f"p{p} {took[min(len(took) - 1, len(took) * p // 100)] * 1000:.0f} ms" for p in (50, 99, 100)) + f" of {len(took)} requests"


class ClusterCase(BrokerCase):
    def cluster(self, instances: int = 3, **settings) -> Cluster:
        cluster = Cluster(self.broker, self.topic, instances, **settings)
        self.addCleanup(cluster.close)
        return cluster

    def check(self, load: Load, server: Server) -> None:
        checked = 0
        for talker in load.talkers:
            self.assertEqual(talker.stale, [], f"seed {SEED}: a read showed less than was acknowledged before it")
            checked += self.assert_kept(server, talker.ledger, talker.unsure)
        told, cut, unsure = sum(t.told_to_retry for t in load.talkers), sum(t.cut_off for t in load.talkers), sum(len(t.unsure) for t in load.talkers)
        print(f"seed {SEED}: {checked} acknowledged messages, {told} requests told to retry, {cut} cut off, {unsure} messages without a key not acknowledged", flush=True)
        self.assertGreater(checked, 50)

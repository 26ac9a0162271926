"""Three servers on one log: any of them answers for all, partitions move when one comes, goes, dies or freezes, and nothing that was
acknowledged is lost, doubled or answered differently. On a broker of its own, so that seconds are enough to notice a death."""
import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

from harness import ROOT, Server, Session, wait_until

sys.path[:0] = [str(ROOT / "tests/integration/kafka"), str(ROOT / "tests/integration/model")]
from strict_client import StrictServer  # noqa: E402
from test_kafka_server import Broker  # noqa: E402

SEED = int(os.environ.get("ONBOARDING_SEED", time.time_ns() % 1_000_000))
PARTITIONS = 12
SESSION_TIMEOUT = 3
GIVES_UP = 5  # a client that hears nothing asks again
CAMPAIGN_SECONDS = float(os.environ.get("ONBOARDING_CAMPAIGN_SECONDS", "15"))


class Cluster:
    def __init__(self, broker: Broker, topic: str, instances: int = 3) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-cluster."))
        (self.folder / "secrets").mkdir(mode=0o700)
        self.servers = [self.server(broker, topic, n) for n in range(instances)]

    def server(self, broker: Broker, topic: str, n: int) -> Server:
        folder = self.folder / f"server-{n}"
        folder.mkdir()
        server = Server(folder, settings={"log.kind": "kafka", "log.brokers": broker.brokers, "log.topic": topic, "log.partitions": PARTITIONS,
                                          "log.session_timeout_seconds": SESSION_TIMEOUT, "cluster.instance": f"server-{n}",
                                          "secrets.path": self.folder / "secrets", "sessions.passivate_after_seconds": 1})
        server.operator_key = lambda: (self.folder / "secrets/operator.key").read_text().strip()
        return server

    def start(self, environment: dict[str, str] | None = None) -> "Cluster":
        for server in self.servers:
            server.launch(environment)
        for server in self.servers:
            wait_until(server._ready_or_dead, "every server is ready")
        wait_until(lambda: sorted(self.owned()) == [PARTITIONS // len(self.servers)] * len(self.servers), "the partitions are dealt evenly")
        return self

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
        self.ledger: dict[tuple[str, str], list[tuple[str, str]]] = {}
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

    async def talk(self) -> None:
        while not self.stop.is_set():
            started = await self.insist("POST", "/api/onboarding/sessions", {"Idempotency-Key": uuid.uuid4().hex}, {})
            if started is None:
                return
            path, authorization = f"/api/onboarding/sessions/{started['session_id']}", {"Authorization": f"Bearer {started['token']}"}
            pairs = self.ledger[path, started["token"]] = []
            for n in range(8):
                message = f"My name is Ada Number{n} and this is {uuid.uuid4().hex}"
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
        self.thread = threading.Thread(target=self.run)

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


class ManyServers(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.broker = Broker()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.broker.close()

    def cluster(self, instances: int = 3) -> Cluster:
        cluster = Cluster(self.broker, f"cluster-{self._testMethodName[:60]}-{os.getpid()}", instances)
        self.addCleanup(cluster.close)
        return cluster

    def check(self, load: Load, server: Server) -> None:
        checked = 0
        for talker in load.talkers:
            self.assertEqual(talker.stale, [], f"seed {SEED}: a read showed less than was acknowledged before it")
            for (path, token), pairs in talker.ledger.items():
                lines, page = [], path + "/messages"
                while page:
                    answer = server.insist("GET", page, headers={"Authorization": f"Bearer {token}"}).json()
                    lines, page = lines + answer["messages"], answer.get("next")
                said = [line["text"] for line in lines if line["role"] == "user"]
                self.assertEqual(len(said), len(set(said)), f"seed {SEED}: doubled in {path}")
                self.assertEqual(said[:len(pairs)], [message for message, _ in pairs], f"seed {SEED}: lost or out of order in {path}")
                answers = {line["turn_id"]: line["text"] for line in lines if line["role"] == "assistant" and line.get("turn_id")}
                by_message = {line["text"]: answers.get(line["turn_id"]) for line in lines if line["role"] == "user"}
                for message, given in pairs:
                    self.assertEqual(by_message[message], given, f"seed {SEED}: another answer than was given in {path}")
                checked += len(pairs)
        told, cut = (sum(getattr(t, name) for t in load.talkers) for name in ("told_to_retry", "cut_off"))
        print(f"seed {SEED}: {checked} acknowledged messages, {told} requests told to retry, {cut} cut off", flush=True)
        self.assertGreater(checked, 50)

    def test_every_server_answers_for_every_session_alike(self):
        a, b, c = servers = self.cluster().start().servers
        sessions = [begin(server, user_id=f"person {n}") for n in range(6) for server in [random.choice(servers)]]
        for n, session in enumerate(sessions):
            for server in servers:
                self.assertEqual(server.insist("GET", session.path, headers=session.authorization).json()["status"], "active")
            key = session.authorization | {"Idempotency-Key": f"key-{n}"}
            first = servers[n % 3].request("POST", session.path + "/messages", {"message": "My name is Ada Lovelace"}, key)
            self.assertEqual(first.status, 200)
            for server in servers:
                again = server.request("POST", session.path + "/messages", {"message": "My name is Ada Lovelace"}, key)
                self.assertEqual((again.status, again.json()), (200, first.json()), "the same key on another server, the same answer")
                self.assertEqual(through(server, session).state()["version"], first.json()["version"])
                self.assertEqual(server.request("POST", session.path + "/messages", {"message": "Another"}, key).status, 422)
        starts = [server.request("POST", "/api/onboarding/sessions", {}, {"Idempotency-Key": "one-start"}).json() for server in servers]
        self.assertEqual(starts, [starts[0]] * 3)
        for server in servers:  # what is wrong is so everywhere
            self.assertEqual(server.request("GET", sessions[0].path).status, 401)
            self.assertEqual(server.request("GET", sessions[0].path, headers=sessions[1].authorization).status, 404)
            self.assertEqual(server.request("POST", sessions[0].path + "/messages", {"message": ""}, sessions[0].authorization).status, 422)

        # Somebody looks on through each of them.
        lookers = []
        for server in servers:
            connection = http.client.HTTPConnection(*server.address, timeout=60)
            connection.request("GET", sessions[0].path + "/stream", headers=sessions[0].authorization)
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/event-stream; charset=utf-8"))
            lookers.append((connection, answer))
        told = through(b, sessions[0]).told("ada@example.org")
        for connection, answer in lookers:
            line = answer.readline()
            while not line.startswith(b"data:") or told["turn_id"].encode() not in line:
                self.assertTrue(line, "the stream ended")
                line = answer.readline()
            connection.close()

        # A person is forgotten, exported and found through whichever server is asked.
        operator = {"Authorization": "Bearer " + a.operator_key()}
        mine = c.request("GET", "/api/users/person%201/export", headers=operator)
        self.assertEqual([s["session_id"] for s in mine.json()["sessions"]], [sessions[1].id])
        self.assertEqual(b.insist("DELETE", "/api/users/person%201", headers=operator).status, 200)
        for server in servers:
            self.assertEqual(server.request("GET", sessions[1].path, headers=sessions[1].authorization).status, 404)

    def test_the_internal_listener_is_for_servers_alone(self):
        cluster = self.cluster(1)
        cluster.servers[0].settings["cluster.listen"] = "127.0.0.1:0"
        server = cluster.start().servers[0]
        session = begin(server)
        shown = output_of("kcat", "-C", "-e", "-q", "-b", self.broker.brokers, "-t", server.settings["log.topic"] + "-owners", "-f", "%s\n")
        host, _, port = shown.splitlines()[-1].rpartition(":")
        for headers in (session.authorization, session.authorization | {"X-Onboarding-Instance": "0" * 32}):
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            connection.request("GET", session.path, headers=headers)
            self.assertEqual(connection.getresponse().status, 401)
            connection.close()

    def test_a_rolling_restart_under_load_fails_no_request_but_those_told_to_retry(self):
        cluster = self.cluster().start()
        with Load(cluster.servers) as load:
            for server in cluster.servers:
                others = [s for s in cluster.servers if s is not server]
                begun = time.monotonic()
                self.assertEqual(server.terminate(), 0)
                gone = time.monotonic()
                wait_until(lambda: cluster.all_owned_by(others), "the others have its partitions")
                load.progress(20)
                print(f"SIGTERM: gone after {gone - begun:.2f} s; clients waited {load.waits(begun, time.monotonic())}", flush=True)
                begun = time.monotonic()
                server.start()
                wait_until(lambda: cluster.all_owned_by(cluster.servers) and owned(server) > 0, "it has partitions again")
                load.progress(20)
                print(f"joined: clients waited {load.waits(begun, time.monotonic())}", flush=True)
        self.check(load, cluster.servers[0])

    def test_a_killed_server_and_a_frozen_one_lose_nothing_and_their_partitions_are_taken_over(self):
        cluster = self.cluster().start()
        killed, frozen, other = cluster.servers
        with Load(cluster.servers) as load:
            begun = time.monotonic()
            killed.kill()
            wait_until(lambda: cluster.all_owned_by([frozen, other]), "the others have its partitions")
            print(f"kill -9: taken over after {time.monotonic() - begun:.2f} s", flush=True)
            load.progress(40)
            print(f"kill -9: clients waited {load.waits(begun, time.monotonic())}", flush=True)
            killed.start()
            wait_until(lambda: owned(killed) > 0, "it has partitions again")
            load.progress(20)

            frozen.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: cluster.all_owned_by([killed, other]), "the others have the frozen one's partitions")
            load.progress(40)
            frozen.process.send_signal(signal.SIGCONT)
            wait_until(lambda: cluster.all_owned_by(cluster.servers) and owned(frozen) > 0, "it has noticed, and joined again")
            load.progress(40)
        self.assertIsNone(frozen.process.poll(), "it goes on serving")
        self.check(load, frozen)

    def test_servers_that_are_killed_again_and_again_lose_nothing(self):
        cluster, dice = self.cluster().start(), random.Random(SEED)
        with Load(cluster.servers) as load:
            kills, until = 0, time.monotonic() + CAMPAIGN_SECONDS
            while time.monotonic() < until:
                server = dice.choice(cluster.servers)
                server.kill()
                kills += 1
                load.progress(dice.randrange(30))
                server.start()
            wait_until(lambda: cluster.all_owned_by(cluster.servers), "all partitions are served")
            load.progress(20)
        print(f"{kills} kills", flush=True)
        self.check(load, cluster.servers[0])

    def test_a_flow_that_is_put_through_one_server_is_used_by_the_others(self):
        servers = self.cluster(2).start().servers
        flow = {"name": "short", "locale": "en", "greeting": "One question.", "fields": [{"name": "email", "type": "email", "label": "e-mail", "prompt": "Your e-mail?", "required": True}]}
        for version, server in enumerate(servers, 1):  # one of them has the partition that flows lie in
            put = server.request("PUT", "/api/admin/flows/short", flow | {"greeting": f"Question {version}."}, admin=True)
            self.assertIn(put.status, (200, 201), put)
            for each in servers:
                wait_until(lambda: begin(each, flow="short").started["response"].startswith(f"Question {version}."), "the new version is used")

    def models(self) -> StrictServer:
        models = StrictServer("--key", "sk-test", "--latency-ms", "10", "--no-limits")
        self.addCleanup(models.close)
        return models

    def test_a_pending_turn_is_taken_up_by_another_server_without_being_asked(self):
        models, cluster = self.models(), self.cluster(2)
        owner, other = cluster.start(models.environment("openai")).servers
        models.control("openai", latency_ms=60_000)
        session = begin(owner)  # without a name: of a partition of its own
        key, told = uuid.uuid4().hex, {}
        message = ("POST", session.path + "/messages", {"message": "My name is Ada Lovelace"}, session.authorization | {"Idempotency-Key": key})
        client = threading.Thread(target=lambda: told.update(answer=other.request(*message)))
        client.start()
        wait_until(lambda: models.stats("openai")["calls"] > 0, "the model was asked")
        owner.kill()
        models.control("openai", latency_ms=10)
        shown = ("kcat", "-C", "-e", "-q", "-b", self.broker.brokers, "-t", other.settings["log.topic"], "-f", "%k %s\n")
        wait_until(lambda: [line for line in output_of(*shown).splitlines() if line.startswith(session.id) and "LlmCallSucceeded" in line], "the turn goes on", pause=0.3)
        client.join()
        self.assertIn(told["answer"].status, (200, 202, 503))
        answer = other.insist(*message)
        self.assertEqual((answer.status, answer.json()["extracted"]), (200, {"full_name": "Ada Lovelace"}))
        self.assertEqual([line["text"] for line in through(other, session).conversation() if line["role"] == "user"], ["My name is Ada Lovelace"])

    def test_what_an_erased_person_asked_is_forgotten_by_servers_that_had_their_sessions_before(self):
        models, cluster = self.models(), self.cluster(3)
        third = cluster.servers.pop()
        first = cluster.start(models.environment("openai")).servers[0]
        question = "Which colours does the page come in, by the way?"

        def asks(partitions: range) -> tuple[Session, int]:
            """Somebody in one of the partitions asks; and how many calls that took."""
            while True:
                session = begin(first, user_id=f"person {uuid.uuid4().hex}")
                if int(session.id.split("_")[1]) in partitions:
                    before = models.stats("openai")["calls"]
                    session.told(question)
                    return session, models.stats("openai")["calls"] - before
        # Of two servers the first one has the partitions 0 to 5, of three 0 to 3.
        gone, calls = asks(range(4, 6))
        self.assertEqual(calls, 1)
        self.assertEqual(asks(range(4))[1], 0, "the answer is kept")
        cluster.servers.append(third)
        third.start(models.environment("openai"))
        wait_until(lambda: cluster.owned() == [4, 4, 4], "the third one has its share")
        self.assertEqual(asks(range(4))[1], 0, "the answer is kept")
        operator = {"Authorization": "Bearer " + first.operator_key()}
        path = "/api/users/" + gone.user_id.replace(" ", "%20")
        self.assertEqual(third.insist("DELETE", path, headers=operator).status, 200)
        wait_until(lambda: asks(range(4))[1] == 1, "it is asked for anew")

    def test_a_timer_of_a_killed_server_goes_on_at_another(self):
        cluster = self.cluster(2)
        for server in cluster.servers:
            server.settings["sessions.abandon_after_minutes"] = 0.1
        owner, other = cluster.start().servers
        session = begin(owner)  # without a name: of a partition of its own
        session.told("My name is Ada Lovelace")
        owner.kill()
        wait_until(lambda: owned(other) == PARTITIONS, "the other one has all partitions")
        heir = through(other, session)
        wait_until(lambda: heir.state()["status"] == "abandoned", "its timer goes on there")
        heir.told("ada@example.org")
        self.assertEqual(heir.state()["status"], "active")


def output_of(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


if __name__ == "__main__":
    unittest.main()

"""Histories of real sessions are linear: POSTs with unknown outcomes and GETs, through every server, while servers are killed; judged by
Porcupine (checker/). And the checker finds what it must: a stale read, a doubled message, a lost one."""
import asyncio
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest
import uuid

from harness import ROOT, Server, wait_until

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(ROOT / "tests/chaos"), str(ROOT / "tests/integration/kafka")]
from cluster import Cluster  # noqa: E402
from kafka_case import Broker  # noqa: E402
from test_kill import Gone, request  # noqa: E402

SEED = int(os.environ.get("ONBOARDING_SEED", time.time_ns() % 1_000_000))
SECONDS = float(os.environ.get("ONBOARDING_CAMPAIGN_SECONDS", "10"))
MESSAGES_A_SESSION = 30


def checker() -> pathlib.Path:
    """Built once for its sources, outside the tree; Porcupine's version and digest stand in go.sum."""
    sources = sorted((HERE / "checker").iterdir())
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "onboarding"
    built = cache / f"linear-{digest}"
    if not built.exists():
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
        if go is None:
            raise AssertionError("go builds the checker and is missing: infra/dev/install brings it")
        new = cache / f"{built.name}.{os.getpid()}"
        subprocess.run([go, "build", "-o", str(new), "."], cwd=HERE / "checker", check=True, env=os.environ | {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"})
        new.rename(built)
    return built


def judge(history: list[dict]) -> subprocess.CompletedProcess:
    return subprocess.run([str(checker())], input="".join(json.dumps(one) + "\n" for one in history), text=True, capture_output=True, timeout=300)


class Checker(unittest.TestCase):
    def history(self, *lines: tuple) -> list[dict]:
        """(op, call, return or None, texts)"""
        return [{"session": "s", "client": n, "op": op, "call": call} | ({} if end is None else {"return": end}) | ({"text": what} if op == "post" else {"texts": what})
                for n, (op, call, end, what) in enumerate(lines)]

    def test_an_order_that_explains_everything_is_found_also_where_a_post_was_never_answered(self):
        seen = self.history(("post", 1, 2, "a"), ("post", 3, None, "b"), ("get", 4, 5, ["a"]), ("get", 6, 7, ["a", "b"]), ("post", 3, 9, "c"), ("get", 10, 11, ["a", "b", "c"]))
        never = self.history(("post", 1, 2, "a"), ("post", 3, None, "b"), ("get", 4, 5, ["a"]))
        for history in (seen, never):
            done = judge(history)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_planted_faults_are_reported(self):
        posts = (("post", 1, 2, "a"), ("post", 3, 4, "b"))
        for name, read in {"a stale read": ["a"], "a doubled message": ["a", "b", "b"], "a lost message": ["b"], "another order": ["b", "a"], "one from nowhere": ["a", "b", "x"]}.items():
            done = judge(self.history(*posts, ("get", 5, 6, read)))
            self.assertEqual(done.returncode, 1, name + done.stderr)
            self.assertIn("s: not linear", done.stdout)
        done = judge(self.history(("post", 1, None, "a"), ("get", 2, 3, ["a"]), ("get", 4, 5, [])))
        self.assertEqual(done.returncode, 1, "what was seen once stays")

    def test_a_line_that_is_no_operation_is_refused(self):
        self.assertEqual(judge([{"session": "s", "op": "delete"}]).returncode, 2)


class History:
    """Writes down what clients of a few sessions did and were told. One clock for all."""

    def __init__(self, servers: list[Server], dice: random.Random) -> None:
        self.servers, self.dice, self.lines, self.stop = servers, dice, [], asyncio.Event()
        self.clients = 0

    async def ask(self, method: str, path: str, headers: dict, body=None) -> dict | None:
        try:
            status, answer = await request(self.dice.choice(self.servers), method, path, headers, body)
        except Gone:
            return None
        if status in (200, 201):
            return answer
        if status not in (202, 409, 429, 503):
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return None

    async def post(self, session: str, path: str, headers: dict, client: int) -> None:
        text = f"note {uuid.uuid4().hex[:8]}"
        line = {"session": session, "client": client, "op": "post", "text": text, "call": time.monotonic_ns()}
        self.lines.append(line)
        headers = headers | {"Idempotency-Key": text.replace(" ", "-")}
        # Now and then somebody gives up, at the first failure or before the answer: nobody knows what became of it.
        tries, patience = self.dice.choice((1, 200)), self.dice.random() * 0.01 if self.dice.random() < 0.1 else None
        while tries > 0:
            try:
                answer = await asyncio.wait_for(self.ask("POST", path, headers, {"message": text}), patience)
            except asyncio.TimeoutError:
                return
            if answer:
                line["return"] = time.monotonic_ns()
                return
            tries -= 1
            await asyncio.sleep(0.05)

    async def get(self, session: str, path: str, headers: dict, client: int) -> None:
        """A conversation has pages: one read only if it is one page."""
        line = {"session": session, "client": client, "op": "get", "call": time.monotonic_ns()}
        answer = await self.ask("GET", path + "?limit=200", headers)
        if answer is None:
            return
        if answer.get("next"):
            raise AssertionError("a session of this test has one page")
        line |= {"return": time.monotonic_ns(), "texts": [m["text"] for m in answer["messages"] if m["role"] == "user"]}
        self.lines.append(line)

    async def people(self) -> None:
        while not self.stop.is_set():
            started = await self.ask("POST", "/api/onboarding/sessions", {"Idempotency-Key": uuid.uuid4().hex}, {})
            if started is None:
                await asyncio.sleep(0.05)
                continue
            session, path = started["session_id"], f"/api/onboarding/sessions/{started['session_id']}/messages"
            headers = {"Authorization": f"Bearer {started['token']}"}

            async def one(what, times: int, client: int, pause: float) -> None:
                for _ in range(times):
                    if self.stop.is_set():
                        return
                    await what(session, path, headers, client)
                    await asyncio.sleep(self.dice.random() * pause)
            self.clients += 5
            mine = range(self.clients, self.clients + 5)
            await asyncio.gather(*(one(self.post, MESSAGES_A_SESSION // 3, n, 0.1) for n in mine[:3]), *(one(self.get, MESSAGES_A_SESSION, n, 0.05) for n in mine[3:]))


def campaign(servers: list[Server], meddle, dice: random.Random) -> list[dict]:
    async def run() -> list[dict]:
        history = History(servers, dice)
        going = [asyncio.create_task(history.people()) for _ in range(4)]
        await asyncio.to_thread(meddle)
        history.stop.set()
        await asyncio.gather(*going)
        return history.lines
    return asyncio.run(run())


class Linear(unittest.TestCase):
    def look(self, servers: list[Server], meddle) -> None:
        lines = campaign(servers, meddle, random.Random(SEED))
        done = judge(lines)
        unknown = sum("return" not in line for line in lines)
        print(f"seed {SEED}: {done.stdout.splitlines()[0]}, {unknown} posts of unknown outcome", flush=True)
        wrong = [line for line in lines if any(said.startswith(line["session"]) for said in done.stdout.splitlines())]
        self.assertEqual(done.returncode, 0, f"seed {SEED}: {done.stdout}{done.stderr}" + "".join(json.dumps(line) + "\n" for line in wrong))
        self.assertGreater(sum(line["op"] == "get" for line in lines), 50)
        self.assertGreater(sum(line["op"] == "post" for line in lines), 50)
        self.assertGreater(unknown, 0)
        # The same history with one read of somebody's past, or one message twice, is not. Before such a read another one had ended: while the
        # first post is still under way, nothing may well be what there is.
        shown = [line for line in lines if line["op"] == "get" and line["texts"]]
        reads = [line for line in shown if any(before["session"] == line["session"] and before["return"] < line["call"] for before in shown)]
        for planted in ([], lambda texts: texts + texts[-1:]):
            one = max(reads, key=lambda line: line["return"])
            changed = one | {"texts": planted(one["texts"]) if callable(planted) else planted}
            judged = judge([changed if line is one else line for line in lines if line["session"] == one["session"]])
            self.assertIn("not linear", judged.stdout)

    def kills(self, servers: list[Server]):
        dice, restarting = random.Random(SEED + 1), threading.Event()

        def meddle() -> None:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                restarting.wait(dice.uniform(1, 4))
                server = dice.choice(servers)
                server.kill()
                server.start()
        return meddle

    def test_one_server_on_the_embedded_log_that_is_killed_again_and_again(self):
        server = Server(settings={"sessions.passivate_after_seconds": 1})
        self.addCleanup(server.close)
        self.look([server.start()], self.kills([server]))

    def test_one_server_on_kafka_that_is_killed_again_and_again(self):
        broker = Broker()
        self.addCleanup(broker.close)
        server = Server(settings={"log.kind": "kafka", "log.brokers": broker.brokers, "log.partitions": 4, "sessions.passivate_after_seconds": 1, "log.session_timeout_seconds": 1.5})
        self.addCleanup(server.close)
        self.look([server.start()], self.kills([server]))

    def test_three_servers_on_kafka_of_which_one_after_the_other_is_killed_or_frozen(self):
        broker = Broker()
        self.addCleanup(broker.close)
        cluster = Cluster(broker, "linear")
        self.addCleanup(cluster.close)
        dice, pause = random.Random(SEED + 1), threading.Event()

        def meddle() -> None:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                server = dice.choice(cluster.servers)
                pause.wait(dice.uniform(0.5, 2))
                if dice.random() < 0.5:
                    server.kill()
                    server.start()
                    continue
                others = [each for each in cluster.servers if each is not server]
                server.process.send_signal(signal.SIGSTOP)
                wait_until(lambda: cluster.all_owned_by(others), "the others have its partitions")
                server.process.send_signal(signal.SIGCONT)
        self.look(cluster.start().servers, meddle)


if __name__ == "__main__":
    unittest.main()

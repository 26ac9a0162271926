"""kill -9 of the real server under load, again and again, against a ledger of acknowledged messages kept outside.

None lost: each acknowledged message and its answer stand in the conversation, with the words that were acknowledged.
None doubled: each message stands there once, however often it was repeated.
ONBOARDING_CAMPAIGN_SECONDS makes it longer; ONBOARDING_SEED repeats a run's choices.
"""
import asyncio
import json
import os
import random
import time
import unittest
import uuid

from harness import PATIENCE, Server

SECONDS = float(os.environ.get("ONBOARDING_CAMPAIGN_SECONDS", "40"))
SEED = int(os.environ.get("ONBOARDING_SEED", time.time_ns() % 1_000_000))
TALKERS, MESSAGES_A_SESSION = 24, 12


class Gone(Exception):
    """No whole answer came: the request may or may not have been carried out."""


async def request(server: Server, method: str, path: str, headers: dict[str, str], body=None) -> tuple[int, dict]:
    payload = b"" if body is None else json.dumps(body).encode()
    host, port = server.address
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
    except (OSError, asyncio.TimeoutError) as error:
        raise Gone from error
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *(f"{k}: {v}" for k, v in headers.items())]
        if payload:
            lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        return int(head.split()[1]), json.loads(await asyncio.wait_for(reader.readexactly(length), PATIENCE))
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, IndexError) as error:
        raise Gone from error
    finally:
        writer.close()


class Talker:
    """One person after another. What was acknowledged goes into the ledger, and only that."""

    def __init__(self, server: Server, stop: asyncio.Event) -> None:
        self.server, self.stop = server, stop
        self.ledger: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (path, token) → (message, answer)
        self.asked: dict[tuple[str, str], list[str]] = {}
        self.repeats = 0

    async def insist(self, path: str, headers: dict[str, str], body) -> dict | None:
        """Repeats with the same key until it is answered. None: the run ended before."""
        headers = headers | {"Idempotency-Key": uuid.uuid4().hex}
        tries = 0
        while True:
            try:
                status, answer = await request(self.server, "POST", path, headers, body)
                if status in (200, 201):
                    return answer
                if status not in (503, 429, 409, 202):
                    raise AssertionError(f"{status} {answer}")
            except Gone:
                pass
            if self.stop.is_set() and tries:
                return None
            tries += 1
            self.repeats += 1
            await asyncio.sleep(0.05)

    async def talk(self) -> None:
        while not self.stop.is_set():
            started = await self.insist("/api/onboarding/sessions", {}, {})
            if started is None:
                return
            session = (f"/api/onboarding/sessions/{started['session_id']}/messages", started["token"])
            self.ledger[session], self.asked[session] = [], []
            for n in range(MESSAGES_A_SESSION):
                message = f"My name is Ada Number{n} and this is {uuid.uuid4().hex}"
                self.asked[session].append(message)
                answer = await self.insist(session[0], {"Authorization": f"Bearer {session[1]}"}, {"message": message})
                if answer is None:
                    return
                self.ledger[session].append((message, answer["response"]))


async def conversation(server: Server, session: tuple[str, str]) -> list[dict]:
    lines, path = [], session[0]
    while path:
        status, page = await request(server, "GET", path, {"Authorization": f"Bearer {session[1]}"})
        assert status == 200, (status, page)
        lines += page["messages"]
        path = page.get("next")
    return lines


async def campaign(server: Server, seconds: float, choice: random.Random) -> tuple[list[Talker], int]:
    stop = asyncio.Event()
    talkers = [Talker(server, stop) for _ in range(TALKERS)]
    talking = [asyncio.create_task(t.talk()) for t in talkers]
    kills, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        before = sum(len(m) for t in talkers for m in t.ledger.values())
        deadline = time.monotonic() + PATIENCE
        while sum(len(m) for t in talkers for m in t.ledger.values()) < before + choice.randint(1, 200) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
            if any(task.done() and task.exception() for task in talking):
                await asyncio.gather(*talking)
        await asyncio.sleep(choice.random() * 0.05)
        server.kill()
        kills += 1
        await asyncio.to_thread(server.start)
    stop.set()
    await asyncio.gather(*talking)
    return talkers, kills


class KillUnderLoad(unittest.TestCase):
    def test_loses_nothing_acknowledged_and_doubles_nothing(self):
        print(f"seed {SEED}, {SECONDS:.0f} s", flush=True)
        server = Server(settings={"sessions.passivate_after_seconds": 1})
        self.addCleanup(server.close)
        server.start()
        talkers, kills = asyncio.run(campaign(server, SECONDS, random.Random(SEED)))
        acknowledged = repeats = 0
        for talker in talkers:
            repeats += talker.repeats
            for session, pairs in talker.ledger.items():
                lines = asyncio.run(conversation(server, session))
                said = [line["text"] for line in lines if line["role"] == "user"]
                self.assertEqual(len(said), len(set(said)), f"seed {SEED}: doubled in {session[0]}")
                self.assertEqual(said[:len(pairs)], [message for message, _ in pairs], f"seed {SEED}: lost or out of order in {session[0]}")
                self.assertLessEqual(set(said), set(talker.asked[session]))
                by_turn: dict[str, dict[str, str]] = {}
                for line in lines:
                    by_turn.setdefault(line.get("turn_id", ""), {})[line["role"]] = line["text"]
                answers = {turn["user"]: turn.get("assistant") for turn in by_turn.values() if "user" in turn}
                for message, answer in pairs:
                    self.assertEqual(answers[message], answer, f"seed {SEED}: another answer than was given in {session[0]}")
                versions = [line["version"] for line in lines]
                self.assertEqual(versions, sorted(versions))
                acknowledged += len(pairs)
        print(f"{kills} kills, {acknowledged} acknowledged messages, {repeats} requests repeated", flush=True)
        self.assertGreater(kills, 2)
        self.assertGreater(acknowledged, 100)
        self.assertGreater(repeats, 0, "no request met a kill: the test saw nothing")
        server.ctl("events", "verify")


if __name__ == "__main__":
    unittest.main()

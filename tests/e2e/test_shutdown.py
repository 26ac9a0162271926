"""SIGTERM while 256 keep-alive clients have turns in flight: each request is answered, or told 503 with Retry-After."""
import asyncio
import json
import os
import random
import signal
import unittest
import uuid

from harness import PATIENCE, Server

CLIENTS, ROUNDS = 256, int(os.environ.get("ONBOARDING_SHUTDOWN_ROUNDS", "10"))


class Client:
    """One keep-alive connection that speaks until it is told to go away."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.answered = self.refused = 0
        self.ended_in_order = False
        self.wrong: list[str] = []

    async def request(self, path: str, body: dict, token: str | None) -> tuple[int, dict[str, str], bytes] | None:
        payload = json.dumps(body).encode()
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.writer.write(f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n{authorization}"
                          f"Idempotency-Key: {uuid.uuid4().hex}\r\nContent-Length: {len(payload)}\r\n\r\n".encode() + payload)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
        return int(lines[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def begin(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        status, _, body = await self.request("/api/onboarding/sessions", {}, None)
        if status != 201:
            raise AssertionError(f"{status} {body!r}")
        started = json.loads(body)
        self.path, self.token = f"/api/onboarding/sessions/{started['session_id']}/messages", started["token"]

    async def speak(self, think: tuple[float, float] | None) -> None:
        for n in range(100_000):
            if think:
                await asyncio.sleep(random.uniform(*think))
                if self.reader.at_eof():  # it may ask elsewhere: nothing of it was lost
                    self.ended_in_order = True
                    return
            try:
                status, headers, body = await self.request(self.path, {"message": f"we are {n + 2} people"}, self.token)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.wrong.append(f"after {self.answered} answers: {error!r}")
                return
            if status == 200:
                self.answered += 1
                if headers.get("connection", "").lower() == "close":
                    self.ended_in_order = True
                    return
            elif status in (409, 422, 429):  # the session is full: it has said enough
                self.answered += 1
            elif status == 503:
                if "retry-after" not in headers:
                    self.wrong.append("503 without Retry-After")
                self.refused += 1
                self.ended_in_order = True
                return
            else:
                self.wrong.append(f"{status} {body[:200]!r}")
                return

    def close(self) -> None:
        self.writer.close()


async def one_round(server: Server, think: tuple[float, float] | None = None) -> tuple[list[Client], int]:
    host, port = server.address
    clients = [Client(host, port) for _ in range(CLIENTS)]
    for at in range(0, CLIENTS, 32):
        await asyncio.gather(*(c.begin() for c in clients[at:at + 32]))
    speaking = [asyncio.create_task(c.speak(think)) for c in clients]
    while sum(c.answered for c in clients) < CLIENTS:  # turns are in flight everywhere
        if all(task.done() for task in speaking):
            break
        await asyncio.sleep(0.005)
    server.process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(asyncio.gather(*speaking), PATIENCE)
    code = await asyncio.to_thread(server.process.wait, PATIENCE)
    for client in clients:
        client.close()
    return clients, code


class Shutdown(unittest.TestCase):
    def test_every_request_in_flight_is_answered_or_refused_in_order_ten_times(self):
        server = Server(settings={"sessions.max_messages": 100_000})
        self.addCleanup(server.close)
        for n in range(ROUNDS):
            server.start()
            clients, code = asyncio.run(one_round(server))
            wrong = [w for c in clients for w in c.wrong]
            print(f"round {n + 1}: {sum(c.answered for c in clients)} answered, {sum(c.refused for c in clients)} refused, {len(wrong)} wrong", flush=True)
            self.assertEqual(wrong[:5], [], server.log()[-1500:])
            self.assertEqual(code, 0)
            # Who is there when it ends is told so: by a 503, or by Connection: close on the answer.
            self.assertEqual(sum(c.ended_in_order for c in clients), CLIENTS)

    def test_nobody_who_pauses_between_two_messages_sends_one_without_an_answer(self):
        server = Server(settings={"sessions.max_messages": 100_000})
        self.addCleanup(server.close)
        for n in range(max(1, ROUNDS // 3)):
            server.start()
            clients, code = asyncio.run(one_round(server, think=(0.05, 1.5)))
            wrong = [w for c in clients for w in c.wrong]
            print(f"round {n + 1}: {sum(c.refused for c in clients)} refused, {len(wrong)} wrong", flush=True)
            self.assertEqual(wrong[:5], [], server.log()[-1500:])
            self.assertEqual(code, 0)
            self.assertEqual(sum(c.ended_in_order for c in clients), CLIENTS)

    def test_a_server_that_is_idle_ends_at_once_and_leaves_no_trace_of_running(self):
        with Server() as server:
            self.assertTrue((server.data / "running.toml").exists())
            self.assertEqual(server.terminate(), 0)
            self.assertFalse((server.data / "running.toml").exists())


if __name__ == "__main__":
    unittest.main()

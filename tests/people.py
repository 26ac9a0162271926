"""People who onboard, many at once, for tests and measurements: each starts a session, answers what is asked, waits patiently.

asyncio, one keep-alive connection each. A person whose request breaks off repeats it with the same Idempotency-Key, as a good client does.
"""
import asyncio
import json
import random
import time
import uuid
from urllib.parse import urlsplit

FIRST = "Ann Ben Cleo Dan Eva Finn Gwen Hugo Iris Jack Kate Liam Mona Nils Olga Paul Rosa Sven Tess Vera".split()
LAST = "Abbott Brandt Cole Duarte Eklund Fischer Garcia Hansen Ivanova Jensen Keller Larsen Moreau Novak Olsen Parker".split()
ROLES = "nurse,engineer,teacher,designer,founder,accountant,architect,researcher".split(",")
GOALS = ["plan shifts faster", "save time on reports", "keep our customers happy", "find errors sooner", "onboard new people well"]


def lines_of(number: int) -> dict[str, str]:
    """What somebody says for each of the six default fields."""
    dice = random.Random(number)
    first, last = dice.choice(FIRST), dice.choice(LAST)
    company = f"{dice.choice(LAST)} {dice.choice(['Labs', 'Works', 'Foods', 'Systems'])}"
    return {"full_name": f"I'm {first} {last}", "email": f"{first}.{last}.{number}@example.com".lower(), "company": f"I work at {company}",
            "role": f"I'm a {dice.choice(ROLES)}", "team_size": f"{dice.randint(2, 400)} people", "goal": f"We want to {dice.choice(GOALS)}"}


class Connection:
    """Bare HTTP/1.1 with keep-alive. Raises OSError when it breaks."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, body=None, headers: dict[str, str] | None = None, timeout: float = 60) -> tuple[int, dict[str, str], dict]:
        try:
            return await asyncio.wait_for(self._exchange(method, path, body, headers or {}), timeout)
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError, IndexError) as error:
            self.close()
            raise OSError(f"broken off: {type(error).__name__}") from error
        except OSError:
            self.close()
            raise

    async def _exchange(self, method: str, path: str, body, headers: dict[str, str]) -> tuple[int, dict[str, str], dict]:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        payload = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", *(f"{n}: {v}" for n, v in headers.items())]
        if body is not None:
            head += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
        self.writer.write("\r\n".join([*head, "", ""]).encode() + payload)
        first, *rest = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        got = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
        raw = await self.reader.readexactly(int(got.get("content-length", "0")))
        if got.get("connection", "").lower() == "close":
            self.close()
        return int(first.split(" ")[1]), got, json.loads(raw) if raw else {}

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Turn:
    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.answered: float | None = None
        self.statuses: list[int] = []
        self.eta_seconds: float | None = None  # as first told
        self.queued: float | None = None       # when it was told
        self.broken = 0                        # requests that broke off
        self.answer: dict = {}

    @property
    def seconds(self) -> float:
        return (self.answered or time.monotonic()) - self.asked


class Person:
    """One who wants to onboard at `url`. Refused with 429 or 503 it comes again after what Retry-After says."""

    def __init__(self, number: int, url: str, poll_seconds: float = 0.2, questions: dict[str, str] | None = None) -> None:
        self.number, self.url, self.poll_seconds = number, url, poll_seconds
        self.questions = dict(questions or {})  # by field: asked once, before that field is told
        self.lines = lines_of(number)
        self.connection = Connection(url)
        self.turns: list[Turn] = []
        self.said: list[str] = []
        self.session: dict = {}
        self.arrived: float | None = None
        self.finished: float | None = None

    async def insist(self, turn: Turn, method: str, path: str, body=None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], dict]:
        while True:
            try:
                status, got, answer = await self.connection.request(method, path, body, headers)
            except OSError:
                turn.broken += 1
                await asyncio.sleep(0.1)
                continue
            turn.statuses.append(status)
            if status not in (429, 503):
                return status, got, answer
            await asyncio.sleep(float(got.get("retry-after", "1")) * random.uniform(1, 1.2))

    async def start(self) -> None:
        self.arrived = time.monotonic()
        turn = Turn(self.arrived)
        status, _, self.session = await self.insist(turn, "POST", "/api/onboarding/sessions", {}, {"Idempotency-Key": uuid.uuid4().hex})
        if status != 201:
            raise AssertionError(f"no session: {status} {self.session}")
        self.path = f"/api/onboarding/sessions/{self.session['session_id']}"
        self.authorization = {"Authorization": "Bearer " + self.session["token"]}

    async def say(self, text: str) -> dict:
        turn = Turn(time.monotonic())
        self.turns.append(turn)
        self.said.append(text)
        status, got, answer = await self.insist(turn, "POST", self.path + "/messages", {"message": text},
                                                self.authorization | {"Idempotency-Key": uuid.uuid4().hex})
        while status == 202:
            if turn.queued is None:
                turn.queued, turn.eta_seconds = time.monotonic(), answer.get("eta_seconds")
            await asyncio.sleep(self.poll_seconds * random.uniform(0.8, 1.2))
            status, _, answer = await self.insist(turn, "GET", urlsplit(got["location"]).path, headers=self.authorization)
        if status != 200:
            raise AssertionError(f"person {self.number} was answered {status}: {answer}")
        turn.answered, turn.answer = time.monotonic(), answer
        return answer

    async def onboard(self, most_turns: int = 30) -> "Person":
        """Until all is said. Somebody whose message was not understood says it again."""
        await self.start()
        missing = self.session["missing"]
        while missing and len(self.turns) < most_turns:
            answer = await self.say(self.questions.pop(missing[0], self.lines[missing[0]]))
            missing = answer["missing"]
        if not missing:
            self.finished = time.monotonic()
        return self

    async def conversation(self) -> list[dict]:
        lines, path = [], self.path + "/messages"
        while path:
            status, _, page = await self.connection.request("GET", path, headers=self.authorization)
            if status != 200:
                raise AssertionError(f"no conversation: {status} {page}")
            lines += page["messages"]
            path = page.get("next")
        return lines

    def close(self) -> None:
        self.connection.close()


def onboard_all(people: list[Person], within_seconds: float = 0) -> list[Person]:
    """Runs them to their end; they arrive evenly within so many seconds."""
    async def one(i: int, person: Person) -> None:
        await asyncio.sleep(within_seconds * i / len(people))
        try:
            await person.onboard()
        finally:
            person.close()

    async def everybody() -> None:
        await asyncio.gather(*(one(i, p) for i, p in enumerate(people)))
    asyncio.run(everybody())
    return people


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

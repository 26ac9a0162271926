"""Starts the real programs for the tests that look at them from outside: e2e/ and chaos/.

A Server is one data folder: it can be started, killed and started again on it. Nothing of the caller's configuration
reaches it. Every wait has a deadline and a condition; none sleeps and hopes.
"""
import atexit
import contextlib
import functools
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("ONBOARDING_BUILD_DIR", ROOT / "build"))
# Under sanitizers and on a busy machine everything takes its time; a deadline is only there to end a hang.
PATIENCE = 60.0
# "kafka": the servers of the suites that are registered with it (`…_kafka`) have their log there.
LOG = os.environ.get("ONBOARDING_TEST_LOG", "sqlite")


def wait_until(condition, what: str, patience: float = PATIENCE, pause: float = 0.02):
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:.0f} s: {what}")
        time.sleep(pause)


def has_ended(pid: int) -> bool:
    """Where nobody reaps orphans, an ended process keeps its number, without a command line."""
    try:
        return not pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


_claims: list[socket.socket] = []


def free_port() -> int:
    """A port that is free and stays so while this process lives, also between a server's death and its next start.

    It lies below those that the kernel gives to outgoing connections, and a name in the abstract name space, which ends with
    this process, keeps it from every other test.
    """
    lowest_outgoing = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, lowest_outgoing - 12_000), lowest_outgoing)
        claim = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as s:
            claim.bind(f"\0onboarding-test-port.{port}")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            _claims.append(claim)
            return port
        claim.close()


def clean_environment() -> dict[str, str]:
    ours = ("ONBOARD_", "OPENAI_", "GEMINI_", "DEEPSEEK_", "ANTHROPIC_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)}


@functools.cache
def kafka_of_this_run() -> str:
    """The brokers that infra/test started, else one that ends with this process."""
    shared = os.environ.get("ONBOARD_TEST_KAFKA_BROKERS", "")
    if shared:
        return shared
    folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-kafka."))

    def broker(verb: str, *more: str) -> str:
        done = subprocess.run([str(ROOT / "infra/kafka/broker"), verb, str(folder / "kafka"), *more], text=True, capture_output=True)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done.stdout.strip()
    broker("start", "--throw-away")
    atexit.register(lambda: (broker("stop"), shutil.rmtree(folder, ignore_errors=True)))
    return broker("brokers")


def log_settings() -> dict[str, object]:
    """A log of its own, of the kind that the suite runs on."""
    if LOG != "kafka":
        return {}
    # What a server that was killed had is dealt to the next one after so long.
    return {"log.kind": "kafka", "log.brokers": kafka_of_this_run(), "log.topic": f"test-{uuid.uuid4().hex[:12]}", "log.session_timeout_seconds": 1.5}


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class Server:
    def __init__(self, folder: pathlib.Path | None = None, postgres_url: str = "", settings: dict[str, object] | None = None) -> None:
        self.owned = folder is None
        self.folder = folder or pathlib.Path(tempfile.mkdtemp(prefix="onboarding-e2e."))
        self.data = self.folder / "data"
        self.settings = {"http.listen": f"127.0.0.1:{free_port()}", "http.admin_listen": f"127.0.0.1:{free_port()}",
                         "throttle.requests_per_minute_per_ip": 0, "throttle.messages_per_minute_per_ip": 0} | log_settings()
        if postgres_url:
            self.settings["postgres.url"] = postgres_url
        self.settings |= settings or {}
        self.process: subprocess.Popen | None = None
        self.starts = 0

    # ---- life and death
    def command(self) -> list[str]:
        command = [str(BUILD / "onboardd"), "--data-dir", str(self.data)]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    def launch(self, environment: dict[str, str] | None = None) -> None:
        self.starts += 1
        with open(self.folder / f"server.{self.starts}.log", "wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env=clean_environment() | (environment or {}), start_new_session=True)

    def start(self, environment: dict[str, str] | None = None) -> "Server":
        self.launch(environment)
        wait_until(self._ready_or_dead, "the server is ready")
        return self

    def _ready_or_dead(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()[-2000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/readyz").status == 200
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, patience: float = PATIENCE) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
        if self.owned:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, kind, value, trace) -> None:
        if kind is not None:
            print(f"---- the server's last words\n{self.log()[-3000:]}", flush=True)
        self.close()

    def log(self) -> str:
        return (self.folder / f"server.{self.starts}.log").read_text(errors="replace")

    # ---- talking to it
    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.settings["http.listen"].rpartition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        return "http://" + self.settings["http.listen"]

    def request(self, method: str, path: str, body=None, headers: dict[str, str] | None = None, admin: bool = False, timeout: float = PATIENCE) -> Answer:
        host, _, port = self.settings["http.admin_listen" if admin else "http.listen"].rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        try:
            all_headers = dict(headers or {})
            payload = None
            if body is not None:
                payload = json.dumps(body).encode()
                all_headers["Content-Type"] = "application/json"
            if admin:
                all_headers["Authorization"] = "Bearer " + self.operator_key()
            connection.request(method, path, payload, all_headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def operator_key(self) -> str:
        return (self.data / "operator.key").read_text().strip()

    def insist(self, *arguments, **named) -> Answer:
        """Repeats a request over lost connections and 503, as a client should."""
        def attempt():
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self.request(*arguments, **named)
                return answer if answer.status not in (503, 429) else None
        return wait_until(attempt, f"an answer to {arguments}", pause=0.05)

    def begin(self, **body) -> "Session":
        answer = self.request("POST", "/api/onboarding/sessions", body)
        assert answer.status == 201, answer
        return Session(self, answer.json())

    def ctl(self, *arguments: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run([str(BUILD / "onboardctl"), "--data-dir", str(self.data), *arguments], input=text, text=True,
                              capture_output=True, env=clean_environment(), timeout=PATIENCE)
        if check and done.returncode != 0:
            raise AssertionError(f"onboardctl {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done


class Session:
    def __init__(self, server: Server, started: dict) -> None:
        self.server, self.started = server, started
        self.id, self.token, self.user_id = started["session_id"], started["token"], started["user_id"]
        self.path = f"/api/onboarding/sessions/{self.id}"
        self.authorization = {"Authorization": f"Bearer {self.token}"}

    def say(self, text: str, key: str | None = None) -> Answer:
        return self.server.request("POST", self.path + "/messages", {"message": text}, self.authorization | {"Idempotency-Key": key or uuid.uuid4().hex})

    def told(self, text: str, key: str | None = None) -> dict:
        answer = self.say(text, key)
        assert answer.status == 200, answer
        return answer.json()

    def state(self) -> dict:
        answer = self.server.request("GET", self.path, headers=self.authorization)
        assert answer.status == 200, answer
        return answer.json()

    def conversation(self) -> list[dict]:
        lines, path = [], self.path + "/messages"
        while path:
            answer = self.server.request("GET", path, headers=self.authorization)
            assert answer.status == 200, answer
            page = answer.json()
            lines += page["messages"]
            path = page.get("next")
        return lines

    def profile(self, position: str, wait_ms: int = 10_000) -> Answer:
        return self.server.request("GET", f"/api/users/{self.user_id}/profile?min_position={position}&wait_ms={wait_ms}", headers=self.authorization)


class Postgres:
    """A private PostgreSQL that a test may stop and start; for most tests a database of the shared one is enough."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-pg."))
        os.chmod(self.folder, 0o755)
        self.start()

    def _do(self, action: str, *more: str) -> str:
        done = subprocess.run([str(ROOT / "infra/dev/postgres"), action, str(self.folder / "db"), *more], text=True, capture_output=True)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done.stdout.strip()

    def start(self) -> None:
        self._do("start", "--throw-away")

    def stop(self) -> None:
        self._do("stop")

    @property
    def url(self) -> str:
        return self._do("url")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def postgres_program(name: str) -> str:
    """Debian's servers have some of theirs outside the path."""
    return shutil.which(name) or f"/usr/lib/postgresql/15/bin/{name}"


def psql(url: str, statement: str) -> str:
    done = subprocess.run([postgres_program("psql"), url, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement], text=True, capture_output=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


@functools.cache
def postgres_of_this_run() -> str:
    """The one that infra/test started, else one that ends with this process."""
    shared = os.environ.get("ONBOARD_TEST_POSTGRES_URL", "")
    if shared:
        return shared
    private = Postgres()
    atexit.register(private.close)
    return private.url


class Database:
    """A database of its own, dropped at the end."""

    def __init__(self) -> None:
        self.admin = postgres_of_this_run()
        self.name = "e2e_" + uuid.uuid4().hex[:12]
        psql(self.admin, f"CREATE DATABASE {self.name}")
        self.url = re.sub(r"^(postgres(?:ql)?://[^/]*/)[^?]*", rf"\g<1>{self.name}", self.admin)

    def query(self, statement: str) -> str:
        return psql(self.url, statement)

    def close(self) -> None:
        psql(self.admin, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")


class WithDatabase(unittest.TestCase):
    """A case with a database of its own and a server on it."""

    settings: dict[str, object] = {}

    def setUp(self) -> None:
        self.database = Database()
        self.addCleanup(self.database.close)
        self.server = Server(postgres_url=self.database.url, settings=dict(self.settings))
        self.addCleanup(self.server.close)
        self.server.start()

"""What the tests on a real broker share: the broker, alone or three of them, behind a proxy if wanted; what its topic says to a reader that is
not ours; and the comparison of what people were told with what stands there."""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import ROOT, Server, free_port, has_ended, wait_until

READER = ROOT / "infra/docs/read_kafka.py"
SEED = int(os.environ.get("ONBOARDING_SEED", time.time_ns() % 1_000_000))


class Broker:
    def __init__(self, nodes: int = 1) -> None:
        self.folder, self.nodes = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-kafka.")), nodes
        self.do("start", "--throw-away", "--nodes", str(nodes))
        self.brokers = self.do("brokers")

    def do(self, verb: str, *more: str) -> str:
        done = subprocess.run([str(ROOT / "infra/kafka/broker"), verb, str(self.folder / "kafka"), *more], text=True, capture_output=True)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done.stdout.strip()

    def start(self, *more: str) -> None:
        """What does not run of it."""
        self.do("start", *more)

    def kill(self, *nodes: int) -> None:
        processes = [int(self.do("pid", str(node))) for node in nodes or (1,)]
        for process in processes:
            os.kill(process, signal.SIGKILL)
        for process in processes:
            wait_until(lambda: has_ended(process), "the broker is dead")

    def close(self) -> None:
        """At once: nodes that end in order wait for one another, and nobody needs what they have."""
        for node in range(1, self.nodes + 1):
            with contextlib.suppress(AssertionError):  # it does not run
                self.kill(node)
        self.do("stop")
        shutil.rmtree(self.folder, ignore_errors=True)


class Proxy:
    """A TCP proxy whose connections hang, are cut, or are slow, as it is told."""

    def __init__(self, port: int, upstream: int) -> None:
        self.upstream, self.delay_seconds, self.bytes_at_once = upstream, 0.0, 65536
        self.refusing = False
        self.flowing = threading.Event()  # cleared: bytes are held back, as by a network that hangs
        self.flowing.set()
        self.answering = threading.Event()  # cleared: only those of the upstream are
        self.answering.set()
        self._lock, self._open = threading.Lock(), set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                # Whatever becomes of this connection, the next one is accepted.
                with contextlib.suppress(OSError):
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            if self.refusing:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self.upstream))
        except OSError:
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        for source, target, gates in ((client, server, (self.flowing,)), (server, client, (self.flowing, self.answering))):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass_on, args=(source, target, gates), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, gates: tuple) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(self.bytes_at_once):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                for gate in gates:
                    gate.wait()
                target.sendall(piece)
        self._cut({source, target})

    def _cut(self, sockets: set) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RD)  # wakes whoever reads it, and says nothing to the other end
            one.close()
        with self._lock:
            self._open -= sockets

    def cut_all(self) -> None:
        with self._lock:
            sockets = set(self._open)
        self._cut(sockets)

    def reset_all(self) -> None:
        """As cut_all, and both ends are told that it was no proper end; what was on its way is gone."""
        with self._lock:
            sockets = set(self._open)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._cut(sockets)

    def heal(self) -> None:
        self.delay_seconds, self.bytes_at_once, self.refusing = 0.0, 65536, False
        self.flowing.set()
        self.answering.set()

    def close(self) -> None:
        self.heal()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()


class ProxiedBroker(Broker):
    """Has a second listener that says a proxy's address for its own: who comes to `proxied` comes through the proxy, who comes to `brokers` does not."""

    def __init__(self) -> None:
        super().__init__()
        self.do("stop")
        own, port = free_port(), free_port()
        self.proxied = f"127.0.0.1:{port}"
        properties = self.folder / "kafka/node-1/server.properties"
        text = properties.read_text()
        for setting, more in {"listeners": f"PROXIED://127.0.0.1:{own}", "advertised.listeners": f"PROXIED://{self.proxied}",
                              "listener.security.protocol.map": "PROXIED:PLAINTEXT"}.items():
            text = re.sub(rf"^({re.escape(setting)}=.*)$", rf"\1,{more}", text, flags=re.MULTILINE)
        properties.write_text(text)
        self.proxy = Proxy(port, own)
        self.start()

    def close(self) -> None:
        self.proxy.close()
        super().close()


def python_with_kafka() -> dict[str, str]:
    """The environment in which the reader's library is found: installed once, pinned, outside the tree."""
    wanted = READER.with_name("read_kafka.requirements.txt")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "onboarding"
    folder = cache / f"python-{hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        new = cache / f"{folder.name}.{os.getpid()}"
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(new), "-r", str(wanted)], check=True)
        new.rename(folder)
    return os.environ | {"PYTHONPATH": str(folder)}


class BrokerCase(unittest.TestCase):
    """A case on a broker of its own, for all its tests."""

    @classmethod
    def make_broker(cls) -> Broker:
        return Broker()

    @classmethod
    def setUpClass(cls) -> None:
        cls.broker = cls.make_broker()
        cls.addClassCleanup(cls.broker.close)

    @property
    def topic(self) -> str:
        return f"{self._testMethodName[:80]}-{os.getpid()}"

    def assert_others_read_the_same(self, server: Server) -> list[tuple]:
        """What the server's own tool exports, from its cache, is what the topic says to a stranger."""
        done = subprocess.run([sys.executable, str(READER), self.broker.brokers, server.settings["log.topic"]], text=True, capture_output=True,
                              env=python_with_kafka(), timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        read = sorted((e["partition"], e["sequence"], e["stream"], e["type"]) for e in map(json.loads, done.stdout.splitlines()))

        def exported() -> list[tuple]:
            lines = [json.loads(line) for line in server.ctl("events", "export").stdout.splitlines()]
            return sorted((e["partition"], int(e["sequence"]), e["subject"], e["type"]) for e in lines)
        with contextlib.suppress(AssertionError):  # another server's partitions are read a moment later
            wait_until(lambda: len(exported()) >= len(read), "all is exported", pause=0.2)
        self.assertEqual(exported(), read)
        return read

    def assert_kept(self, server: Server, ledger: dict[tuple[str, str], list[tuple[str, str]]], unsure: set[str] = frozenset()) -> int:
        """Everything that was acknowledged stands in its conversation, once and in order, with the answer that was given. `ledger`: (path of the
        messages, token) → (message, answer); `unsure`: messages of which nobody was told what became of them, and which were said once. Returns how many."""
        acknowledged = 0
        for (path, token), pairs in ledger.items():
            lines, page = [], path
            while page:
                answer = server.insist("GET", page, headers={"Authorization": f"Bearer {token}"}).json()
                lines, page = lines + answer["messages"], answer.get("next")
            said = [line["text"] for line in lines if line["role"] == "user"]
            self.assertEqual(len(said), len(set(said)), f"seed {SEED}: doubled in {path}")
            kept = [text for text in said if text not in unsure]
            self.assertEqual(kept[:len(pairs)], [message for message, _ in pairs], f"seed {SEED}: lost or out of order in {path}")
            answers = {line["turn_id"]: line["text"] for line in lines if line["role"] == "assistant" and line.get("turn_id")}
            turns = {line["text"]: line["turn_id"] for line in lines if line["role"] == "user"}
            for message, given in pairs:
                self.assertEqual(answers.get(turns[message]), given, f"seed {SEED}: another answer than was given in {path}")
            acknowledged += len(pairs)
        return acknowledged

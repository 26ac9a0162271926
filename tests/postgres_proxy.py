"""A proxy between the server and PostgreSQL that understands just enough of the protocol to cut a connection around a commit.

A batch of the read models' writer ends with Sync, which commits; its answer is ReadyForQuery. `fate`, asked at each Sync of a batch that
moves checkpoints, says what becomes of it; None lets it pass.
"""
import contextlib
import pathlib
import shutil
import socket
import struct
import tempfile
import threading

BEFORE_SYNC = "the commit never arrives"
AFTER_SYNC = "the commit is on its way"
BEFORE_ANSWER = "it is committed, and nobody is told"
FATES = (BEFORE_SYNC, AFTER_SYNC, BEFORE_ANSWER)
MOVES = b"move_checkpoints\0"


class Proxy:
    def __init__(self, upstream: pathlib.Path) -> None:
        """`upstream`: PostgreSQL's socket."""
        self.upstream = str(upstream)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-proxy."))
        self.fate = lambda: None
        self.delay_seconds = 0.0          # of each read from either side
        self.cuts = dict.fromkeys(FATES, 0)
        self._lock = threading.Lock()
        self._open: set["Link"] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / ".s.PGSQL.5432"))
        self._listener.listen(64)
        self.flowing = threading.Event()  # cleared: bytes are held back, as by a network that hangs
        self.flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"postgresql:///onboarding?host={self.folder}&user=postgres"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self.upstream)
                except OSError:
                    client.close()
                    continue
                link = Link(self, client, server)
                with self._lock:
                    self._open.add(link)
                link.start()

    def forget(self, link: "Link") -> None:
        with self._lock:
            self._open.discard(link)

    def count(self, fate: str) -> None:
        with self._lock:
            self.cuts[fate] += 1

    def cut_all(self) -> None:
        with self._lock:
            links = list(self._open)
        for link in links:
            link.cut()

    def close(self) -> None:
        self.flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        shutil.rmtree(self.folder, ignore_errors=True)


class Link:
    """One connection: two threads, one a direction, message by message."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.moves = self.cut_at_ready = False

    def start(self) -> None:
        for work in (self._from_client, self._from_server):
            threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work) -> None:
        with contextlib.suppress(OSError, EOFError):
            work()
        self.cut()

    def cut(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
        self.proxy.forget(self)

    def _exactly(self, side: socket.socket, size: int) -> bytes:
        read = bytearray()
        while len(read) < size:
            part = side.recv(size - len(read))
            if not part:
                raise EOFError
            read += part
        return bytes(read)

    def _message(self, side: socket.socket) -> tuple[bytes, bytes]:
        head = self._exactly(side, 5)
        body = self._exactly(side, struct.unpack("!I", head[1:])[0] - 4)
        if self.proxy.delay_seconds:
            threading.Event().wait(self.proxy.delay_seconds)
        self.proxy.flowing.wait()
        return head[:1], head + body

    def _from_client(self) -> None:
        size = self._exactly(self.client, 4)  # the first message has no type
        self.server.sendall(size + self._exactly(self.client, struct.unpack("!I", size)[0] - 4))
        while True:
            kind, message = self._message(self.client)
            if kind == b"B" and MOVES in message[:64]:
                self.moves = True
            fate = self.proxy.fate() if kind == b"S" and self.moves else None
            if fate == BEFORE_SYNC:
                self.proxy.count(fate)
                return
            if fate == BEFORE_ANSWER:
                self.cut_at_ready = True
            self.server.sendall(message)
            if fate == AFTER_SYNC:
                self.proxy.count(fate)
                return

    def _from_server(self) -> None:
        while True:
            kind, message = self._message(self.server)
            if kind == b"Z":
                if self.cut_at_ready:
                    self.proxy.count(BEFORE_ANSWER)
                    return
                self.moves = False
            self.client.sendall(message)

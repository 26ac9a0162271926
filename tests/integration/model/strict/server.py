"""HTTP/1.1 on asyncio, bare: a request is answered by a script, which is what makes every misbehaviour easy to write.

A script is an iterator of steps: bytes are written, a number is a pause in seconds, and CLOSE, RESET, HANG end it.
"""
import asyncio
import email.utils
import socket
import struct
from typing import Callable, Iterable, NamedTuple

CLOSE, RESET, HANG = object(), object(), object()
MAX_HEAD, MAX_BODY = 64 << 10, 32 << 20
REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
           411: "Length Required", 413: "Payload Too Large", 422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error",
           503: "Service Unavailable", 504: "Gateway Timeout", 529: ""}


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    steps: Iterable
    ended: Callable[[bool], None] = lambda whole: None  # once: True when all of it was written


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, '')}", "date: " + email.utils.formatdate(usegmt=True), *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def whole(status: int, payload: bytes, headers: dict[str, str]) -> bytes:
    return head(status, {**headers, "content-length": str(len(payload))}) + payload


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    def __init__(self, handle: Callable[[Request], Reply], everybody: set["Connection"]) -> None:
        self.handle, self.everybody = handle, everybody
        self.received = bytearray()
        self.reply: Reply | None = None
        self.steps = iter(())
        self.timer: asyncio.TimerHandle | None = None
        self.paused = self.waits_for_room = self.promised = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.everybody.add(self)

    def connection_lost(self, error) -> None:
        self.everybody.discard(self)
        self._end(False)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.reply is None:
            self._next()

    def _next(self) -> None:
        while self.reply is None and (request := self._read()):
            self.reply = self.handle(request)
            self.steps = iter(self.reply.steps)
            self._run()

    def _read(self) -> Request | None:
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            if len(self.received) > MAX_HEAD:
                self.transport.abort()
            return None
        first, *lines = self.received[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, path, *_ = (first + "  ").split(" ")
        length = headers.get("content-length", "0" if method == "GET" else "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.transport.write(whole(411 if not length.isdigit() else 413, b"", {"connection": "close"}))
            self.transport.close()
            self.received.clear()
            return None
        if len(self.received) < end + 4 + int(length):
            if "100-continue" in headers.get("expect", "") and not self.promised:
                self.promised = True
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        self.promised = False
        body = bytes(self.received[end + 4:end + 4 + int(length)])
        del self.received[:end + 4 + int(length)]
        return Request(method, path, headers, body)

    def _run(self) -> None:
        self.timer = None
        for step in self.steps:
            if isinstance(step, bytes):
                self.transport.write(step)
                if self.paused:
                    self.waits_for_room = True
                    return
            elif step is HANG:
                return
            elif step is CLOSE or step is RESET:
                if step is RESET:
                    self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.transport.abort()
                else:
                    self.transport.close()
                return
            elif step > 0:
                self.timer = asyncio.get_running_loop().call_later(step, self._resume)
                return
        self._end(True)

    def _resume(self) -> None:
        if self.reply is not None:
            self._run()
            self._next()

    def _end(self, complete: bool) -> None:
        if self.timer:
            self.timer.cancel()
        if reply := self.reply:
            self.reply = None
            reply.ended(complete)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.waits_for_room:
            self.waits_for_room = False
            asyncio.get_running_loop().call_soon(self._resume)  # asyncio cannot close a transport that is just writing


class Listener:
    """A port that can be closed, with all that is connected to it, and opened again. It listens as soon as open() returns."""

    def __init__(self, handle: Callable[[Request], Reply], host: str, port: int = 0) -> None:
        self.handle, self.host, self.port = handle, host, port
        self.serving: asyncio.Task | None = None
        self.connections: set[Connection] = set()

    def open(self) -> None:
        if self.serving is None:
            self.socket = socket.create_server((self.host, self.port), backlog=4096)
            self.port = self.socket.getsockname()[1]
            loop = asyncio.get_running_loop()
            self.serving = loop.create_task(loop.create_server(lambda: Connection(self.handle, self.connections), sock=self.socket))

    def refuse(self) -> None:
        if self.serving is not None:
            if self.serving.done():
                self.serving.result().close()
            self.serving.cancel()
            self.serving = None
            self.socket.close()
        for connection in list(self.connections):
            connection.transport.abort()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

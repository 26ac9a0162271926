"""The network between server and broker: cut, hanging, slow, and a producer queue that is full; under load. After each nothing acknowledged is lost, nothing doubled, the topic says the same to a stranger, and the read models
are the fold."""
import asyncio
import contextlib
import pathlib
import re
import socket
import sys
import threading
import time
import unittest

import fold
from harness import Database, Server, free_port

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import test_kafka_server as alone  # noqa: E402
import test_kill  # noqa: E402


class Proxy:
    """A TCP proxy whose connections hang, are cut, or are slow, as it is told."""

    def __init__(self, port: int, upstream: int) -> None:
        self.upstream, self.delay_seconds, self.bytes_at_once = upstream, 0.0, 65536
        self.refusing = False
        self.flowing = threading.Event()  # cleared: bytes are held back, as by a network that hangs
        self.flowing.set()
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
        for source, target in ((client, server), (server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(self.bytes_at_once):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                self.flowing.wait()
                target.sendall(piece)
        self._cut({source, target})

    def _cut(self, sockets: set) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        with self._lock:
            self._open -= sockets

    def cut_all(self) -> None:
        with self._lock:
            sockets = set(self._open)
        self._cut(sockets)

    def close(self) -> None:
        self.flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()


class ProxiedBroker(alone.Broker):
    """Says the proxy's address for its own, so that clients come through it."""

    def __init__(self) -> None:
        super().__init__()
        self.do("stop")
        properties = self.folder / "kafka/node-1/server.properties"
        text, port = properties.read_text(), free_port()
        own = int(re.search(r"^advertised\.listeners=.*:(\d+)$", text, re.MULTILINE)[1])
        properties.write_text(re.sub(r"^(advertised\.listeners=.*:)\d+$", rf"\g<1>{port}", text, flags=re.MULTILINE))
        self.proxy = Proxy(port, own)
        self.start()
        self.brokers = f"127.0.0.1:{port}"

    def close(self) -> None:
        self.proxy.close()
        super().close()


class Network(unittest.TestCase):
    exported, read_by_others, check = alone.KafkaServer.exported, alone.KafkaServer.read_by_others, alone.KafkaServer.check

    @classmethod
    def setUpClass(cls) -> None:
        cls.broker = ProxiedBroker()
        cls.addClassCleanup(cls.broker.close)

    def server_with(self, *client: str) -> Server:
        self.database = Database()
        self.addCleanup(self.database.close)
        self.topic = f"net-{self._testMethodName[:60]}"
        settings = {"log.kind": "kafka", "log.brokers": self.broker.brokers, "log.topic": self.topic, "log.partitions": 4}
        if client:
            settings["log.client"] = ",".join(client)
        self.server = Server(postgres_url=self.database.url, settings=settings)
        self.addCleanup(self.server.close)
        return self.server.start()

    def talk_while(self, meddle, talkers_count: int = 8) -> int:
        """People talk while `meddle` goes on in a thread, and a moment longer; then everything is compared."""
        async def talk():
            end = asyncio.Event()
            talkers = [test_kill.Talker(self.server, end) for _ in range(talkers_count)]
            talking = [asyncio.create_task(t.talk()) for t in talkers]
            try:
                await asyncio.to_thread(meddle)
                await asyncio.sleep(1)
            finally:
                proxy = self.broker.proxy
                proxy.delay_seconds, proxy.bytes_at_once, proxy.refusing = 0.0, 65536, False
                proxy.flowing.set()
                end.set()
                await asyncio.gather(*talking)
            return talkers

        acknowledged = self.check(asyncio.run(talk()))
        self.assertEqual(self.exported(), self.read_by_others())
        fold.assert_follows(self.server, self.database.url, 60)
        self.assertIsNone(self.server.process.poll())
        return acknowledged

    def test_a_network_that_is_cut_hangs_and_comes_back(self):
        proxy = self.broker.proxy

        def meddle():
            for refuse, hang, seconds in ((True, False, 2), (False, True, 3), (True, True, 7), (False, False, 1)):
                proxy.refusing = refuse
                if refuse:
                    proxy.cut_all()
                if hang:
                    proxy.flowing.clear()
                time.sleep(seconds)
                proxy.refusing = False
                proxy.flowing.set()
                time.sleep(1)
        self.server_with()
        self.assertGreater(self.talk_while(meddle), 20)

    def test_a_slow_broker_and_a_producer_queue_that_is_full(self):
        proxy = self.broker.proxy

        def meddle():
            proxy.delay_seconds = 0.03
            time.sleep(6)
            proxy.bytes_at_once = 512
            time.sleep(3)
        self.server_with("queue.buffering.max.messages=2")
        self.assertGreater(self.talk_while(meddle, 16), 20)


if __name__ == "__main__":
    unittest.main()

"""The network between server and broker: cut, hanging, slow, and a producer queue that is full; under load. After each nothing acknowledged is lost, nothing doubled, the topic says the same to a stranger, and the read models
are the fold."""
import asyncio
import pathlib
import sys
import threading
import time
import unittest

import fold
from harness import ROOT, Database, Server

sys.path[:0] = [str(ROOT / "tests/chaos"), str(pathlib.Path(__file__).parent)]
import test_kill  # noqa: E402
from kafka_case import BrokerCase, ProxiedBroker  # noqa: E402


class Network(BrokerCase):
    make_broker = ProxiedBroker

    def server_with(self, *client: str) -> Server:
        self.database = Database()
        self.addCleanup(self.database.close)
        settings = {"log.kind": "kafka", "log.brokers": self.broker.proxied, "log.topic": self.topic, "log.partitions": 4}
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
                self.broker.proxy.heal()
                end.set()
                await asyncio.gather(*talking)
            return talkers

        acknowledged = sum(self.assert_kept(self.server, talker.ledger) for talker in asyncio.run(talk()))
        self.assert_others_read_the_same(self.server)
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

    def voided(self) -> float:
        scraped = self.server.request("GET", "/metrics", admin=True).body.decode()
        return sum(float(line.rpartition(" ")[2]) for line in scraped.splitlines() if line.startswith("onboarding_kafka_messages_read_total{") and "void" in line)

    def reset_again_and_again(self) -> None:
        """What was sent has arrived, and the answer never comes: it is sent again, behind others that were under way."""
        proxy, pause = self.broker.proxy, threading.Event()
        for _ in range(12):
            proxy.answering.clear()
            pause.wait(0.15)
            proxy.reset_all()
            proxy.answering.set()
            pause.wait(0.3)

    def test_connections_that_are_reset_while_a_producer_without_idempotence_runs_double_and_reorder_nothing_that_counts(self):
        self.server_with("enable.idempotence=false")
        self.assertGreater(self.talk_while(self.reset_again_and_again), 20)
        self.assertGreater(self.voided(), 0, "nothing was sent twice: the test saw nothing")

    def test_connections_that_are_reset_while_an_idempotent_producer_runs_double_and_reorder_nothing(self):
        self.server_with("enable.idempotence=true")
        self.assertGreater(self.talk_while(self.reset_again_and_again), 20)


if __name__ == "__main__":
    unittest.main()

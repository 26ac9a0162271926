"""What befalls several servers at once: a group that is never settled, brokers that are restarted, one of them cut off from the broker. Under load,
with a ledger kept outside; after each nothing acknowledged is lost, nothing doubled, what the topic says to a stranger is the same, and the read
models are the fold."""
import collections
import pathlib
import random
import signal
import sys
import threading
import time
import unittest

import fold
from harness import Database, Server, Session, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cluster import CAMPAIGN_SECONDS, Cluster, ClusterCase, Load, begin  # noqa: E402
from kafka_case import SEED, Broker, ProxiedBroker  # noqa: E402

DISTURBANCES = ("leave", "die", "freeze")


class FaultCase(ClusterCase):
    def cluster(self, **settings) -> Cluster:
        database = Database()
        self.addCleanup(database.close)
        self.database_url = database.url
        return super().cluster(postgres__url=database.url, **settings)

    def check(self, load: Load, server: Server) -> None:
        super().check(load, server)
        self.assert_others_read_the_same(server)
        fold.assert_follows(server, self.database_url, 60)


class OneBroker(FaultCase):
    make_broker = ProxiedBroker

    def test_servers_that_leave_die_and_freeze_without_a_pause_lose_nothing_and_double_nothing(self):
        cluster, pause, done, failed = self.cluster(log__session_timeout_seconds=1.5).start(), threading.Event(), collections.Counter(), []

        def unsettle(server: Server, dice: random.Random, what: str, until: float) -> None:
            while time.monotonic() < until:
                pause.wait(dice.uniform(0, 1))
                if server.process.poll() is not None:
                    return failed.append(f"ended with {server.process.returncode}: {server.log()[-1000:]}")
                if what == "freeze":  # for less than the group's patience, or for more
                    server.process.send_signal(signal.SIGSTOP)
                    pause.wait(dice.uniform(0.3, 3))
                    server.process.send_signal(signal.SIGCONT)
                else:
                    if what == "die":
                        server.kill()
                    elif (ended := server.terminate()) not in (0, -signal.SIGTERM):  # the latter before it listens to signals
                        return failed.append(f"ended with {ended} after SIGTERM: {server.log()[-1000:]}")
                    server.launch()
                done[what] += 1
                what = dice.choice(DISTURBANCES)

        with Load(cluster.servers) as load:
            until = time.monotonic() + CAMPAIGN_SECONDS
            unsettling = [threading.Thread(target=unsettle, args=(server, random.Random(SEED + n), DISTURBANCES[n], until)) for n, server in enumerate(cluster.servers)]
            for each in unsettling:
                each.start()
            for each in unsettling:
                each.join()
            self.assertEqual(failed, [], f"seed {SEED}")
            self.assertEqual(set(done), set(DISTURBANCES))
            for server in cluster.servers:
                wait_until(server._ready_or_dead, "every server is ready")
            wait_until(lambda: cluster.all_owned_by(cluster.servers), "all partitions are served")
            load.progress(20)
        print(f"seed {SEED}: {dict(done)}", flush=True)
        self.check(load, cluster.servers[0])

    def test_a_server_that_is_cut_off_from_the_broker_answers_nothing_that_the_others_do_not_know_and_comes_back(self):
        cluster, proxy = self.cluster(), self.broker.proxy
        cut, *others = cluster.servers
        cut.settings["log.brokers"] = self.broker.proxied
        cluster.start()
        session = begin(cut)  # without a name: of a partition of its own
        with Load(cluster.servers) as load:
            for number, cut_it in enumerate((self.refuse, proxy.flowing.clear)):
                cut_it()
                wait_until(lambda: cluster.all_owned_by(others), "the others have its partitions")
                said = f"My name is Ada Number{number}"
                self.assertIn(others[0].insist("POST", session.path + "/messages", {"message": said}, session.authorization | {"Idempotency-Key": said.replace(" ", "-")}).status, (200, 202))
                gone = self.begun_in_the_partition_of(session, others[0], f"person {number}")
                wait_until(lambda: cut.request("GET", "/readyz").status == 503, "it knows that the broker does not answer")
                erase = ("DELETE", "/api/users/" + gone.user_id.replace(" ", "%20"))
                operator = {"Authorization": "Bearer " + cut.operator_key()}
                for asked in (("GET", session.path, None, session.authorization), ("POST", session.path + "/messages", {"message": "Who knows of this?"}, session.authorization),
                              (*erase, None, operator)):
                    self.assertEqual(cut.request(*asked).status, 503, asked[:2])
                load.progress(20)
                proxy.heal()
                cluster.await_even_deal()
                texts = [line["text"] for line in cut.insist("GET", session.path + "/messages", headers=session.authorization).json()["messages"]]
                self.assertIn(said, texts)
                self.assertNotIn("Who knows of this?", texts)
                self.assertEqual(cut.insist(*erase, headers=operator).status, 200)
                self.assertEqual(others[0].insist("GET", gone.path, headers=gone.authorization).status, 404)
                load.progress(20)
        self.assertIsNone(cut.process.poll())
        self.check(load, cut)

    def refuse(self) -> None:
        self.broker.proxy.refusing = True
        self.broker.proxy.cut_all()

    @staticmethod
    def begun_in_the_partition_of(session: Session, server: Server, name: str) -> Session:
        while True:
            begun = begin(server, user_id=f"{name} {random.getrandbits(32)}")
            if begun.id.split("_")[1] == session.id.split("_")[1]:
                return begun


class ThreeBrokers(FaultCase):
    @classmethod
    def make_broker(cls) -> Broker:
        return Broker(3)

    def test_brokers_of_which_one_is_restarted_and_then_all_are_killed_lose_nothing(self):
        cluster = self.cluster().start()
        with Load(cluster.servers) as load:
            self.broker.do("stop", "--node", "1")
            load.progress(20)
            self.broker.start("--node", "1")
            self.broker.kill(1, 2, 3)
            self.broker.start()
            wait_until(lambda: cluster.all_owned_by(cluster.servers), "all partitions are served")
            load.progress(40)
        for server in cluster.servers:
            self.assertIsNone(server.process.poll(), server.log()[-1000:])
        self.check(load, cluster.servers[0])


if __name__ == "__main__":
    unittest.main()

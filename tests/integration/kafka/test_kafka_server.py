"""The whole server on a real broker: talked to, killed, frozen, its broker killed and restarted, its cache deleted. After each
nothing acknowledged is lost, nothing doubled; and what the topic says to a reader that is not ours is the same."""
import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import BUILD, ROOT, Server, clean_environment, free_port, has_ended, wait_until

sys.path[:0] = [str(ROOT / "tests/chaos"), str(pathlib.Path(__file__).parent)]
import test_kill  # noqa: E402
from kafka_case import SEED, BrokerCase, python_with_kafka  # noqa: E402


class KafkaServer(BrokerCase):
    def setUp(self) -> None:
        self.server = self.server_in(None)

    def server_in(self, folder: pathlib.Path | None) -> Server:
        server = Server(folder, settings={"log.kind": "kafka", "log.brokers": self.broker.brokers, "log.topic": self.topic, "log.partitions": 4,
                                          "sessions.passivate_after_seconds": 1, "log.session_timeout_seconds": 1.5})
        self.addCleanup(server.close)
        return server

    def produce(self, key: str, headers: dict[str, str]) -> None:
        arguments = [part for name, value in headers.items() for part in ("-H", f"{name}={value}")]
        subprocess.run(["kcat", "-P", "-b", self.broker.brokers, "-t", self.topic, "-p", "0", "-k", key, *arguments], input='{"format":1,"events":[]}', text=True, check=True)

    def check(self, talkers) -> int:
        return sum(self.assert_kept(self.server, talker.ledger) for talker in talkers)

    def test_a_conversation_survives_the_death_of_server_and_broker_and_others_read_the_same_log(self):
        server = self.server.start()
        session = server.begin()
        session.told("My name is Ada Lovelace")
        server.kill()
        server.start()
        session.told("I am 36 years old")
        self.broker.kill()
        wait_until(lambda: session.say("ada@example.org").status == 503, "a request that the silent broker refuses")
        wait_until(lambda: server.request("GET", "/readyz").status == 503, "not ready without a broker")
        self.broker.start()
        wait_until(lambda: server.request("GET", "/readyz").status == 200, "ready again")
        answer = server.insist("POST", session.path + "/messages", {"message": "ada@example.org"}, session.authorization | {"Idempotency-Key": "again"})
        self.assertIn(answer.status, (200, 202))
        said = [line["text"] for line in session.conversation() if line["role"] == "user"]
        self.assertEqual(said[:2], ["My name is Ada Lovelace", "I am 36 years old"])
        self.assertIn("ada@example.org", said)

        # What nobody counts: not an entry, an entry of nobody's claim, a claim out of turn.
        self.produce("junk", {})
        self.produce("ses_x", {"kind": "events", "claim": "ab" * 16, "record": "cd" * 16, "sequence": "1", "version": "1", "count": "1", "flags": "0", "due": "0", "time": "0"})
        self.produce("0", {"kind": "claim", "claim": "ab" * 16, "epoch": "999"})
        session.told("36")
        self.assertGreater(len(self.assert_others_read_the_same(self.server)), 10)

        shown = subprocess.run(["kcat", "-C", "-e", "-q", "-b", self.broker.brokers, "-t", self.topic, "-f", "%k %h %s\n"], text=True, capture_output=True, check=True).stdout
        mine = [line for line in shown.splitlines() if line.startswith(session.id)]
        self.assertTrue(mine)
        headers, _, value = mine[0].removeprefix(session.id + " ").partition(" ")
        self.assertRegex(headers, r"^kind=events,claim=[0-9a-f]{32},record=[0-9a-f]{32},sequence=\d+,version=1,count=\d+,flags=[0-3],due=\d+,time=\d+$")
        self.assertEqual(json.loads(value)["events"][0]["type"], "SessionStarted")

    def test_kill_9_of_the_server_under_load_loses_nothing_acknowledged_and_doubles_nothing(self):
        self.server.start()
        talkers, kills = asyncio.run(test_kill.campaign(self.server, 15, random.Random(SEED)))
        acknowledged = self.check(talkers)
        print(f"seed {SEED}: {kills} kills, {acknowledged} acknowledged messages", flush=True)
        self.assertGreater(kills, 1)
        self.assertGreater(acknowledged, 50)
        self.assert_others_read_the_same(self.server)

    def test_a_crash_at_each_step_of_an_append_loses_nothing_and_doubles_nothing(self):
        server = self.server.start()
        session = server.begin()
        said = []
        for point in ("kafka.before_send=crash@30", "kafka.before_commit=crash@8", "kafka.after_commit_before_ack=crash@8", "kafka.producer_fails=error@40,kafka.before_commit=crash@9"):
            server.kill()
            server.launch({"ONBOARD_FAULT": point})
            wait_until(lambda: server.process.poll() is not None or self.is_ready(server), "ready, or dead")
            said.append(f"this is met by {point}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                while server.process.poll() is None:
                    session.say(said[-1], point)
                    server.begin()
            self.assertEqual(server.process.wait(60), -9, server.log()[-500:])
            server.start()
            answer = server.insist("POST", session.path + "/messages", {"message": said[-1]}, session.authorization | {"Idempotency-Key": point})
            self.assertEqual(answer.status, 200)
        self.assertEqual([line["text"] for line in session.conversation() if line["role"] == "user"], said)
        self.assert_others_read_the_same(self.server)

    @staticmethod
    def is_ready(server: Server) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return server.request("GET", "/readyz").status == 200
        return False

    def test_a_cache_deleted_under_load_and_a_frozen_server_lose_nothing(self):
        server = self.server.start()
        stop = threading.Event()

        def meddle():
            for n in range(6):
                stop.wait(1.5)
                if n % 2 == 0:
                    for file in (server.data / "log").glob("kafka-cache.db*"):
                        if file.suffix != ".lock":
                            file.unlink(missing_ok=True)
                else:
                    os.kill(server.process.pid, signal.SIGSTOP)
                    stop.wait(0.5)
                    os.kill(server.process.pid, signal.SIGCONT)

        meddler = threading.Thread(target=meddle)
        meddler.start()

        async def talk():
            end = asyncio.Event()
            talkers = [test_kill.Talker(server, end) for _ in range(8)]
            talking = [asyncio.create_task(t.talk()) for t in talkers]
            await asyncio.to_thread(meddler.join)
            end.set()
            await asyncio.gather(*talking)
            return talkers

        talkers = asyncio.run(talk())
        self.assertGreater(self.check(talkers), 20)
        self.assertIn("the cache was deleted: it was written again", server.log())
        self.assert_others_read_the_same(self.server)

    def test_another_server_with_the_same_master_key_goes_on_from_kafka_alone_and_one_with_another_is_refused(self):
        first = self.server.start()
        kept, gone = first.begin(), first.begin()
        kept.told("My name is Ada Lovelace")
        gone.told("My name is Grace Hopper")
        self.assertEqual(first.request("DELETE", f"/api/users/{gone.user_id}", headers=gone.authorization).status, 200)
        self.assertEqual(first.terminate(), 0)
        second = self.server_in(None)
        second.data.mkdir(parents=True, exist_ok=True)
        refused = subprocess.run(second.command(), text=True, capture_output=True, timeout=60)
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertIn("copy master.key and operator.key", refused.stderr)
        (second.data / "master.key").write_text("ab" * 32 + "\n")
        (second.data / "master.key").chmod(0o600)
        refused = subprocess.run(second.command(), text=True, capture_output=True, timeout=60)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("wrapped by another master.key", refused.stderr)
        for name in ("master.key", "operator.key"):
            shutil.copy(first.data / name, second.data / name)
        second.start()
        kept.server = gone.server = second
        self.assertEqual([line["text"] for line in kept.conversation() if line["role"] == "user"], ["My name is Ada Lovelace"])
        kept.told("I am 36 years old")
        self.assertEqual(second.insist("GET", gone.path, headers=gone.authorization).status, 404)
        # Its copy of the keys goes under it: it is read anew, and nobody is forgotten.
        for file in second.data.glob("keys.db*"):
            if file.suffix != ".lock":
                file.unlink()
        wait_until(lambda: (second.data / "keys.db").exists(), "keys.db is written anew")
        second.begin().told("I am 40 years old")
        time.sleep(1.1)  # the session leaves memory
        self.assertEqual(len(kept.conversation()), 5)
        self.assertEqual(second.terminate(), 0)

    def test_keys_of_an_embedded_store_are_moved_into_the_topic_at_the_first_start(self):
        server = self.server.start()
        session = server.begin()
        session.told("My name is Ada Lovelace")
        self.assertEqual(server.terminate(), 0)
        # As it was before keys lay in Kafka: a store of its own, and no topic.
        with contextlib.closing(sqlite3.connect(server.data / "keys.db")) as keys:
            keys.executescript("DELETE FROM meta WHERE name NOT IN ('check', 'erasures', 'scrub_pending'); DROP TABLE dead;")
        delete = "import sys, confluent_kafka.admin as a; c = a.AdminClient({'bootstrap.servers': sys.argv[1]}); c.delete_topics([sys.argv[2]])[sys.argv[2]].result()"
        subprocess.run([sys.executable, "-c", delete, self.broker.brokers, f"{self.topic}-keys"], env=python_with_kafka(), check=True, timeout=60)
        server.start()
        self.assertIn("keys of keys.db are in the topic", server.log())
        self.assertFalse(list(server.data.glob("keys.db.embedded*")))
        session.told("I am 36 years old")
        self.assertEqual(len(session.conversation()), 5)
        self.assertIn("key ", subprocess.run(["kcat", "-C", "-e", "-q", "-b", self.broker.brokers, "-t", f"{self.topic}-keys", "-f", "%k\n"], text=True, capture_output=True, check=True).stdout)

    def test_says_when_a_client_setting_is_none(self):
        done = subprocess.run([*self.server.command(), "--set", "log.client=nonsense"], text=True, capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("is not name=value", done.stderr)


@unittest.skipUnless(BUILD == ROOT / "build", "the scripts use build/")
class Script(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-run."))
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.environment = clean_environment() | {"ONBOARD_DATA_DIR": str(self.folder / "data"), "ONBOARD_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
                                                  "ONBOARD_HTTP_ADMIN_LISTEN": f"127.0.0.1:{free_port()}", "ONBOARD_LOG_SESSION_TIMEOUT_SECONDS": "1.5"}
        self.addCleanup(self.script, "stop")
        self.server = Server(self.folder)
        self.server.settings |= {"http.listen": self.environment["ONBOARD_HTTP_LISTEN"], "http.admin_listen": self.environment["ONBOARD_HTTP_ADMIN_LISTEN"]}

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([str(ROOT / "infra" / name), *arguments], text=True, capture_output=True, env=self.environment, timeout=300)

    def test_run_with_kafka_starts_its_own_broker_and_goes_on_with_it(self):
        begun = self.script("run", "--kafka", "--detach")
        self.assertEqual(begun.returncode, 0, begun.stderr)
        session = self.server.begin()
        session.told("My name is Ada Lovelace")
        self.assertEqual(self.script("stop").returncode, 0)
        self.assertFalse(list((self.folder / "data/kafka").glob("node-*/pid")), "the broker was stopped too")
        again = self.script("run", "--detach")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("going on with --kafka", again.stderr)
        self.assertIn("My name is Ada Lovelace", [line["text"] for line in session.conversation()])

    def test_run_with_instances_starts_servers_behind_a_balancer_and_one_may_die(self):
        begun = self.script("run", "--kafka", "--instances", "2", "--detach")
        self.assertEqual(begun.returncode, 0, begun.stderr)
        pids = [int(file.read_text()) for file in sorted(self.server.data.glob("server-*/onboardd.pid"))]
        self.assertEqual(len(pids), 2)
        session = self.server.begin()
        session.told("My name is Ada Lovelace")
        position = session.state()["position"]
        profile = session.profile(position)
        self.assertEqual((profile.status, profile.json()["fields"]), (200, {"full_name": "Ada Lovelace"}), "the read models follow")
        self.assertEqual(self.server.ctl("model", "status").returncode, 0, "operators reach it through the balancer")
        os.kill(pids[0], signal.SIGKILL)
        posted = ("POST", session.path + "/messages", {"message": "ada@example.org"}, session.authorization | {"Idempotency-Key": "one"})
        # The balancer, too, may say that it does not know what became of a request: the client comes again.
        wait_until(lambda: self.server.insist(*posted).status == 200, "the message is answered")
        said = self.server.insist("GET", session.path + "/messages", headers=session.authorization).json()["messages"]
        self.assertEqual([line["text"] for line in said if line["role"] == "user"], ["My name is Ada Lovelace", "ada@example.org"])
        self.assertEqual(self.script("stop").returncode, 0)
        for pid in pids:
            self.assertTrue(has_ended(pid), "the servers have ended")
        self.assertFalse(list((self.folder / "data/kafka").glob("node-*/pid")))


if __name__ == "__main__":
    unittest.main()

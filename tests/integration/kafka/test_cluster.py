"""Three servers on one log: any of them answers for all, partitions move when one comes, goes, dies or freezes, and nothing that was
acknowledged is lost, doubled or answered differently. On a broker of its own, so that seconds are enough to notice a death."""
import http.client
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import unittest
import uuid

from harness import ROOT, Server, Session, wait_until

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(ROOT / "tests/integration/model")]
from cluster import CAMPAIGN_SECONDS, PARTITIONS, ClusterCase, Load, begin, owned, through  # noqa: E402
from kafka_case import SEED  # noqa: E402
from strict_client import StrictServer  # noqa: E402


class ManyServers(ClusterCase):
    def test_every_server_answers_for_every_session_alike(self):
        a, b, c = servers = self.cluster().start().servers
        sessions = [begin(server, user_id=f"person {n}") for n in range(6) for server in [random.choice(servers)]]
        for n, session in enumerate(sessions):
            for server in servers:
                self.assertEqual(server.insist("GET", session.path, headers=session.authorization).json()["status"], "active")
            key = session.authorization | {"Idempotency-Key": f"key-{n}"}
            first = servers[n % 3].request("POST", session.path + "/messages", {"message": "My name is Ada Lovelace"}, key)
            self.assertEqual(first.status, 200)
            for server in servers:
                again = server.request("POST", session.path + "/messages", {"message": "My name is Ada Lovelace"}, key)
                self.assertEqual((again.status, again.json()), (200, first.json()), "the same key on another server, the same answer")
                self.assertEqual(through(server, session).state()["version"], first.json()["version"])
                self.assertEqual(server.request("POST", session.path + "/messages", {"message": "Another"}, key).status, 422)
        starts = [server.request("POST", "/api/onboarding/sessions", {}, {"Idempotency-Key": "one-start"}).json() for server in servers]
        self.assertEqual(starts, [starts[0]] * 3)
        for server in servers:  # what is wrong is so everywhere
            self.assertEqual(server.request("GET", sessions[0].path).status, 401)
            self.assertEqual(server.request("GET", sessions[0].path, headers=sessions[1].authorization).status, 404)
            self.assertEqual(server.request("POST", sessions[0].path + "/messages", {"message": ""}, sessions[0].authorization).status, 422)

        # Somebody looks on through each of them.
        lookers = []
        for server in servers:
            connection = http.client.HTTPConnection(*server.address, timeout=60)
            connection.request("GET", sessions[0].path + "/stream", headers=sessions[0].authorization)
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/event-stream; charset=utf-8"))
            lookers.append((connection, answer))
        told = through(b, sessions[0]).told("ada@example.org")
        for connection, answer in lookers:
            line = answer.readline()
            while not line.startswith(b"data:") or told["turn_id"].encode() not in line:
                self.assertTrue(line, "the stream ended")
                line = answer.readline()
            connection.close()

        # A person is forgotten, exported and found through whichever server is asked.
        operator = {"Authorization": "Bearer " + a.operator_key()}
        mine = c.request("GET", "/api/users/person%201/export", headers=operator)
        self.assertEqual([s["session_id"] for s in mine.json()["sessions"]], [sessions[1].id])
        self.assertEqual(b.insist("DELETE", "/api/users/person%201", headers=operator).status, 200)
        for server in servers:
            self.assertEqual(server.request("GET", sessions[1].path, headers=sessions[1].authorization).status, 404)

    def test_the_internal_listener_is_for_servers_alone(self):
        cluster = self.cluster(1)
        cluster.servers[0].settings["cluster.listen"] = "127.0.0.1:0"
        server = cluster.start().servers[0]
        session = begin(server)
        shown = output_of("kcat", "-C", "-e", "-q", "-b", self.broker.brokers, "-t", server.settings["log.topic"] + "-owners", "-f", "%s\n")
        host, _, port = shown.splitlines()[-1].rpartition(":")
        for headers in (session.authorization, session.authorization | {"X-Onboarding-Instance": "0" * 32}):
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            connection.request("GET", session.path, headers=headers)
            self.assertEqual(connection.getresponse().status, 401)
            connection.close()

    def test_a_rolling_restart_under_load_fails_no_request_but_those_told_to_retry(self):
        cluster = self.cluster().start()
        with Load(cluster.servers) as load:
            for server in cluster.servers:
                others = [s for s in cluster.servers if s is not server]
                begun = time.monotonic()
                self.assertEqual(server.terminate(), 0)
                gone = time.monotonic()
                wait_until(lambda: cluster.all_owned_by(others), "the others have its partitions")
                load.progress(20)
                print(f"SIGTERM: gone after {gone - begun:.2f} s; clients waited {load.waits(begun, time.monotonic())}", flush=True)
                begun = time.monotonic()
                server.start()
                wait_until(lambda: cluster.all_owned_by(cluster.servers) and owned(server) > 0, "it has partitions again")
                load.progress(20)
                print(f"joined: clients waited {load.waits(begun, time.monotonic())}", flush=True)
        self.check(load, cluster.servers[0])

    def test_a_killed_server_and_a_frozen_one_lose_nothing_and_their_partitions_are_taken_over(self):
        cluster = self.cluster().start()
        killed, frozen, other = cluster.servers
        with Load(cluster.servers) as load:
            begun = time.monotonic()
            killed.kill()
            wait_until(lambda: cluster.all_owned_by([frozen, other]), "the others have its partitions")
            print(f"kill -9: taken over after {time.monotonic() - begun:.2f} s", flush=True)
            load.progress(40)
            print(f"kill -9: clients waited {load.waits(begun, time.monotonic())}", flush=True)
            killed.start()
            wait_until(lambda: owned(killed) > 0, "it has partitions again")
            load.progress(20)

            frozen.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: cluster.all_owned_by([killed, other]), "the others have the frozen one's partitions")
            load.progress(40)
            frozen.process.send_signal(signal.SIGCONT)
            wait_until(lambda: cluster.all_owned_by(cluster.servers) and owned(frozen) > 0, "it has noticed, and joined again")
            load.progress(40)
        self.assertIsNone(frozen.process.poll(), "it goes on serving")
        self.check(load, frozen)

    def test_servers_that_are_killed_again_and_again_lose_nothing(self):
        cluster, dice = self.cluster().start(), random.Random(SEED)
        with Load(cluster.servers) as load:
            kills, until = 0, time.monotonic() + CAMPAIGN_SECONDS
            while time.monotonic() < until:
                server = dice.choice(cluster.servers)
                server.kill()
                kills += 1
                load.progress(dice.randrange(30))
                server.start()
            wait_until(lambda: cluster.all_owned_by(cluster.servers), "all partitions are served")
            load.progress(20)
        print(f"{kills} kills", flush=True)
        self.check(load, cluster.servers[0])

    def test_a_flow_that_is_put_through_one_server_is_used_by_the_others(self):
        servers = self.cluster(2).start().servers
        flow = {"name": "short", "locale": "en", "greeting": "One question.", "fields": [{"name": "email", "type": "email", "label": "e-mail", "prompt": "Your e-mail?", "required": True}]}
        for version, server in enumerate(servers, 1):  # one of them has the partition that flows lie in
            put = server.request("PUT", "/api/admin/flows/short", flow | {"greeting": f"Question {version}."}, admin=True)
            self.assertIn(put.status, (200, 201), put)
            for each in servers:
                wait_until(lambda: self.greeting_of("short", each).startswith(f"Question {version}."), "the new version is used")

    @staticmethod
    def greeting_of(flow: str, server: Server) -> str:
        """Empty where the flow is not known yet."""
        answer = server.insist("POST", "/api/onboarding/sessions", {"flow": flow})
        return answer.json()["response"] if answer.status == 201 else ""

    def models(self) -> StrictServer:
        models = StrictServer("--key", "sk-test", "--latency-ms", "10", "--no-limits")
        self.addCleanup(models.close)
        return models

    def test_a_pending_turn_is_taken_up_by_another_server_without_being_asked(self):
        models, cluster = self.models(), self.cluster(2)
        owner, other = cluster.start(models.environment("openai")).servers
        models.control("openai", latency_ms=60_000)
        session = begin(owner)  # without a name: of a partition of its own
        key, told = uuid.uuid4().hex, {}
        message = ("POST", session.path + "/messages", {"message": "My name is Ada Lovelace"}, session.authorization | {"Idempotency-Key": key})
        client = threading.Thread(target=lambda: told.update(answer=other.request(*message)))
        client.start()
        wait_until(lambda: models.stats("openai")["calls"] > 0, "the model was asked")
        owner.kill()
        models.control("openai", latency_ms=10)
        shown = ("kcat", "-C", "-e", "-q", "-b", self.broker.brokers, "-t", other.settings["log.topic"], "-f", "%k %s\n")
        wait_until(lambda: [line for line in output_of(*shown).splitlines() if line.startswith(session.id) and "LlmCallSucceeded" in line], "the turn goes on", pause=0.3)
        client.join()
        self.assertIn(told["answer"].status, (200, 202, 503))
        answer = other.insist(*message)
        self.assertEqual((answer.status, answer.json()["extracted"]), (200, {"full_name": "Ada Lovelace"}))
        self.assertEqual([line["text"] for line in through(other, session).conversation() if line["role"] == "user"], ["My name is Ada Lovelace"])

    def test_what_an_erased_person_asked_is_forgotten_by_servers_that_had_their_sessions_before(self):
        models, cluster = self.models(), self.cluster(3)
        third = cluster.servers.pop()
        first = cluster.start(models.environment("openai")).servers[0]
        question = "Which colours does the page come in, by the way?"

        def asks(partitions: range) -> tuple[Session, int]:
            """Somebody in one of the partitions asks; and how many calls that took."""
            while True:
                session = begin(first, user_id=f"person {uuid.uuid4().hex}")
                if int(session.id.split("_")[1]) in partitions:
                    before = models.stats("openai")["calls"]
                    session.told(question)
                    return session, models.stats("openai")["calls"] - before
        # Of two servers the first one has the partitions 0 to 5, of three 0 to 3.
        gone, calls = asks(range(4, 6))
        self.assertEqual(calls, 1)
        self.assertEqual(asks(range(4))[1], 0, "the answer is kept")
        cluster.servers.append(third)
        third.start(models.environment("openai"))
        wait_until(lambda: cluster.owned() == [4, 4, 4], "the third one has its share")
        self.assertEqual(asks(range(4))[1], 0, "the answer is kept")
        operator = {"Authorization": "Bearer " + first.operator_key()}
        path = "/api/users/" + gone.user_id.replace(" ", "%20")
        self.assertEqual(third.insist("DELETE", path, headers=operator).status, 200)
        wait_until(lambda: asks(range(4))[1] == 1, "it is asked for anew")

    def test_a_timer_of_a_killed_server_goes_on_at_another(self):
        cluster = self.cluster(2)
        for server in cluster.servers:
            server.settings["sessions.abandon_after_minutes"] = 0.1
        owner, other = cluster.start().servers
        session = begin(owner)  # without a name: of a partition of its own
        session.told("My name is Ada Lovelace")
        owner.kill()
        wait_until(lambda: owned(other) == PARTITIONS, "the other one has all partitions")
        heir = through(other, session)
        wait_until(lambda: heir.state()["status"] == "abandoned", "its timer goes on there")
        heir.told("ada@example.org")
        self.assertEqual(heir.state()["status"], "active")


def output_of(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


if __name__ == "__main__":
    unittest.main()

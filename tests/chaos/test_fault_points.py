"""A crash at each fault point that the server names: what was acknowledged before is there afterwards, and the message
that met the crash is answered once when it is repeated."""
import contextlib
import http.client
import subprocess
import unittest
import uuid

from harness import BUILD, Database, Server, clean_environment, wait_until


def fault_points() -> list[str]:
    return subprocess.run([str(BUILD / "onboardd"), "--fault-points"], text=True, capture_output=True, env=clean_environment(), check=True).stdout.split()


class CrashAtEachFaultPoint(unittest.TestCase):
    def test_loses_nothing_acknowledged_and_answers_the_repeated_message_once(self):
        database = Database()
        self.addCleanup(database.close)
        reached, not_reached = [], []
        for point in fault_points():
            with self.subTest(point=point):
                (reached if self._crash_at(point, database.url) else not_reached).append(point)
                database.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                for schema in database.query("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)'").split():
                    database.query(f'DROP SCHEMA "{schema}" CASCADE')
        print(f"crashed at {len(reached)}: {' '.join(reached)}; not on this way: {' '.join(not_reached)}", flush=True)
        self.assertGreater(len(reached), 3)

    def _crash_at(self, point: str, postgres_url: str) -> bool:
        server = Server(postgres_url=postgres_url)
        self.addCleanup(server.close)
        server.start()
        session = server.begin()
        first = session.told("My name is Ada Lovelace")
        server.kill()
        server.launch({"ONBOARD_FAULT": f"{point}=crash"})
        key, message = uuid.uuid4().hex, "ada@analytical.example"

        def met() -> bool:
            if server.process.poll() is not None:
                return True
            with contextlib.suppress(OSError, http.client.HTTPException):
                if server.request("GET", "/readyz").status != 200:
                    return False
                if session.say(message, key).status == 200:
                    server.begin()  # a new session makes a key, too
                    position = session.state()["position"]
                    session.profile(position, 2_000)
                    return True
            return False
        wait_until(met, f"{point}: a crash or an answer")
        crashed = server.process.poll() is not None
        if crashed:
            self.assertEqual(server.process.returncode, -9, server.log()[-1000:])
        else:
            server.kill()
        server.start()
        answer = session.told(message, key)
        self.assertFalse(answer["error"])
        lines = session.conversation()
        self.assertEqual([line["text"] for line in lines if line["role"] == "user"], ["My name is Ada Lovelace", message])
        self.assertEqual(sum(line["role"] == "assistant" for line in lines), 3, "greeting and one answer each")
        self.assertIn(first["response"], [line["text"] for line in lines])
        self.assertEqual(session.state()["fields"]["email"], message)
        profile = wait_until(lambda: (p := session.profile(session.state()["position"])).status == 200 and p, "the read models follow")
        self.assertIn("Ada Lovelace", profile.body.decode())
        self.assertEqual(server.terminate(), 0)
        server.ctl("events", "verify")
        return crashed


if __name__ == "__main__":
    unittest.main()

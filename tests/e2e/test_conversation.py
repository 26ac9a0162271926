"""A person onboards: over HTTP, with the offline extractor, against real PostgreSQL."""
import json
import unittest
import uuid

from harness import PATIENCE, Postgres, Server, WithDatabase, wait_until

ANSWERS = ["My name is Ada Lovelace", "ada@analytical.example", "I work at Analytical Engines Ltd", "I'm a mathematician", "about forty of us",
           "We want to automate our calculations"]
STATEMENTS = [
    "SELECT COUNT(CASE WHEN status = 'completed' THEN 1 END) * 100.0 / COUNT(*) FROM onboarding_sessions WHERE created_at > NOW() - INTERVAL '30 days'",
    "SELECT AVG(EXTRACT(EPOCH FROM (completed_at - created_at))/60) FROM onboarding_sessions WHERE status = 'completed'",
    "SELECT abandonment_at_field, COUNT(*) FROM session_analytics WHERE abandonment_at_field IS NOT NULL GROUP BY 1 ORDER BY 2 DESC",
    "SELECT CASE WHEN total_messages_count < 8 THEN '<8' WHEN total_messages_count <= 10 THEN '8-10' WHEN total_messages_count <= 15 THEN '11-15' "
    "ELSE '>15' END, COUNT(*) FROM onboarding_sessions WHERE status = 'completed' GROUP BY 1",
]


def complete(session) -> dict:
    """Answers what is missing, field by field, until nothing is."""
    by_field = dict(zip(["full_name", "email", "company", "role", "team_size", "goal"], ANSWERS))
    last = session.state()
    for _ in range(12):
        if not last["missing"]:
            break
        last = session.told(by_field[last["missing"][0]])
    return last


class AConversation(WithDatabase):
    def test_completes_the_six_fields_and_the_read_models_show_them(self):
        session = self.server.begin()
        self.assertEqual(session.started["missing"], ["full_name", "email", "company", "role", "team_size", "goal"])
        self.assertTrue(session.started["response"])
        last = complete(session)
        self.assertTrue(last["is_complete"], last)
        state = session.state()
        self.assertEqual(state["status"], "completed")
        self.assertEqual(state["fields"]["full_name"], "Ada Lovelace")
        self.assertEqual(state["fields"]["email"], "ada@analytical.example")
        self.assertEqual(str(state["fields"]["team_size"]), "40")
        profile = session.profile(state["position"])
        self.assertEqual(profile.status, 200, profile)
        self.assertIn("Ada Lovelace", profile.body.decode())
        self.assertTrue(profile.headers.get("etag"))
        # as analysts ask
        self.assertEqual(float(self.database.query(STATEMENTS[0])), 100.0)
        for statement in STATEMENTS[1:]:
            self.database.query(statement)
        counted = int(self.database.query("SELECT total_messages_count FROM onboarding_sessions"))
        self.assertEqual(counted, len([m for m in session.conversation()]) - 1)  # all but the greeting
        stats = self.server.request("GET", "/api/metrics/stats", admin=True).json()
        self.assertEqual((stats["active_sessions"], stats["completed_today"]), (0, 1))

    def test_takes_several_fields_in_one_message_and_a_correction(self):
        session = self.server.begin()
        first = session.told("I'm Zoë O'Brien-Smith from Acme GmbH, zoe at acme dot io, about forty of us")
        self.assertEqual(first["extracted"].get("email"), "zoe@acme.io", first)
        self.assertEqual(first["extracted"].get("full_name"), "Zoë O'Brien-Smith", first)
        corrected = session.told("sorry, my email is zoe@acme.com")
        self.assertEqual(corrected["extracted"].get("email"), "zoe@acme.com", corrected)
        self.assertEqual(session.state()["fields"]["email"], "zoe@acme.com")

    def test_refuses_a_bad_email_address_with_a_reason_and_never_stores_it(self):
        session = self.server.begin()
        session.told(ANSWERS[0])
        answer = session.told("my email is ada@@analytical")
        self.assertNotIn("email", answer["extracted"])
        self.assertIn("email", answer["missing"])
        self.assertTrue(any(r["field"] == "email" and r["reason"] for r in answer["rejected"]), answer)
        self.assertNotIn("email", session.state()["fields"])

    def test_a_stranger_is_told_nothing(self):
        mine, other = self.server.begin(), self.server.begin()
        answer = self.server.request("GET", mine.path, headers=other.authorization)
        self.assertEqual(answer.status, 404)
        self.assertEqual(self.server.request("GET", mine.path).status, 401)
        problem = answer.json()
        self.assertEqual(answer.headers["content-type"], "application/problem+json")
        for member in ("type", "title", "status", "request_id"):
            self.assertIn(member, problem)

    def test_goes_on_where_it_was_after_a_kill_and_repeats_answers_to_the_byte(self):
        start_key = uuid.uuid4().hex
        started = self.server.request("POST", "/api/onboarding/sessions", {}, {"Idempotency-Key": start_key})
        self.assertEqual(started.status, 201, started)
        from harness import Session
        session = Session(self.server, started.json())
        keys = [uuid.uuid4().hex for _ in range(3)]
        answers = [session.say(text, key) for text, key in zip(ANSWERS, keys)]
        before, lines = session.state(), session.conversation()
        self.server.kill()
        self.server.start()
        self.assertEqual(session.state(), before)
        self.assertEqual(session.conversation(), lines)
        for text, key, answer in zip(ANSWERS, keys, answers):
            again = session.say(text, key)
            self.assertEqual((again.status, json.loads(again.body)), (answer.status, json.loads(answer.body)))
        again = self.server.request("POST", "/api/onboarding/sessions", {}, {"Idempotency-Key": start_key})
        self.assertEqual(again.json(), started.json())
        self.assertEqual(len(session.conversation()), len(lines), "a repeat must not be a message")
        self.assertIn(session.say("something else", keys[0]).status, (409, 422))
        self.assertTrue(complete(session)["is_complete"])

    def test_nothing_personal_reaches_the_servers_output(self):
        session = self.server.begin(user_id="person-4711@example.org")
        complete(session)
        session.told("please make that ada.byron@analytical.example")
        self.assertEqual(self.server.terminate(), 0)
        written = self.server.log()
        for text in ("Lovelace", "analytical.example", "Analytical Engines", "mathematician", "person-4711", session.token):
            self.assertNotIn(text, written)
        raw = b"".join(p.read_bytes() for p in (self.server.data / "log").iterdir() if p.is_file())
        for text in (b"Lovelace", b"analytical.example", b"person-4711"):
            self.assertNotIn(text, raw, "a personal text stands unsealed in the log")


class WithoutPostgres(unittest.TestCase):
    def test_onboarding_goes_on_while_postgres_is_down_and_the_read_models_catch_up(self):
        postgres = Postgres()
        self.addCleanup(postgres.close)
        server = Server(postgres_url=postgres.url)
        self.addCleanup(server.close)
        server.start()
        session = server.begin()
        state = session.state()
        self.assertEqual(wait_until(lambda: session.profile(state["position"]).status in (200, 404), "the read models follow"), True)
        postgres.stop()
        for text in ANSWERS[:4]:
            self.assertFalse(session.told(text)["error"])
        self.assertEqual(server.request("GET", "/readyz").status, 200, "a database that is down does not make the server unready")
        server.kill()
        server.start()  # nor does it keep it from starting
        self.assertEqual(session.state()["fields"]["full_name"], "Ada Lovelace")
        last = complete(session)
        self.assertTrue(last["is_complete"])
        postgres.start()
        position = session.state()["position"]
        profile = wait_until(lambda: (p := session.profile(position)).status == 200 and p, "the read models have caught up", PATIENCE)
        self.assertIn("Ada Lovelace", profile.body.decode())

    def test_a_server_without_a_database_serves_and_says_so(self):
        with Server() as server:
            session = server.begin()
            self.assertTrue(complete(session)["is_complete"])
            self.assertEqual(server.request("GET", f"/api/users/{session.user_id}/profile", headers=session.authorization).status, 503)
            self.assertEqual(server.request("GET", "/readyz").status, 200)


if __name__ == "__main__":
    unittest.main()

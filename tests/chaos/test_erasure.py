"""An erasure that a crash cut off, wherever it did: nobody was told that it is done, and the next start finishes it."""
import http.client
import unittest

import fold
from harness import Session, WithDatabase, wait_until

POINTS = ("erasure.after_note", "session.before_append", "session.after_append", "erasure.before_keys", "keys.before_commit", "keys.before_scrub",
          "erasure.after_keys")


class ErasureCutOff(WithDatabase):
    def test_is_finished_at_the_next_start(self):
        key = {"Authorization": "Bearer " + self.server.operator_key()}
        for number, point in enumerate(POINTS):
            user = f"gone-{number}@example.com"
            sessions = [Session(self.server, self.server.request("POST", "/api/onboarding/sessions", {"user_id": user}, key).json()) for _ in range(2)]
            for session in sessions:
                session.told(f"I'm Ann Abbott, {user}")
            self.server.kill()
            with self.subTest(point=point):
                self.server.start({"ONBOARD_FAULT": f"{point}=crash"})
                with self.assertRaises((OSError, http.client.HTTPException)):
                    answer = self.server.request("DELETE", "/api/users/" + user, headers=key)
                    raise AssertionError(f"answered {answer}")
                wait_until(lambda: self.server.process.poll() is not None, "it crashed")
                self.server.start()
                wait_until(lambda: not any((self.server.data / "erasures").iterdir()), "the erasure is finished")
                for session in sessions:
                    self.assertEqual(self.server.request("GET", session.path, headers=session.authorization).status, 404)
                self.assertEqual(self.server.request("DELETE", "/api/users/" + user, headers=key).status, 404)
                self.assertNotIn(user, self.server.ctl("events", "export", "--open").stdout)
                fold.assert_follows(self.server, self.database.url)
            if self.server.process.poll() is not None:
                self.server.start()


if __name__ == "__main__":
    unittest.main()

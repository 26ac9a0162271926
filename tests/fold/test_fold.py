"""The fold itself: what it takes, what it passes over, what it refuses."""
import json
import unittest

import fold


def line(sequence: int, type_name: str, data: dict, version: int | None = None, partition: int = 3, user: str = "key-1", stream: str = "ses_1") -> str:
    return json.dumps({"specversion": "1.0", "type": type_name, "subject": stream, "time": f"2026-11-21T08:00:{sequence:02}.5Z", "partition": partition,
                       "sequence": str(sequence), "version": version or sequence, "userkey": user, "plan": "pro", "data": data})


STARTED = {"user_id": "ann", "flow": "default", "flow_version": 1, "plan": "pro", "greeting": "Hello", "asks": ["email"]}
LINES = [line(1, "SessionStarted", STARTED), line(2, "MessageReceived", {"turn_id": "t", "text": "ann@example.com"}),
         line(3, "FieldExtracted", {"turn_id": "t", "field": "email", "value_type": "email", "value": "ann@example.com"}),
         line(4, "AssistantReplied", {"turn_id": "t", "text": "Thanks", "source": "offline"}), line(5, "SessionCompleted", {"turn_id": "t"})]


class TheFold(unittest.TestCase):
    def test_makes_a_row_of_each_kind(self):
        rows = fold.fold_of(LINES)
        session = rows["onboarding_sessions"]["ses_1",]
        self.assertEqual((session["status"], session["total_messages_count"]), ("completed", 2))
        self.assertEqual(rows["user_profiles"]["key-1",]["fields"], {"email": "ann@example.com"})
        self.assertEqual(rows["session_facts"]["ses_1",]["minutes_to_complete"], 4 / 60)
        self.assertEqual(len(rows["conversation_messages"]), 3)

    def test_passes_over_what_it_took_before(self):
        self.assertEqual(fold.fold_of(LINES[:3] + LINES), fold.fold_of(LINES))

    def test_refuses_an_export_with_a_gap_or_with_sealed_texts(self):
        with self.assertRaisesRegex(ValueError, "not whole: 3:4 follows 3:2"):
            fold.fold_of(LINES[:2] + LINES[3:])
        with self.assertRaisesRegex(ValueError, "3:1: user_id is sealed"):
            fold.fold_of([line(1, "SessionStarted", STARTED | {"user_id": "[sealed]"})])

    def test_leaves_out_what_waits_behind_a_parked_event_in_that_projection_only(self):
        rows = fold.fold_of(LINES, parked=[("sessions", "key-1", 4, 3)])
        self.assertEqual(rows["onboarding_sessions"]["ses_1",]["status"], "active")
        self.assertEqual(len(rows["conversation_messages"]), 3)
        rows = fold.fold_of(LINES, parked=[("conversation", "stream/ses_1", 2, 3)])
        self.assertEqual(len(rows["conversation_messages"]), 1)

    def test_leaves_out_an_event_that_was_skipped(self):
        rows = fold.fold_of(LINES, without=[("sessions", 3, 5)])
        self.assertEqual((rows["onboarding_sessions"]["ses_1",]["status"], rows["session_analytics"]["ses_1",]["replies"]), ("active", 1))

    def test_stands_where_the_checkpoints_stand(self):
        rows = fold.fold_of(LINES, upto={("sessions", 3): 2, ("profile", 3): 5})
        self.assertEqual(rows["onboarding_sessions"]["ses_1",]["total_messages_count"], 1)
        self.assertEqual(rows["user_profiles"]["key-1",]["position"], "3:3")
        self.assertEqual(rows["conversation_messages"], {})

    def test_forgets_who_was_erased_and_keeps_the_counts(self):
        gone = [line(1, "SessionStarted", STARTED | {"user_id": "[erased]", "greeting": "[erased]"}),
                line(2, "MessageReceived", {"turn_id": "t", "text": "[erased]"}), line(3, "UserErased", {}), line(4, "SessionStarted", STARTED, 1, stream="ses_2")]
        rows = fold.fold_of(gone)
        self.assertEqual(rows["session_analytics"]["ses_1",]["user_messages"], 1)
        self.assertEqual([key[0] for key in rows["conversation_messages"]], ["ses_2"])
        self.assertEqual(rows["users"]["key-1",]["sessions_started"], 1, "who comes back begins a new life")

    def test_tells_differences_by_row_and_column(self):
        expected = fold.fold_of(LINES)["users"]
        key = ("key-1",)
        self.assertEqual(fold.difference("users", expected, {key: dict(expected[key])}), [])
        self.assertIn("vouched: 0, not False", fold.difference("users", expected, {key: expected[key] | {"vouched": 0}})[0])
        self.assertIn("new: 1, not 'absent'", fold.difference("users", expected, {key: expected[key] | {"new": 1}})[0])
        self.assertIn("is missing", fold.difference("users", expected, {})[0])
        self.assertIn("is too much", fold.difference("users", {}, expected)[0])


if __name__ == "__main__":
    unittest.main()

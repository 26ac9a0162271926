"""A flow is changed while the server runs: HTTP, onboardctl, people under way, a restart."""
import json
import unittest

from harness import Server

PATH = "/api/admin/flows/default"


class Flows(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.addCleanup(self.server.close)
        self.server.start()
        self.flow = self.server.request("GET", PATH, admin=True).json()["flow"]

    def put(self, flow, path: str = PATH):
        return self.server.request("PUT", path, flow, admin=True)

    def test_a_new_version_is_for_who_begins_from_now_on_also_after_a_restart(self):
        before = self.server.begin()
        put = self.put(self.flow | {"greeting": "Ahoy!"})
        self.assertEqual((put.status, put.json()["version"]), (201, 2), put)
        self.assertEqual(self.put(put.json()["flow"]).status, 200)  # the same again changes nothing
        self.assertTrue(self.server.begin().started["response"].startswith("Ahoy!"))
        self.assertEqual(before.told("My name is Ada Lovelace")["extracted"], {"full_name": "Ada Lovelace"})
        self.assertEqual(self.server.terminate(), 0)
        self.server.start()
        self.assertTrue(self.server.begin().started["response"].startswith("Ahoy!"))
        self.assertEqual(before.state()["fields"], {"full_name": "Ada Lovelace"})
        self.assertEqual(self.server.request("GET", PATH + "?version=1", admin=True).json(), {"version": 1, "flow": self.flow})

    def test_a_flow_of_its_own_name_is_the_first_of_it(self):
        short = self.flow | {"name": "short", "fields": self.flow["fields"][:1]}
        put = self.put(short, "/api/admin/flows/short")
        self.assertEqual((put.status, put.json()["version"]), (201, 1), put)
        self.assertTrue(self.server.begin(flow="short").told("My name is Ada Lovelace")["is_complete"])

    def test_what_is_wrong_is_said_and_nothing_changes(self):
        fields = self.flow["fields"]
        for wrong, place in ((self.flow | {"fields": 7}, "/fields"), (self.flow | {"fields": fields + fields[:1]}, fields[0]["name"]),
                             (self.flow | {"name": "other"}, "/name"), (self.flow | {"colour": "red"}, "colour")):
            refused = self.put(wrong)
            self.assertEqual(refused.status, 422, refused)
            self.assertIn(place, refused.body.decode())
        self.assertEqual(self.put(self.flow | {"greeting": "x" * (1 << 20)}).status, 413)
        self.assertEqual(self.server.request("GET", "/api/admin/flows/nobody", admin=True).status, 404)
        self.assertEqual(self.server.request("GET", PATH + "?version=0", admin=True).status, 422)
        self.assertEqual(self.server.request("GET", PATH + "?version=2", admin=True).status, 404)
        session = self.server.begin()
        self.assertIn(self.server.request("PUT", PATH, self.flow, session.authorization).status, (403, 404))

    def test_onboardctl_shows_and_puts(self):
        shown = self.server.ctl("flow", "show", "default")
        self.assertEqual(json.loads(shown.stdout), self.flow)
        put = self.server.ctl("flow", "put", "-", text=json.dumps(self.flow | {"greeting": "Ahoy!"}))
        self.assertIn("default version 2 is in force", put.stdout)
        self.assertIn("nothing changed", self.server.ctl("flow", "put", "-", text=json.dumps(self.flow | {"greeting": "Ahoy!"})).stdout)
        self.assertEqual(json.loads(self.server.ctl("flow", "show", "default", "--version", "1").stdout), self.flow)
        for arguments, text in ((("flow", "show", "nobody"), ""), (("flow", "put", "-"), "{"), (("flow", "put", "/nowhere"), "")):
            refused = self.server.ctl(*arguments, text=text, check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertTrue(refused.stderr)


if __name__ == "__main__":
    unittest.main()

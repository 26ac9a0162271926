"""The chat page, in a real browser: a conversation that survives kill -9 of the server and a reload of the page."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from browser import Browser  # noqa: E402
from harness import Server, wait_until  # noqa: E402


@unittest.skipUnless(Browser.program(), "there is no Chromium here")
class ChatPage(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.addCleanup(self.server.close)
        self.server.start()
        self.browser = Browser()
        self.addCleanup(self.browser.close)

    def events(self, kind: str) -> int:
        return self.server.ctl("events", "tail", "--json").stdout.count(kind)

    def test_holds_a_conversation_over_a_kill_of_the_server_and_a_reload(self):
        self.browser.open(self.server.url + "/")
        greeting = wait_until(lambda: self.events("SessionStarted") == 1 and self.browser.text(), "a session began")
        self.assertTrue(greeting.strip())
        self.browser.type_and_enter("My name is Ada Lovelace")
        self.browser.see("My name is Ada Lovelace")
        wait_until(lambda: self.events("AssistantReplied") == 1, "the first message is answered")

        self.server.kill()
        self.browser.type_and_enter("ada@analytical.example")  # nobody is there to hear it
        self.server.start()
        wait_until(lambda: self.events("AssistantReplied") == 2, "the page repeats what was not answered")
        self.assertEqual(self.events("MessageReceived"), 2, "a repeat must not be a message")

        self.browser.reload()
        self.browser.see("My name is Ada Lovelace", "ada@analytical.example")
        self.browser.type_and_enter("I work at Analytical Engines Ltd")
        wait_until(lambda: self.events("AssistantReplied") == 3, "it goes on after the reload")
        self.assertEqual(self.events("SessionStarted"), 1, "a reload must not begin another session")
        self.assertEqual(self.browser.console, [], "the page's script failed")

    def test_says_so_when_a_value_is_refused(self):
        self.browser.open(self.server.url + "/")
        wait_until(lambda: self.events("SessionStarted") == 1, "a session began")
        self.browser.type_and_enter("My name is Ada Lovelace")
        wait_until(lambda: self.events("AssistantReplied") == 1, "the first message is answered")
        before = len(self.browser.text())
        self.browser.type_and_enter("my email is ada@@analytical")
        wait_until(lambda: self.events("FieldRejected") == 1, "the value is refused")
        wait_until(lambda: len(self.browser.text()) > before + len("my email is ada@@analytical"), "the page says why")


if __name__ == "__main__":
    unittest.main()

"""The chat page, in a real browser: a conversation that survives kill -9 of the server and a reload of the page."""
import contextlib
import http.client
import http.server
import pathlib
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from browser import Browser  # noqa: E402
from harness import Server, wait_until  # noqa: E402


class Proxy(http.server.ThreadingHTTPServer):
    """A proxy as many run one before a server: an answer that does not come from there is a page of its own, with a 5xx.

    `lost` holds what it says instead of the answers to POSTs on a path that ends so; the requests themselves go through.
    """
    daemon_threads = True

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), Proxy.Handler)
        self.server, self.lost, self.posts = server, {}, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    class Handler(http.server.BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            status, headers, body = 502, {}, b"<h1>Bad Gateway</h1>"
            if self.path.endswith("/stream"):
                status = 404  # the page does without
            else:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    connection = http.client.HTTPConnection(*self.server.server.address, timeout=30)
                    wanted = {k: v for k, v in self.headers.items() if k.lower() in ("authorization", "content-type", "idempotency-key")}
                    connection.request(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))), wanted)
                    answer = connection.getresponse()
                    status, headers, body = answer.status, {"Content-Type": answer.getheader("Content-Type", "")}, answer.read()
                    connection.close()
            if self.command == "POST":
                self.server.posts += 1
                for end, instead in self.server.lost.items():
                    if self.path.endswith(end):
                        status, headers, body = instead, {}, b"<h1>no</h1>"
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = pass_on

        def log_message(self, *_) -> None:
            pass


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

    def behind_a_proxy(self) -> Proxy:
        proxy = Proxy(self.server)
        self.addCleanup(proxy.server_close)
        self.addCleanup(proxy.shutdown)
        return proxy

    def test_repeats_under_the_same_key_what_a_proxy_answers_with_any_5xx(self):
        proxy = self.behind_a_proxy()
        self.browser.open(proxy.url + "/")
        wait_until(lambda: self.events("SessionStarted") == 1, "a session began")
        for n, status in enumerate((500, 502, 504), start=1):
            proxy.lost = {"/messages": status}
            self.browser.type_and_enter(f"Message {n}: my name is Ada Lovelace")
            posts = proxy.posts
            wait_until(lambda: proxy.posts >= posts + 2, f"the page repeats after a {status}")
            proxy.lost = {}
            wait_until(lambda: self.browser.evaluate("!document.getElementById('message').disabled"), "the answer has come")
            self.assertEqual(self.browser.evaluate("document.getElementById('message').value"), "")
        self.assertEqual(self.events("MessageReceived"), 3, "a repeat must not be a message")

    def test_keeps_the_key_while_a_message_that_was_refused_is_sent_again_as_it_stands(self):
        proxy = self.behind_a_proxy()
        self.browser.open(proxy.url + "/")
        wait_until(lambda: self.events("SessionStarted") == 1, "a session began")
        proxy.lost = {"/messages": 403}
        self.browser.type_and_enter("My name is Ada Lovelace")
        wait_until(lambda: self.browser.evaluate("document.getElementById('message').value") == "My name is Ada Lovelace", "the text is given back")
        proxy.lost = {}
        self.browser.type_and_enter("")
        self.browser.see("My name is Ada Lovelace")
        wait_until(lambda: self.browser.evaluate("!document.getElementById('message').disabled"), "the answer has come")
        self.assertEqual(self.events("MessageReceived"), 1, "the same text under another key is another message")

    def test_repeats_a_start_that_was_not_heard_word_for_word_whatever_the_browser_speaks_by_then(self):
        proxy = self.behind_a_proxy()
        proxy.lost = {"/sessions": 502}
        self.browser.call("Emulation.setUserAgentOverride", userAgent="a browser", acceptLanguage="de-DE")
        self.browser.open(proxy.url + "/")
        wait_until(lambda: self.events("SessionStarted") == 1, "a session began")
        self.browser.call("Emulation.setUserAgentOverride", userAgent="a browser", acceptLanguage="fr-FR")
        proxy.lost = {}
        self.browser.reload()
        wait_until(lambda: self.browser.evaluate("!document.getElementById('message').disabled"), "the conversation has begun")
        self.assertEqual(self.events("SessionStarted"), 1, "a repeated start must not begin another session")

    def test_begins_anew_when_a_start_under_a_kept_key_is_refused_for_good(self):
        taken = self.server.request("POST", "/api/onboarding/sessions", {"locale": "de"}, {"Idempotency-Key": "taken"})
        self.assertEqual(taken.status, 201)
        self.browser.open(self.server.url + "/docs")
        self.browser.evaluate("localStorage.setItem('onboarding', JSON.stringify({startKey: 'taken', locale: 'fr'}))")
        self.browser.open(self.server.url + "/")
        self.browser.see("Reload the page")
        self.browser.reload()
        wait_until(lambda: self.browser.evaluate("!document.getElementById('message').disabled"), "the conversation has begun")
        self.assertEqual(self.events("SessionStarted"), 2)

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

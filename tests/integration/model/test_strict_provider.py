"""The strict provider server itself: what it accepts, refuses, counts and breaks. Its clients rely on it being right."""
import http.client
import json
import math
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from strict.limits import Meter, go_duration  # noqa: E402
from strict.model import answer, extract  # noqa: E402
from strict.prompt_cache import PromptCache  # noqa: E402
from strict_client import StrictServer  # noqa: E402

FIELDS = ["full_name", "email", "company", "role", "team_size", "goal"]
PATHS = {"openai": "/v1/chat/completions", "gemini": "/v1beta/models/gemini-3.5-flash-lite:generateContent", "deepseek": "/chat/completions",
         "anthropic": "/v1/messages"}
KEYS = {"openai": {"Authorization": "Bearer sk-test"}, "gemini": {"x-goog-api-key": "sk-test"}, "deepseek": {"Authorization": "Bearer sk-test"},
        "anthropic": {"x-api-key": "sk-test", "anthropic-version": "2023-06-01"}}
SYSTEM = 'Answer in json.\nFields: [{"name": "full_name"}, {"name": "email"}]\nThis turn: {"open": ["full_name", "email"], "asked_last": ["full_name"]}'


def schema(string, obj, array, nullable, closed) -> dict:
    fields = {name: nullable for name in ("full_name", "email")}
    return {"type": obj, **closed, "required": ["reply", "fields", "asks"], "properties": {
        "reply": {"type": string}, "asks": {"type": array, "items": {"type": string}},
        "fields": {"type": obj, **closed, "required": list(fields), "properties": fields}}}


JSON_SCHEMA = schema("string", "object", "array", {"type": ["string", "null"]}, {"additionalProperties": False})


def body(provider: str, message: str = "I'm Ann Smith, ann@example.com", **more) -> dict:
    said = [{"role": "user", "content": message}]
    return {
        "openai": lambda: {"model": "gpt-6-luna", "messages": [{"role": "developer", "content": SYSTEM}, *said], "max_completion_tokens": 400,
                           "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": JSON_SCHEMA}}},
        "deepseek": lambda: {"model": "deepseek-flash", "messages": [{"role": "system", "content": SYSTEM}, *said], "max_tokens": 400,
                             "response_format": {"type": "json_object"}, "thinking": {"type": "disabled"}},
        "gemini": lambda: {"systemInstruction": {"parts": [{"text": SYSTEM}]}, "contents": [{"role": "user", "parts": [{"text": message}]}],
                           "generationConfig": {"responseMimeType": "application/json", "maxOutputTokens": 400, "thinkingConfig": {"thinkingLevel": "minimal"},
                                                "responseSchema": schema("STRING", "OBJECT", "ARRAY", {"type": "STRING", "nullable": True}, {})}},
        "anthropic": lambda: {"model": "claude-haiku-4-5", "max_tokens": 400, "messages": said,
                              "system": [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}],
                              "tools": [{"name": "record", "input_schema": JSON_SCHEMA}], "tool_choice": {"type": "tool", "name": "record"}},
    }[provider]() | more


def said(provider: str, reply: dict):
    if provider == "gemini":
        return json.loads(reply["candidates"][0]["content"]["parts"][0]["text"])
    return reply["content"][0]["input"] if provider == "anthropic" else json.loads(reply["choices"][0]["message"]["content"])


class TheArithmetic(unittest.TestCase):
    def test_no_window_of_a_minute_holds_more_than_the_limit(self):
        meter = Meter(60, 0)
        for at in range(60):
            self.assertEqual(meter.seconds_until(1, at), 0)
            meter.take(1, at)
        self.assertEqual(meter.seconds_until(1, 59.5), 0.5)
        self.assertEqual(meter.seconds_until(1, 60), 0)
        self.assertEqual(meter.seconds_until(61, 60), math.inf)
        self.assertEqual(meter.peak, 60)

    def test_a_bucket_of_a_second_lets_no_more_than_a_second_through(self):
        meter = Meter(600, 0, burst_seconds=1)
        for _ in range(10):
            self.assertEqual(meter.seconds_until(1, 0), 0)
            meter.take(1, 0)
        self.assertAlmostEqual(meter.seconds_until(1, 0), 0.1)

    def test_continuous_refill_without_a_window_forgets_as_it_fills(self):
        meter = Meter(60, 0, window=False)
        meter.take(60, 0)
        self.assertEqual(meter.seconds_until(2, 1), 1)
        self.assertEqual(meter.remaining(30), 30)

    def test_what_has_no_limit_is_counted_all_the_same(self):
        meter = Meter(0, 0)
        meter.take(5, 1)
        self.assertEqual((meter.seconds_until(10**9, 1), meter.report(1)), (0, {"limit": 0, "used": 5, "peak": 5, "total": 5}))

    def test_durations_are_written_as_go_does(self):
        self.assertEqual([go_duration(s) for s in (0.0115, 1, 1.5, 360)], ["12ms", "1s", "1.5s", "6m0s"])

    def test_a_prompt_seen_before_is_read_from_the_cache_in_whole_blocks_and_forgotten_after_five_minutes(self):
        cache, prefix = PromptCache(), "a" * 4 * 1200
        self.assertEqual(cache.implicit(prefix + "x", 128, 1024, 0), (0, 9 * 128))
        self.assertEqual(cache.implicit(prefix + "y", 128, 1024, 100), (9 * 128, 0))
        self.assertEqual(cache.implicit(prefix, 128, 1024, 401), (0, 9 * 128))
        self.assertEqual(cache.implicit("b" * 4 * 1000, 128, 1024, 0), (0, 0))

    def test_marked_blocks_are_written_once_and_read_as_a_prefix(self):
        cache, stable = PromptCache(), "s" * 4 * 2000
        self.assertEqual(cache.explicit([stable, "turn 1"], {0: 300}, 1024, 0), (0, 2000))
        self.assertEqual(cache.explicit([stable, "turn 2"], {0: 300}, 1024, 1), (2000, 0))
        self.assertEqual(cache.explicit(["t" + stable], {0: 300}, 1024, 1), (0, 2001))
        self.assertEqual(cache.explicit(["short"], {0: 300}, 1024, 1), (0, 0))

    def test_the_model_says_what_was_said_and_nothing_else(self):
        self.assertEqual(extract("I'm Ann Smith from Acme GmbH, ann@acme.io, 12 people", FIELDS, ["full_name"]),
                         {"full_name": "Ann Smith", "company": "Acme GmbH", "email": "ann@acme.io", "team_size": "12"})
        self.assertEqual(extract("We want to save time.", FIELDS, []), {"goal": "save time"})
        self.assertEqual(extract("a nurse", FIELDS, ["role"]), {"role": "a nurse"})
        self.assertEqual(extract("why do you need it?", FIELDS, ["email"]), {})
        self.assertEqual(answer(SYSTEM, "Hello", None), {"reply": "Could you tell me your full name?", "fields": {}, "asks": ["full_name"]})


class TheServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.server = StrictServer("--key", "sk-test", "--latency-ms", "0", "--jitter-ms", "0", "--no-limits")
        cls.addClassCleanup(cls.server.close)

    def setUp(self) -> None:
        self.server.control(fault="none", caching=True, forget=True, latency_ms=0, burst_seconds=60,
                            limits={n: 0 for n in ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute",
                                                   "requests_per_day", "max_concurrent")})

    def post(self, provider: str, given: dict | None = None, headers: dict | None = None, path: str = "", timeout: float = 30):
        status, got, raw = self.server.request("POST", self.server.urls[provider] + (path or PATHS[provider]), given or body(provider),
                                               KEYS[provider] if headers is None else headers, timeout)
        return status, got, json.loads(raw)

    def test_each_answers_in_its_own_shape_with_the_fields_that_were_said(self):
        for provider in PATHS:
            with self.subTest(provider):
                status, _, reply = self.post(provider)
                self.assertEqual(status, 200, reply)
                self.assertEqual(said(provider, reply)["fields"], {"full_name": "Ann Smith", "email": "ann@example.com"})

    def test_each_streams_the_same_answer_in_pieces(self):
        streams = {"openai": (PATHS["openai"], {"stream": True, "stream_options": {"include_usage": True}}), "deepseek": (PATHS["deepseek"], {"stream": True}),
                   "gemini": (PATHS["gemini"].replace("generateContent", "streamGenerateContent?alt=sse"), {}), "anthropic": (PATHS["anthropic"], {"stream": True})}
        for provider, (path, more) in streams.items():
            with self.subTest(provider):
                status, headers, raw = self.server.request("POST", self.server.urls[provider] + path, body(provider, **more), KEYS[provider])
                self.assertEqual((status, headers["content-type"]), (200, "text/event-stream; charset=utf-8"))
                events = [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: {")]
                pieces = {"openai": lambda e: e["choices"][0]["delta"].get("content") or "" if e["choices"] else "",
                          "deepseek": lambda e: e["choices"][0]["delta"].get("content") or "",
                          "gemini": lambda e: e["candidates"][0]["content"]["parts"][0]["text"],
                          "anthropic": lambda e: e.get("delta", {}).get("partial_json", "")}[provider]
                self.assertEqual(json.loads("".join(map(pieces, events)))["fields"]["full_name"], "Ann Smith")
                self.assertGreater(len(events), 4)
                self.assertEqual(raw.endswith(b"data: [DONE]\n\n"), provider in ("openai", "deepseek"))
                last = events[-1] if provider != "anthropic" else events[-2]
                self.assertTrue(last.get("usage") or last.get("usageMetadata"), last)

    def test_each_refuses_what_the_real_one_refuses_in_its_own_words(self):
        loose = {"type": "object", "properties": {"a": {"type": "string"}}, "required": [], "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": loose}}
        mark = {"cache_control": {"type": "ephemeral"}}
        config = body("gemini")["generationConfig"]
        cases = [
            ("openai", {"max_tokens": 5}, 400, "unsupported_parameter"), ("openai", {"temperature": 0}, 400, "unsupported_value"),
            ("openai", {"bogus": 1}, 400, "unknown_parameter"), ("openai", {"response_format": form}, 400, "Missing 'a'"),
            ("openai", {"stream_options": {"include_usage": True}}, 400, "only allowed when 'stream'"), ("openai", {"model": "gemini"}, 404, "model_not_found"),
            ("deepseek", {"response_format": form}, 400, "unavailable now"), ("deepseek", {"max_completion_tokens": 5}, 422, "unknown field"),
            ("deepseek", {"messages": [{"role": "developer", "content": "json"}]}, 422, "unknown variant `developer`"),
            ("deepseek", {"messages": [{"role": "user", "content": "hi"}]}, 400, "must contain the word 'json'"),
            ("gemini", {"bogus": 1}, 400, 'Unknown name \\"bogus\\"'), ("gemini", {"contents": []}, 400, "contents is not specified"),
            ("gemini", {"generationConfig": config | {"responseSchema": loose}}, 400, "Cannot find field"),
            ("gemini", {"generationConfig": config | {"responseSchema": {"type": "object"}}}, 400, "Type"),
            ("gemini", {"generationConfig": config | {"responseMimeType": "text/plain"}}, 400, "unsupported"),
            ("gemini", {"generationConfig": config | {"thinkingConfig": {"thinkingLevel": "low", "thinkingBudget": 0}}}, 400, "only set one"),
            ("anthropic", {"max_tokens": None}, 400, "max_tokens"), ("anthropic", {"bogus": 1}, 400, "Extra inputs"),
            ("anthropic", {"system": [{"type": "text", "text": "x", **mark}] * 5}, 400, "A maximum of 4 blocks"),
            ("anthropic", {"messages": [{"role": "assistant", "content": "hi"}]}, 400, "first message"),
            ("anthropic", {"messages": [{"role": "user", "content": ""}]}, 400, "non-empty"),
            ("anthropic", {"tool_choice": {"type": "tool", "name": "nobody"}}, 400, "not found in provided tools"),
            ("anthropic", {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, 400, "additionalProperties"),
        ]
        for provider, change, status, words in cases:
            with self.subTest(provider=provider, change=change):
                got, _, reply = self.post(provider, body(provider, **change))
                self.assertEqual(got, status, reply)
                self.assertIn(words, json.dumps(reply))
        self.assertEqual(self.post("anthropic", headers={"x-api-key": "sk-test"})[0], 400)

    def test_a_key_that_is_missing_or_wrong_is_told_as_each_tells_it(self):
        wrong = {"openai": (401, "invalid_api_key"), "gemini": (400, "API_KEY_INVALID"), "deepseek": (401, "authentication_error"),
                 "anthropic": (401, "authentication_error")}
        for provider, (status, words) in wrong.items():
            headers = {name: value.replace("sk-test", "sk-wrong") for name, value in KEYS[provider].items()}
            got, _, reply = self.post(provider, headers=headers)
            self.assertEqual(got, status)
            self.assertIn(words, json.dumps(reply))
            self.assertIn(self.post(provider, headers={})[0], (401, 403))

    def test_openai_reserves_the_cap_and_counts_refused_calls(self):
        self.server.control("openai", limits={"requests_per_minute": 4, "tokens_per_minute": 1_200})
        first = self.post("openai")
        self.assertEqual((first[0], first[1]["x-ratelimit-remaining-requests"]), (200, "3"))
        self.assertLess(int(first[1]["x-ratelimit-remaining-tokens"]), 800)
        self.assertEqual(self.post("openai")[0], 200)
        status, headers, reply = self.post("openai")
        self.assertEqual((status, reply["error"]["type"], reply["error"]["code"]), (429, "tokens", "rate_limit_exceeded"))
        self.assertRegex(reply["error"]["message"], r"Limit 1200, Used \d+, Requested \d+\. Please try again in [\dms.]+\.")
        self.assertGreater(int(headers["retry-after-ms"]), 1_000)
        self.assertEqual(self.post("openai")[2]["error"]["type"], "tokens")
        self.assertEqual(self.post("openai")[2]["error"]["type"], "requests", "refused calls used up the requests")
        self.assertIn("Request too large", json.dumps(self.post("openai", body("openai", max_completion_tokens=5_000))[2]))
        stats = self.server.stats("openai")
        self.assertEqual((stats["answered"], stats["over_limit"]), (2, 4))

    def test_gemini_counts_input_only_and_says_which_quota(self):
        self.server.control("gemini", limits={"requests_per_minute": 2})
        self.assertEqual([self.post("gemini")[0] for _ in range(2)], [200, 200])
        status, headers, reply = self.post("gemini")
        self.assertEqual((status, reply["error"]["status"]), (429, "RESOURCE_EXHAUSTED"))
        self.assertFalse([h for h in headers if "rate" in h or "retry" in h])
        kinds = {d["@type"].rpartition(".")[2]: d for d in reply["error"]["details"]}
        self.assertRegex(kinds["RetryInfo"]["retryDelay"], r"^\d+s$")
        self.assertIn("PerMinute", kinds["QuotaFailure"]["violations"][0]["quotaId"])
        self.server.control("gemini", limits={"requests_per_minute": 0, "requests_per_day": 1})
        self.post("gemini")
        self.assertIn("PerDay", json.dumps(self.post("gemini")[2]))

    def test_anthropic_charges_real_output_and_uncached_input(self):
        self.server.control("anthropic", limits={"requests_per_minute": 100, "input_tokens_per_minute": 100_000, "output_tokens_per_minute": 60})
        given = body("anthropic")
        given["system"][0]["text"] += "x" * 20_000
        usage = self.post("anthropic", given)[2]["usage"]
        self.assertGreater(usage["cache_creation_input_tokens"], 5_000)
        self.assertLess(usage["input_tokens"], 100)
        # 400 tokens are the cap: not what counts
        status, headers, reply = self.post("anthropic", given)
        if status == 200:
            self.assertGreater(reply["usage"]["cache_read_input_tokens"], 5_000)
            self.assertEqual(reply["usage"]["cache_creation_input_tokens"], 0)
            self.assertEqual(headers["anthropic-ratelimit-input-tokens-remaining"][-3:], "000")
        for _ in range(3):
            status, headers, reply = self.post("anthropic", given)
        self.assertEqual((status, reply["error"]["type"]), (429, "rate_limit_error"))
        self.assertIn("output tokens per minute", reply["error"]["message"])
        self.assertGreaterEqual(int(headers["retry-after"]), 1)
        used = self.server.stats("anthropic")["windows"]["input_tokens_per_minute"]["used"]
        self.assertLess(used, 7_000, "reading from the cache is free")

    def test_deepseek_holds_a_place_until_the_answer_ends(self):
        self.server.control("deepseek", limits={"max_concurrent": 1}, latency_ms=60_000)
        url = self.server.urls["deepseek"].removeprefix("http://")
        first = http.client.HTTPConnection(url)
        first.request("POST", PATHS["deepseek"], json.dumps(body("deepseek")), {"Content-Type": "application/json", **KEYS["deepseek"]})
        while self.server.stats("deepseek")["in_flight"] == 0:
            pass
        self.assertEqual(self.post("deepseek")[0], 429)
        first.close()
        while self.server.stats("deepseek")["in_flight"]:
            pass
        self.server.control("deepseek", latency_ms=0)
        self.assertEqual(self.post("deepseek")[0], 200)
        self.assertEqual(self.server.stats("deepseek")["broken_off"], 1)

    def test_reads_a_prompt_it_has_seen_from_its_cache(self):
        for provider, where in (("openai", lambda r: r["usage"]["prompt_tokens_details"]["cached_tokens"]),
                                ("deepseek", lambda r: r["usage"]["prompt_cache_hit_tokens"]),
                                ("gemini", lambda r: r["usageMetadata"].get("cachedContentTokenCount", 0))):
            with self.subTest(provider):
                given = json.loads(json.dumps(body(provider)).replace("Answer in json.", "Answer in json." + provider * 5_000))
                self.assertEqual(where(self.post(provider, given)[2]), 0)
                self.assertGreater(where(self.post(provider, given)[2]), 4_096)
                self.server.control(provider, caching=False)
                self.assertEqual(where(self.post(provider, given)[2]), 0)

    def test_a_fault_holds_for_as_many_calls_as_told(self):
        self.server.control("openai", fault="storm", times=2)
        self.assertEqual([self.post("openai")[0] for _ in range(3)], [429, 429, 200])
        self.assertEqual(self.server.stats("openai")["over_limit"], 0, "a storm is not the client's doing")

    def test_each_error_has_the_status_of_the_real_one(self):
        statuses = {"openai": [429, 401, 500, 503, 400], "gemini": [402, 400, 500, 503, 400], "deepseek": [402, 401, 500, 503, 400],
                    "anthropic": [402, 401, 500, 529, 400]}
        for provider, expected in statuses.items():
            for fault, status in zip(("no_money", "bad_key", "error500", "overloaded", "context"), expected):
                self.server.control(provider, fault=fault)
                self.assertEqual(self.post(provider)[0], status, (provider, fault))

    def test_a_provider_that_refuses_connections_can_be_brought_back(self):
        self.server.control("gemini", fault="refuse")
        with self.assertRaises(OSError):
            self.post("gemini")
        self.assertEqual(self.post("openai")[0], 200)
        self.server.control("gemini", fault="none")
        self.assertEqual(self.post("gemini")[0], 200)

    def test_breaks_an_answer_off_as_told(self):
        for fault in ("truncate", "reset", "close"):
            self.server.control("openai", fault=fault)
            with self.assertRaises((OSError, http.client.HTTPException)):
                self.post("openai")
        for fault in ("hang", "stall", "drip"):
            self.server.control("openai", fault=fault, drip_ms=60_000)
            with self.assertRaises(OSError):
                self.post("openai", timeout=0.2)
        self.server.control("openai", fault="huge")
        self.assertEqual(len(self.server.request("POST", self.server.urls["openai"] + PATHS["openai"], body("openai"), KEYS["openai"])[2]), 100 << 20)

    def test_an_unknown_fault_or_setting_is_an_error(self):
        for command in ({"provider": "openai", "fault": "nonsense"}, {"provider": "nobody"}, {"provider": "openai", "bogus": 1}):
            self.assertEqual(self.server.request("POST", self.server.urls["control"] + "/control", command)[0], 400)


if __name__ == "__main__":
    unittest.main()

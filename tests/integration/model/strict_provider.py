#!/usr/bin/env python3
"""A model provider on this machine, as strict as the real ones: a server for tests, demos and benchmarks.

It speaks the provider's wire format, refuses what the provider refuses (unknown members, a missing key, a schema that
is not strict), keeps rate limits by its own arithmetic, and answers with a small rule-based extraction, so that whole
conversations work against it. On demand it misbehaves. Standard library only; it shares nothing with the client.

The first line on stdout is the port. Faults are set while it runs:

  POST /admin/faults   {"mode": "<mode>", "times": n}     times -1: until changed; mode "none" ends it
  POST /admin/limits   {"requests_per_minute": n, "tokens_per_minute": n}
  GET  /admin/stats    {"calls", "answered", "refused", "rate_limited", "requests": [the newest bodies], …}

Modes: slow (3 s), hang, drip (a byte now and then), truncate, lie (values nobody said), unknown_field, garbage, prose,
empty, cut (finish_reason length), refusal, huge (100 MB), redirect, storm (429 with a hint), storm_silent (429 without),
no_money, bad_key, error500, error503, close (no answer), reset (RST in the middle of the answer).
"""

import argparse
import collections
import json
import math
import random
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Refusal(Exception):
    """An error reply: status, the provider's error object, extra headers."""

    def __init__(self, status, body, headers=None):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


# ---- limits: buckets with continuous refill, full at the start, as the providers describe theirs


class Bucket:
    def __init__(self, per_minute):
        self.per_minute, self.level, self.at = per_minute, float(per_minute), time.monotonic()

    def refill(self):
        now = time.monotonic()
        self.level = min(self.per_minute, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def seconds_until(self, amount):
        return max(0.0, (amount - self.level) * 60 / self.per_minute)


def go_duration(seconds):
    ms = math.ceil(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms / 1000, 60)
    return (f"{int(minutes)}m" if minutes else "") + f"{rest:g}s"


class Limits:
    def __init__(self, requests_per_minute, tokens_per_minute):
        self.lock = threading.Lock()
        self.set(requests_per_minute, tokens_per_minute)

    def set(self, requests_per_minute, tokens_per_minute):
        with self.lock:
            self.buckets = {
                name: Bucket(limit)
                for name, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute))
                if limit > 0
            }

    def take(self, tokens):
        """None when admitted, else (kind, limit, used, requested, seconds to wait). All are taken or none."""
        wanted = {"requests": 1, "tokens": tokens}
        with self.lock:
            for name, bucket in self.buckets.items():
                bucket.refill()
                if wanted[name] > bucket.level:
                    used = int(bucket.per_minute - bucket.level)
                    return name, bucket.per_minute, used, wanted[name], bucket.seconds_until(wanted[name])
            for name, bucket in self.buckets.items():
                bucket.level -= wanted[name]
        return None

    def snapshot(self):
        with self.lock:
            for bucket in self.buckets.values():
                bucket.refill()
            return {n: (b.per_minute, int(b.level), (b.per_minute - b.level) * 60 / b.per_minute) for n, b in self.buckets.items()}


# ---- the model: a few rules, enough to hold an onboarding conversation


NUMBER_WORDS = {w: i for i, w in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())}
NUMBER_WORDS.update({"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100})
PATTERNS = {
    "email": [r"([^\s@<>,;]+@[^\s@<>,;]+\.[A-Za-z]{2,})", r"([\w.+-]+ at [\w-]+ dot \w+)"],
    "full_name": [r"(?:my name is|i'm called|call me|it's|i am|i'm)\s+([A-Z][\w'’-]*(?:\s+[A-Z][\w'’-]*)*)"],
    "company": [r"(?:work (?:at|for)|from|company is|i'm at|i'm with)\s+([A-Z][\w&.-]*(?:\s+[A-Z][\w&.-]*)*)"],
    "role": [r"(?:i'm|i am|work as|my role is|role is)\s+(?:an?|the)\s+([a-z][a-z ]+?)(?=\s+(?:at|from|for|with|in)\b|[.,;!]|$)"],
    "team_size": [r"\b(\d[\d,.]*)\b(?=\s*(?:people|of us|employees|persons|in the team|$))", r"\b(" + "|".join(NUMBER_WORDS) + r")\b(?=\s+(?:people|of us))"],
    "goal": [r"(?:want to|goal is to|goal is|hope to|need to|looking to)\s+(.+?)[.!]?$"],
}


def extract(message, fields, asked):
    found = {}
    for name in fields:
        for pattern in PATTERNS.get(name, ()):
            match = re.search(pattern, message, re.IGNORECASE if name not in ("full_name", "company") else 0)
            if not match and name in ("full_name", "company"):
                match = re.search(pattern.replace("i'm", "[Ii]'m").replace("my name", "[Mm]y name"), message)
            if match:
                found[name] = match.group(1).strip()
                break
    # A bare answer belongs to what was asked.
    short = message.strip().rstrip(".!")
    if not found and asked and short and "?" not in short and len(short) < 200:
        found[asked[0]] = short
    return found


def turn_of(system):
    """What the client says about the turn: lists named open and asked_last, if it tells them as JSON."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", system):
        try:
            value, _ = decoder.raw_decode(system, match.start())
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("open"), list):
            return value["open"], value.get("asked_last") or []
    return None, []


def answer_for(system, message, schema):
    fields = list(schema["properties"]["fields"]["properties"])
    open_fields, asked = turn_of(system)
    given = extract(message, fields, asked)
    left = [f for f in (open_fields if open_fields is not None else fields) if f not in given]
    thanks = "Thank you. " if given else "Hello! "
    reply = thanks + (f"Could you tell me your {left[0].replace('_', ' ')}?" if left else "That is all I need.")
    return {"reply": reply, "fields": {f: given.get(f) for f in fields}, "asks": left[:1]}


def tokens_of(text):
    return max(1, len(text) // 4)


# ---- wire formats: each knows its paths, its credential, its validation and its shapes


class OpenAi:
    """POST /v1/chat/completions"""

    MEMBERS = {
        "model", "messages", "max_completion_tokens", "max_tokens", "response_format", "stream", "stream_options", "temperature",
        "top_p", "n", "stop", "seed", "user", "store", "metadata", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "safety_identifier", "service_tier", "reasoning_effort", "verbosity", "presence_penalty",
        "frequency_penalty", "logprobs", "top_logprobs", "logit_bias", "tools", "tool_choice", "parallel_tool_calls",
    }
    ROLES = {"system", "developer", "user", "assistant", "tool"}

    def matches(self, path):
        return path == "/v1/chat/completions"

    @staticmethod
    def error(status, kind, code, message, param=None, headers=None):
        return Refusal(status, {"error": {"message": message, "type": kind, "param": param, "code": code}}, headers)

    def invalid(self, message, param=None, code=None):
        return self.error(400, "invalid_request_error", code, message, param)

    def authorise(self, headers, key):
        given = headers.get("Authorization", "")
        if not given.startswith("Bearer "):
            raise self.error(401, "invalid_request_error", None, "You didn't provide an API key.")
        if key and given[7:] != key:
            raise self.error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.")

    def validate(self, body):
        if not isinstance(body, dict):
            raise self.invalid("We could not parse the JSON body of your request.")
        for member in body:
            if member not in self.MEMBERS:
                raise self.invalid(f"Unrecognized request argument supplied: {member}", member, "unknown_parameter")
        if not isinstance(body.get("model"), str) or not body["model"]:
            raise self.invalid("you must provide a model parameter", "model")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise self.invalid("Invalid type for 'messages'.", "messages", "invalid_type")
        for i, m in enumerate(messages):
            if not isinstance(m, dict) or m.get("role") not in self.ROLES:
                raise self.invalid(f"Invalid value for 'messages[{i}].role'.", f"messages[{i}].role", "invalid_value")
            if not isinstance(m.get("content"), str) or set(m) - {"role", "content", "name"}:
                raise self.invalid(f"Invalid type for 'messages[{i}].content'.", f"messages[{i}].content", "invalid_type")
        if messages[-1]["role"] != "user":
            raise self.invalid("the last message must be the user's", "messages")
        if body.get("stream"):
            raise self.invalid("this server does not stream", "stream", "unsupported_value")
        cap = body.get("max_completion_tokens", body.get("max_tokens"))
        if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
            raise self.invalid("Invalid 'max_completion_tokens'.", "max_completion_tokens", "integer_below_min_value")
        self.validate_format(body.get("response_format"))

    def validate_format(self, form):
        if not isinstance(form, dict) or form.get("type") != "json_schema" or set(form) != {"type", "json_schema"}:
            raise self.invalid("a json_schema response_format is expected here", "response_format")
        spec = form["json_schema"]
        if not isinstance(spec, dict) or set(spec) - {"name", "strict", "schema", "description"}:
            raise self.invalid("Unknown parameter in json_schema", "response_format.json_schema", "unknown_parameter")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(spec.get("name", ""))):
            raise self.invalid("Invalid 'response_format.json_schema.name'.", "response_format.json_schema.name")
        if spec.get("strict") is not True:
            raise self.invalid("strict must be true here", "response_format.json_schema.strict")
        self.validate_schema(spec.get("schema"), ())

    def validate_schema(self, schema, context):
        where = f"In context={context}"
        if not isinstance(schema, dict) or "type" not in schema:
            raise self.invalid(f"Invalid schema for response_format: {where}, schema must have a 'type' key.", "response_format")
        if schema["type"] == "object":
            properties = schema.get("properties")
            if not isinstance(properties, dict) or schema.get("additionalProperties") is not False:
                raise self.invalid(f"Invalid schema for response_format: {where}, 'additionalProperties' must be false.", "response_format")
            if sorted(schema.get("required", [])) != sorted(properties):
                raise self.invalid(f"Invalid schema for response_format: {where}, 'required' must include every key.", "response_format")
            for name, inner in properties.items():
                self.validate_schema(inner, context + ("properties", name))
        elif schema["type"] == "array":
            self.validate_schema(schema.get("items"), context + ("items",))

    def cost(self, body):
        prompt = sum(tokens_of(m["content"]) for m in body["messages"]) + tokens_of(json.dumps(body["response_format"]))
        return prompt, body.get("max_completion_tokens") or body.get("max_tokens") or 16

    def rate_headers(self, limits):
        headers = {}
        for name, (limit, remaining, reset) in limits.snapshot().items():
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, remaining))
            headers[f"x-ratelimit-reset-{name}"] = go_duration(reset)
        return headers

    def rate_limited(self, refused):
        kind, limit, used, requested, wait = refused
        if requested > limit:
            return self.error(429, kind, "rate_limit_exceeded", f"Request too large for {kind}: Limit {limit}, Requested {requested}.")
        text = f"Rate limit reached on {kind} per min: Limit {limit}, Used {used}, Requested {requested}. Please try again in {go_duration(wait)}."
        headers = {"retry-after": str(max(1, math.ceil(wait))), "retry-after-ms": str(math.ceil(wait * 1000))}
        return self.error(429, kind, "rate_limit_exceeded", text, headers=headers)

    def storm(self, hint):
        text = "Rate limit reached." + (" Please try again in 300ms." if hint else "")
        return self.error(429, "requests", "rate_limit_exceeded", text)

    def no_money(self):
        return self.error(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota.")

    def bad_key(self):
        return self.error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.")

    def failed(self, status):
        return self.error(status, "server_error", None, "The server had an error while processing your request.")

    def question(self, body):
        system = "\n".join(m["content"] for m in body["messages"] if m["role"] in ("system", "developer"))
        return system, body["messages"][-1]["content"], body["response_format"]["json_schema"]["schema"]

    def reply(self, body, text, prompt_tokens, finish="stop", refusal=None):
        completion = tokens_of(text) if text else 1
        return {
            "id": f"chatcmpl-{random.getrandbits(64):016x}", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": refusal, "annotations": []},
                         "logprobs": None, "finish_reason": finish}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion, "total_tokens": prompt_tokens + completion,
                      "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                      "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}},
            "service_tier": "default", "system_fingerprint": "fp_local",
        }


FORMATS = [OpenAi()]
MODES = set(re.findall(r"\w+", "none slow hang drip truncate lie unknown_field garbage prose empty cut refusal huge redirect storm "
                               "storm_silent no_money bad_key error500 error503 close reset"))


class Provider:
    """What all connections share."""

    def __init__(self, options):
        self.options = options
        self.limits = Limits(options.requests_per_minute, options.tokens_per_minute)
        self.lock = threading.Lock()
        self.random = random.Random(options.seed)
        self.mode, self.times = options.fault, -1
        self.stats = collections.Counter()
        self.requests = collections.deque(maxlen=20)

    def count(self, name, n=1):
        with self.lock:
            self.stats[name] += n

    def next_fault(self):
        with self.lock:
            mode = self.mode
            if mode != "none" and self.times > 0:
                self.times -= 1
                if self.times == 0:
                    self.mode = "none"
            return mode

    def latency(self):
        o = self.options
        with self.lock:
            return max(0.0, (o.latency_ms + self.random.uniform(-o.jitter_ms, o.jitter_ms)) / 1000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    provider = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        p = self.provider
        if self.path != "/admin/stats":
            return self.send(404, {"error": "not found"})
        with p.lock:
            stats = {"calls": 0, "answered": 0, "refused": 0, "rate_limited": 0, **p.stats, "mode": p.mode, "requests": list(p.requests)}
        self.send(200, stats)

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > 10_000_000:
            self.close_connection = True
            return self.send(411, {"error": {"message": "Content-Length is missing or too large"}})
        raw = self.rfile.read(int(length))
        if self.path.startswith("/admin/"):
            return self.administer(json.loads(raw))
        form = next((f for f in FORMATS if f.matches(self.path)), None)
        if form is None:
            return self.send(404, {"error": {"message": f"Invalid URL (POST {self.path})", "type": "invalid_request_error", "param": None, "code": None}})
        self.provider.count("calls")
        try:
            self.call(form, raw)
        except Refusal as r:
            self.provider.count("rate_limited" if r.status == 429 else "refused")
            self.send(r.status, r.body, {**form.rate_headers(self.provider.limits), **r.headers})

    def administer(self, command):
        p = self.provider
        if self.path == "/admin/faults" and command.get("mode") in MODES:
            with p.lock:
                p.mode, p.times = command["mode"], command.get("times", -1)
        elif self.path == "/admin/limits":
            p.limits.set(command.get("requests_per_minute", 0), command.get("tokens_per_minute", 0))
        else:
            return self.send(404, {"error": "no such setting"})
        self.send(200, {})

    def call(self, form, raw):
        p = self.provider
        form.authorise(self.headers, p.options.key)
        if self.headers.get("Content-Type", "").split(";")[0] != "application/json":
            raise form.invalid("Content-Type must be application/json")
        try:
            body = json.loads(raw)
        except ValueError:
            raise form.invalid("We could not parse the JSON body of your request.") from None
        form.validate(body)
        with p.lock:
            p.requests.append(body)
        prompt, cap = form.cost(body)
        if prompt > p.options.context_tokens:
            raise form.invalid(f"This model's maximum context length is {p.options.context_tokens} tokens.", "messages", "context_length_exceeded")
        mode = p.next_fault()
        self.refuse_by(form, mode)
        # Counted before the work is done, with the answer's cap: failed requests count too.
        refused = p.limits.take(prompt + cap)
        if refused:
            raise form.rate_limited(refused)
        time.sleep(p.latency())
        self.answer(form, body, prompt, mode)

    @staticmethod
    def refuse_by(form, mode):
        refusals = {"storm": lambda: form.storm(True), "storm_silent": lambda: form.storm(False), "no_money": form.no_money,
                    "bad_key": form.bad_key, "error500": lambda: form.failed(500), "error503": lambda: form.failed(503)}
        if mode in refusals:
            raise refusals[mode]()

    def answer(self, form, body, prompt, mode):
        system, message, schema = form.question(body)
        answer = answer_for(system, message, schema)
        if mode == "lie":
            answer["fields"] = {f: "invented " + f for f in answer["fields"]}
        elif mode == "unknown_field":
            answer["fields"]["password"] = "hunter2"
        text = {"prose": "Sure! Here is what I found.", "empty": ""}.get(mode, json.dumps(answer, ensure_ascii=False))
        finish = "length" if mode == "cut" else "stop"
        if mode == "cut":
            text = text[: len(text) // 2]
        reply = form.reply(body, None if mode == "refusal" else text, prompt, finish, "I can't help with that." if mode == "refusal" else None)
        payload = b"<html>garbage \xff\x00" if mode == "garbage" else json.dumps(reply).encode()
        self.deliver(payload, form.rate_headers(self.provider.limits), mode)

    def deliver(self, payload, headers, mode):
        if mode == "slow":
            time.sleep(3)
        elif mode == "hang":
            time.sleep(3600)
        elif mode == "close":
            self.close_connection = True
            return
        elif mode == "redirect":
            return self.send_bytes(302, b"", {"Location": "/v1/chat/completions"})
        elif mode == "huge":
            return self.send_huge()
        if mode in ("truncate", "drip", "reset"):
            return self.send_badly(payload, mode)
        self.provider.count("answered")
        self.send_bytes(200, payload, headers)

    def send_huge(self):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")  # no length: only counting bytes ends it
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b" " * (1 << 20))
            self.provider.count("huge_megabytes")

    def send_badly(self, payload, mode):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        half = payload[: len(payload) // 2]
        if mode == "drip":
            for i in range(len(payload)):
                self.wfile.write(payload[i : i + 1])
                self.wfile.flush()
                time.sleep(0.2)
            return
        self.wfile.write(half)
        self.wfile.flush()
        if mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def send(self, status, value, headers=None):
        self.send_bytes(status, json.dumps(value).encode(), headers)

    def send_bytes(self, status, payload, headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "x-request-id": f"req_{random.getrandbits(48):x}", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        pass  # clients that hang up are what it is for


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0, help="0: one that is free; printed as the first line")
    p.add_argument("--key", default="", help="the only key that is accepted; empty: any")
    p.add_argument("--latency-ms", type=float, default=0)
    p.add_argument("--jitter-ms", type=float, default=0, help="latency is uniform in latency ± jitter")
    p.add_argument("--requests-per-minute", type=int, default=0, help="0: no limit")
    p.add_argument("--tokens-per-minute", type=int, default=0, help="0: no limit; counts the prompt and the answer's cap")
    p.add_argument("--context-tokens", type=int, default=128_000)
    p.add_argument("--fault", choices=sorted(MODES), default="none", help="misbehave from the start")
    p.add_argument("--seed", type=int, default=1, help="of the jitter")
    options = p.parse_args()
    Handler.provider = Provider(options)
    server = Server((options.host, options.port), Handler)
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()

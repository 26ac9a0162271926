"""One provider: checks a call as the real one does, keeps its limits, answers, and misbehaves when told to."""
import collections
import json
import math
import random
import time
from typing import Callable, Iterator

from . import model
from .limits import Meter
from .prompt_cache import PromptCache, tokens_of
from .server import CLOSE, HANG, LAST_CHUNK, RESET, Reply, Request, chunk, head, whole
from .wire import Call, Format, Over, Refusal, Usage

# What it says wrong, in a reply that is otherwise whole.
CONTENT = {
    "prose": "no JSON at all", "empty": "blank content", "cut": "the cap was met: finish_reason length", "refusal": "it won't",
    "lie": "values that nobody said", "unknown_field": "a field that the flow does not have", "wrong_type": "fields is a list",
    "leak": "its whole system prompt as the reply", "wrong_usage": "a billion tokens", "no_usage": "no usage at all",
}
# How it delivers.
DELIVERY = {
    "slow": "slow_ms later, the first token too", "hang": "never, after the head of a stream", "drip": "a byte every drip_ms",
    "truncate": "half of it, then the connection closes", "half": "half of it, properly ended", "stall": "half of it, then silence",
    "reset": "half of it, then RST", "close": "the connection closes without an answer", "garbage": "bytes that are nothing",
    "huge": "100 MB", "redirect": "302", "keep_alive": "keep-alives for slow_ms, then the answer", "keep_alive_forever": "nothing but keep-alives",
    "stream_error": "an error event in the middle of a stream", "octet_stream": "right, with Content-Type application/octet-stream",
}
USAGE = ("usage", "usageMetadata")
STORM_SECONDS = 0.3
DAY = 86_400


def without_usage(event: bytes) -> bytes:
    before, mark, after = event.partition(b"data: {")
    if not mark:
        return event
    body = json.loads(b"{" + after)
    for holder in (body, body.get("message", {})):
        for name in USAGE:
            holder.pop(name, None)
    return before + b"data: " + json.dumps(body).encode() + after[len(after.rstrip()):]


class Provider:
    def __init__(self, form: Format, key: str, latency_ms: float, jitter_ms: float, seed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.form, self.key, self.clock = form, key, clock
        self.latency_ms, self.jitter_ms, self.pieces = latency_ms, jitter_ms, 8
        self.slow_ms, self.drip_ms = 3_000.0, 50.0
        self.caching, self.cache = True, PromptCache()
        self.random = random.Random(f"{seed} {form.name}")
        self.fault, self.times, self.share = "none", -1, 1.0
        self.in_flight = 0
        self.wanted, self.burst_seconds = dict(form.limits), 60.0
        self.forget()

    def forget(self) -> None:
        """Limits begin anew, full, and so do the counts."""
        now = self.clock()
        per_minute = {name: limit for name, limit in self.wanted.items() if name.endswith("_per_minute")}
        self.meters = {name: Meter(limit, now, 60, self.form.windowed, self.burst_seconds) for name, limit in per_minute.items()}
        if "requests_per_day" in self.wanted:
            self.meters["requests_per_day"] = Meter(self.wanted["requests_per_day"], now, DAY, True, DAY)
        self.counts: collections.Counter[str] = collections.Counter()
        self.statuses: collections.Counter[str] = collections.Counter()
        self.used = Usage()
        self.peak_in_flight = self.in_flight
        self.first_call = self.last_call = None
        self.bodies: collections.deque = collections.deque(maxlen=20)
        self.arrivals: collections.deque[float] = collections.deque(maxlen=5_000)

    def faults(self) -> list[str]:
        return ["none", "storm", "storm_silent", "refuse", *self.form.errors(), *CONTENT, *DELIVERY]

    # ---- a call
    def handle(self, request: Request) -> Reply:
        now = self.clock()
        self.counts["calls"] += 1
        self.arrivals.append(time.time())
        self.first_call, self.last_call = self.first_call or now, now
        try:
            return self._call(request, now)
        except Refusal as refusal:
            return self._refuse(refusal, now)

    def _call(self, request: Request, now: float) -> Reply:
        form = self.form
        operation = form.operation(request.path)
        if operation is None or request.method != "POST":
            raise Refusal(404, {"error": {"message": f"Invalid URL ({request.method} {request.path})", "type": "invalid_request_error", "code": 404}})
        form.authorise(request.headers, self.key)
        call, usage, fault = None, Usage(), self._next_fault()
        try:
            body = self._json(request)
            if operation == "embed":
                payload = json.dumps(form.embed(body)).encode()
            else:
                call = form.read(request.path, request.headers, body)
                usage = self._usage_before(call, now)
            self._fail_as_told(fault)
        except Refusal:
            self._count_refused(now)
            raise
        if call is None:
            return Reply(iter([whole(200, payload, {"content-type": "application/json"})]), self._ended(usage, {}))
        amounts = form.reservation(call, usage)
        self._admit(amounts, now)
        text, finish = self._say(call, usage, fault)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        return Reply(self._steps(call, text, usage, finish, fault, form.rate_headers(self.meters, now)), self._ended(usage, form.afterwards(usage)))

    def _json(self, request: Request) -> dict:
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise self.form.invalid("Content-Type must be application/json.")
        try:
            body = json.loads(request.body)
        except ValueError:
            raise self.form.invalid("We could not parse the JSON body of your request.") from None
        if not isinstance(body, dict):
            raise self.form.invalid("We could not parse the JSON body of your request: an object is expected.")
        self.bodies.append(body)
        return body

    def _usage_before(self, call: Call, now: float) -> Usage:
        usage = Usage(input=call.input_tokens)
        if usage.input > self.form.context_tokens:
            raise self.form.errors()["context"]
        if self.caching:
            usage.cached, usage.written = self.form.cache(self.cache, call, now)
        return usage

    def _next_fault(self) -> str:
        if self.fault in ("none", "refuse") or self.share < 1 and self.random.random() >= self.share:
            return "none"
        fault = self.fault
        if self.times > 0:
            self.times -= 1
            if self.times == 0:
                self.fault = "none"
        return fault

    def _fail_as_told(self, fault: str) -> None:
        if fault in ("storm", "storm_silent"):
            meter = next(iter(self.form.limits))
            limit = self.wanted[meter] or self.form.limits[meter]
            raise self.form.over(Over(meter, limit, limit, 1, STORM_SECONDS), hint=fault == "storm")
        if refusal := self.form.errors().get(fault):
            raise refusal

    def _count_refused(self, now: float) -> None:
        if self.form.refused_calls_count:
            self.meters["requests_per_minute"].take(1, now)

    def _admit(self, amounts: dict[str, int], now: float) -> None:
        concurrent = self.wanted.get("max_concurrent", 0)
        if concurrent and self.in_flight >= concurrent:
            raise self._over(Over("max_concurrent", concurrent, self.in_flight, 1, 0))
        # What is charged afterwards (amount 0) must not be used up already. What can never fit is told before what must wait.
        waits = {name: wait for name, amount in amounts.items() if (wait := self.meters[name].seconds_until(max(1, amount), now))}
        if waits:
            name = next((n for n, wait in waits.items() if wait == math.inf), next(iter(waits)))
            self._count_refused(now)
            raise self._over(Over(name, int(self.meters[name].limit), int(self.meters[name].used), amounts[name], waits[name]))
        for name, amount in amounts.items():
            if amount:
                self.meters[name].take(amount, now)

    def _over(self, over: Over) -> Refusal:
        self.counts["over_limit"] += 1
        self.counts["over_" + over.meter] += 1
        return self.form.over(over)

    def _refuse(self, refusal: Refusal, now: float) -> Reply:
        self.counts["rate_limited" if refusal.status == 429 else "refused"] += 1
        self.statuses[str(refusal.status)] += 1
        headers = {"content-type": self.form.content_type, **self.form.rate_headers(self.meters, now), **refusal.headers}
        return Reply(iter([whole(refusal.status, json.dumps(refusal.body).encode(), headers)]))

    # ---- the answer
    def _say(self, call: Call, usage: Usage, fault: str) -> tuple[str, str]:
        answer = model.answer(call.system, call.message, call.schema)
        if fault == "lie":
            answer["fields"] = {name: "invented " + name for name in answer["fields"]}
        elif fault == "unknown_field":
            answer["fields"]["password"] = "hunter2"
        elif fault == "wrong_type":
            answer["fields"] = [answer["fields"]]
        elif fault == "leak":
            answer["reply"] = call.system
        text = {"prose": "Sure! Here is what I found.", "empty": ""}.get(fault) if fault in ("prose", "empty") else json.dumps(answer, ensure_ascii=False)
        finish = "refusal" if fault == "refusal" else "stop"
        usage.reasoning = 64 if call.thinks else 0
        room = (call.cap or 100_000) - usage.reasoning
        if fault == "cut" or tokens_of(text) > room:
            text, finish = text[:max(0, min(len(text) // 2, room * 4))], "length"
        usage.output = tokens_of(text) + usage.reasoning
        if fault == "wrong_usage":
            usage.input = usage.output = 10**9
        return text, finish

    def _latency(self) -> float:
        return max(0.0, self.latency_ms + self.random.uniform(-self.jitter_ms, self.jitter_ms)) / 1000

    def _steps(self, call: Call, text: str, usage: Usage, finish: str, fault: str, headers: dict[str, str]) -> Iterator:
        latency = self._latency() + (self.slow_ms / 1000 if fault == "slow" else 0)
        headers = {"content-type": "text/event-stream; charset=utf-8" if call.stream else self.form.content_type, **headers}
        if fault == "octet_stream":
            headers["content-type"] = "application/octet-stream"
        if fault == "close":
            yield latency
            yield CLOSE
        elif fault == "redirect":
            yield whole(302, b"", {"location": "/elsewhere"})
        elif fault == "garbage":
            yield latency
            yield whole(200, b"<html>garbage \xff\x00 data: {\n\n", headers)
        elif fault == "huge":
            yield head(200, {**headers, "connection": "close"})  # no length: only counting bytes ends it
            for _ in range(100):
                yield b" " * (1 << 20)
                self.counts["huge_megabytes"] += 1
            yield CLOSE
        elif call.stream:
            yield from self._stream(call, text, usage, finish, fault, headers, latency)
        else:
            yield from self._plain(call, text, usage, finish, fault, headers, latency)

    def _plain(self, call: Call, text: str, usage: Usage, finish: str, fault: str, headers: dict[str, str], latency: float) -> Iterator:
        body = self.form.whole(call, text, usage, finish)
        if fault == "no_usage":
            body = {name: value for name, value in body.items() if name not in USAGE}
        payload = json.dumps(body, ensure_ascii=False).encode()
        cut = payload[:len(payload) // 2]
        if fault in ("keep_alive", "keep_alive_forever"):
            yield head(200, {**headers, "transfer-encoding": "chunked"})
            yield from self._keep_alives(b"\n", fault)
            yield chunk(payload) + LAST_CHUNK
        elif fault == "hang":
            yield HANG
        elif fault in ("truncate", "reset", "stall"):
            yield latency
            yield whole(200, payload, headers)[:-len(payload) + len(cut)]
            yield 0.01  # the half must be out before an RST would take it back
            yield {"truncate": CLOSE, "reset": RESET, "stall": HANG}[fault]
        elif fault == "drip":
            yield whole(200, payload, headers)[:-len(payload)]
            yield from self._drip(payload)
        elif fault in ("half", "stream_error"):
            yield latency
            yield whole(200, cut, headers)
        else:
            yield latency
            yield whole(200, payload, headers)

    def _stream(self, call: Call, text: str, usage: Usage, finish: str, fault: str, headers: dict[str, str], latency: float) -> Iterator:
        size = max(1, math.ceil(len(text) / self.pieces))
        texts = [text[i:i + size] for i in range(0, len(text), size)] or [""]
        first, pieces, last = self.form.streamed(call, texts, usage, finish)
        if fault == "no_usage":
            first, pieces, last = ([without_usage(e) for e in events] for events in (first, pieces, last))
        yield head(200, {**headers, "transfer-encoding": "chunked"})
        if fault == "hang":
            yield HANG
        if fault in ("keep_alive", "keep_alive_forever"):
            yield from self._keep_alives(self.form.keep_alive, fault)
        if fault == "drip":
            yield from self._drip(b"".join([*first, *pieces, *last]), chunk)
            yield LAST_CHUNK
            return
        yield latency * 0.4
        if first:
            yield chunk(b"".join(first))
        pause = latency * 0.6 / max(1, len(pieces))
        for i, piece in enumerate(pieces):
            if i == len(pieces) // 2 and fault in ("truncate", "half", "stall", "reset", "stream_error"):
                yield from {"truncate": [CLOSE], "half": [LAST_CHUNK], "stall": [HANG], "reset": [0.01, RESET],
                            "stream_error": [chunk(self.form.stream_error()), LAST_CHUNK]}[fault]
                return
            yield chunk(piece)
            yield pause
        yield chunk(b"".join(last)) + LAST_CHUNK if last else LAST_CHUNK

    def _keep_alives(self, line: bytes, fault: str) -> Iterator:
        until = math.inf if fault == "keep_alive_forever" else self.clock() + self.slow_ms / 1000
        while self.clock() < until:
            yield chunk(line)
            yield 0.05

    def _drip(self, payload: bytes, framed: Callable[[bytes], bytes] = lambda b: b) -> Iterator:
        for i in range(len(payload)):
            yield framed(payload[i:i + 1])
            yield self.drip_ms / 1000

    def _ended(self, usage: Usage, charge: dict[str, int]) -> Callable[[bool], None]:
        counted_in_flight = bool(usage.input)

        def ended(complete: bool) -> None:
            now = self.clock()
            self.in_flight -= counted_in_flight
            self.counts["answered" if complete else "broken_off"] += 1
            self.statuses["200"] += complete
            for name, amount in charge.items():
                self.meters[name].take(amount, now)
            for member in ("input", "cached", "written", "output", "reasoning"):
                setattr(self.used, member, getattr(self.used, member) + getattr(usage, member))
        return ended

    # ---- what it shows
    def stats(self) -> dict:
        now = self.clock()
        used = self.used
        return {**{name: 0 for name in ("calls", "answered", "refused", "rate_limited", "over_limit", "broken_off")}, **self.counts,
                "statuses": dict(self.statuses), "in_flight": self.in_flight, "peak_in_flight": self.peak_in_flight,
                "seconds": round((self.last_call - self.first_call) if self.first_call else 0, 3),
                "idle_seconds": round(now - self.last_call, 3) if self.last_call else None,
                "tokens": {"input": used.input, "cached": used.cached, "cache_written": used.written, "output": used.output, "reasoning": used.reasoning},
                "windows": {name: meter.report(now) for name, meter in self.meters.items()}, "fault": self.fault, "times": self.times}

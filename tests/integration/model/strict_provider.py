#!/usr/bin/env python3
"""Four model providers on this machine, as strict as the real ones: for tests, demos and measurements.

OpenAI (chat completions, embeddings), Gemini, DeepSeek and Anthropic, plain and streamed. Each refuses what the real one refuses, in
its own words, keeps its limits by its own arithmetic, caches prompts, and answers with a small rule-based extraction, so that whole
conversations work against it. On demand it misbehaves. Standard library only; it shares nothing with the client.

The first line on standard output is JSON: {"control": URL, "openai": URL, "gemini": URL, "deepseek": URL, "anthropic": URL}. Each
provider has a port of its own, so that it can refuse connections; the control port speaks all four formats too. Base URLs for
clients: openai's + "/v1", the others as they are. It ends when its standard input does, if --until-eof.

  GET  /stats[?provider=NAME]       calls, answers, 429s (over_limit: those that the client brought upon itself), tokens, calls in flight,
                                    and each limit's window: limit, used now, peak, total
  GET  /requests?provider=NAME      the newest bodies that were sent        GET /arrivals?provider=NAME   times of the newest calls (epoch seconds)
  POST /control  {"provider": NAME or "*", …}   any of:
       "fault": one of those below, "times": n (-1: until changed), "share": 0 to 1 of the calls
       "limits": {"requests_per_minute": n, "tokens_per_minute": n, …} (0: none), "burst_seconds": s (how much of a minute may come at once)
       "latency_ms": n, "jitter_ms": n, "slow_ms": n, "drip_ms": n, "pieces": n (of a streamed answer), "caching": true or false, "key": "…",
       "forget": true (counts and windows begin anew)

Faults of every provider: none, refuse (connections), storm (429 with a hint), storm_silent (429 without), no_money, spend_limit, bad_key,
forbidden, error500, error503, overloaded (529 at Anthropic), slow_down, too_large, context; some: error504, day_limit.
"""
import argparse
import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

sys.dont_write_bytecode = True

from strict.anthropic import Anthropic  # noqa: E402
from strict.deepseek import DeepSeek  # noqa: E402
from strict.gemini import Gemini  # noqa: E402
from strict.openai import OpenAi  # noqa: E402
from strict.provider import CONTENT, DELIVERY, Provider  # noqa: E402
from strict.server import Listener, Reply, Request, whole  # noqa: E402

FORMATS = (OpenAi, Gemini, DeepSeek, Anthropic)
NUMBERS = ("latency_ms", "jitter_ms", "slow_ms", "drip_ms", "pieces", "burst_seconds")


class Control:
    """The port that everything can be asked of."""

    def __init__(self, providers: dict[str, Provider], host: str, port: int) -> None:
        self.providers = providers
        self.listener = Listener(self.handle, host, port)
        self.listeners = {name: Listener(p.handle, host) for name, p in providers.items()}

    def open(self) -> dict[str, str]:
        for listener in (self.listener, *self.listeners.values()):
            listener.open()
        return {"control": self.listener.url, **{name: l.url for name, l in self.listeners.items()}}

    def handle(self, request: Request) -> Reply:
        url = urlsplit(request.path)
        try:
            if (request.method, url.path) == ("POST", "/control"):
                return self.answer(200, self.command(json.loads(request.body)))
            if request.method == "GET" and url.path in ("/stats", "/requests", "/arrivals"):
                return self.answer(200, self.show(url.path[1:], parse_qs(url.query).get("provider", [""])[0]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return self.answer(400, {"error": f"{type(error).__name__}: {error}"})
        provider = next((p for p in self.providers.values() if p.form.operation(request.path)), None)
        return provider.handle(request) if provider else self.answer(404, {"error": f"nothing at {request.method} {request.path}"})

    @staticmethod
    def answer(status: int, value) -> Reply:
        return Reply(iter([whole(status, json.dumps(value).encode(), {"content-type": "application/json"})]))

    def show(self, what: str, name: str):
        if what == "requests":
            return list(self.providers[name].bodies)
        if what == "arrivals":
            return list(self.providers[name].arrivals)
        return self.providers[name].stats() if name else {n: p.stats() for n, p in self.providers.items()}

    def command(self, body: dict) -> dict:
        wanted = body.pop("provider")
        for name in self.providers if wanted == "*" else [wanted]:
            self.apply(name, self.providers[name], body)
        return {}

    def apply(self, name: str, provider: Provider, body: dict) -> None:
        if unknown := set(body) - {"fault", "times", "share", "limits", "caching", "key", "forget", *NUMBERS}:
            raise ValueError(f"unknown {sorted(unknown)}")
        for member in NUMBERS:
            setattr(provider, member, float(body[member]) if member != "pieces" else int(body[member])) if member in body else None
        provider.caching, provider.key = bool(body.get("caching", provider.caching)), str(body.get("key", provider.key))
        if limits := body.get("limits"):
            # "*" may name limits that only some have.
            provider.wanted |= {n: int(limit) for n, limit in limits.items() if n in provider.wanted}
        if limits or body.get("forget") or "burst_seconds" in body:
            provider.forget()
        if "fault" in body:
            if body["fault"] not in provider.faults():
                raise ValueError(f"unknown fault {body['fault']}; there are {provider.faults()}")
            provider.fault, provider.times, provider.share = body["fault"], int(body.get("times", -1)), float(body.get("share", 1))
            if body["fault"] == "refuse":
                self.listeners[name].refuse()
            else:
                self.listeners[name].open()


async def serve(options: argparse.Namespace) -> None:
    providers = {}
    for form in FORMATS:
        p = providers[form.name] = Provider(form(), options.key, options.latency_ms, options.jitter_ms, options.seed)
        if options.no_limits:
            p.wanted = dict.fromkeys(p.wanted, 0)
            p.forget()
    urls = Control(providers, options.host, options.port).open()
    print(json.dumps(urls), flush=True)
    if options.until_eof:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    else:
        await asyncio.Event().wait()


def main() -> None:
    faults = "\n".join(f"  {name}: {what}" for name, what in {**CONTENT, **DELIVERY}.items())
    p = argparse.ArgumentParser(description=__doc__ + faults, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0, help="of the control; 0: one that is free")
    p.add_argument("--key", default="", help="the only key that is accepted; empty: any")
    p.add_argument("--latency-ms", type=float, default=500)
    p.add_argument("--jitter-ms", type=float, default=200, help="latency is uniform in latency ± jitter")
    p.add_argument("--no-limits", action="store_true", help="instead of those of the first paid tier")
    p.add_argument("--seed", type=int, default=1, help="of the jitter and of the share of faults")
    p.add_argument("--until-eof", action="store_true")
    try:
        asyncio.run(serve(p.parse_args()))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

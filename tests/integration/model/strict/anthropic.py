"""Anthropic: POST /v1/messages. Requests, uncached input and real output a minute, with continuous refill."""
import datetime
import json
import math
import re

from .wire import Call, Format, Over, Refusal, Streamed, Usage, event, identifier, is_count

MEMBERS = set("""model messages max_tokens system tools tool_choice stream temperature top_p top_k stop_sequences metadata thinking service_tier
    output_config container context_management""".split())
LIFETIMES = {"5m": 300, "1h": 3600}


class Anthropic(Format):
    name = "anthropic"
    limits = {"requests_per_minute": 1_000, "input_tokens_per_minute": 2_000_000, "output_tokens_per_minute": 400_000}
    windowed = False
    keep_alive = event({"type": "ping"})
    context_tokens = 200_000

    def operation(self, path: str) -> str | None:
        return "chat" if path == "/v1/messages" else None

    def error(self, status: int, kind: str, message: str, headers=None, **details) -> Refusal:
        identity = identifier("req_")
        body = {"type": "error", "error": {"type": kind, "message": message, **details}, "request_id": identity}
        return Refusal(status, body, {"request-id": identity, "x-should-retry": "true" if status in (429, 500, 529) else "false", **(headers or {})})

    def authorise(self, headers: dict[str, str], key: str) -> None:
        given = headers.get("x-api-key", "")
        if not given:
            raise self.error(401, "authentication_error", "x-api-key header is required")
        if key and given != key:
            raise self.errors()["bad_key"]

    def invalid(self, message: str, **_) -> Refusal:
        return self.error(400, "invalid_request_error", message)

    def read(self, path: str, headers: dict[str, str], body: dict) -> Call:
        if "anthropic-version" not in headers:
            raise self.invalid("anthropic-version: header is required")
        if headers["anthropic-version"] != "2023-06-01":
            raise self.invalid(f"anthropic-version: \"{headers['anthropic-version']}\" is not a valid version")
        for member in body:
            if member not in MEMBERS:
                raise self.invalid(f"{member}: Extra inputs are not permitted")
        for member in ("model", "max_tokens", "messages"):
            if member not in body:
                raise self.invalid(f"{member}: Field required")
        if not str(body["model"]).startswith("claude-"):
            raise self.error(404, "not_found_error", f"model: {body['model']}")
        if not is_count(body["max_tokens"]):
            raise self.invalid("max_tokens: Input should be greater than or equal to 1")
        if not 0 <= body.get("temperature", 1) <= 1:
            raise self.invalid("temperature: range: 0..1")
        if len(str((body.get("metadata") or {}).get("user_id", ""))) > 256:
            raise self.invalid("metadata.user_id: String should have at most 256 characters")
        blocks: list[tuple[str, dict]] = []  # in the order in which they are cached
        schema, tool = self.tools_of(body, blocks)
        system = self.blocks_of(body.get("system", []), "system", blocks)
        messages = self.messages_of(body["messages"], blocks)
        marked = {i: block["cache_control"] for i, (_, block) in enumerate(blocks) if block.get("cache_control")}
        if len(marked) > 4:
            raise self.invalid(f"A maximum of 4 blocks with cache_control may be provided. Found {len(marked)}.")
        for control in marked.values():
            if control.get("type") != "ephemeral" or control.get("ttl", "5m") not in LIFETIMES or set(control) - {"type", "ttl"}:
                raise self.invalid("cache_control: Input tag does not match any of the expected tags: 'ephemeral'")
        lifetimes = [LIFETIMES[c.get("ttl", "5m")] for _, c in sorted(marked.items())]
        if lifetimes != sorted(lifetimes, reverse=True):
            raise self.invalid("cache_control: a ttl='1h' block must not come after a ttl='5m' cache_control block.")
        if (form := (body.get("output_config") or {}).get("format")) is not None:
            schema = self.format_of(form)
        return Call(body["model"], body.get("stream") is True, "\n".join(system), messages[-1], [text for text, _ in blocks], schema=schema, tool=tool,
                    cap=body["max_tokens"], thinks=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
                    marks={i: LIFETIMES[c.get("ttl", "5m")] for i, c in marked.items()})

    def tools_of(self, body: dict, blocks: list) -> tuple[dict | None, str | None]:
        tools = body.get("tools", [])
        for i, tool in enumerate(tools):
            for member in ("name", "input_schema"):
                if member not in tool:
                    raise self.invalid(f"tools.{i}.custom.{member}: Field required")
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
                raise self.invalid(f"tools.{i}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
            if not isinstance(tool["input_schema"], dict) or tool["input_schema"].get("type") != "object":
                raise self.invalid(f"tools.{i}.custom.input_schema.type: Field required")
            if unknown := sorted(set(tool) - {"name", "description", "input_schema", "cache_control", "type", "strict"}):
                raise self.invalid(f"tools.{i}.custom.{unknown[0]}: Extra inputs are not permitted")
            blocks.append((json.dumps(tool["input_schema"]) + tool.get("description", ""), tool))
        choice = body.get("tool_choice")
        if choice is None:
            return None, None
        if not tools:
            raise self.invalid("tool_choice: tool_choice may only be specified while providing tools")
        if choice.get("type") != "tool":
            if choice.get("type") not in ("auto", "any", "none"):
                raise self.invalid("tool_choice: Input tag does not match any of the expected tags: 'auto', 'any', 'tool', 'none'")
            return (tools[0]["input_schema"], tools[0]["name"]) if choice["type"] == "any" else (None, None)
        if (body.get("thinking") or {}).get("type") == "enabled":
            raise self.invalid("Thinking may not be enabled when tool_choice forces tool use.")
        chosen = next((t for t in tools if t["name"] == choice.get("name")), None)
        if chosen is None:
            raise self.invalid(f"Tool '{choice.get('name')}' not found in provided tools")
        return chosen["input_schema"], chosen["name"]

    def blocks_of(self, content, where: str, blocks: list) -> list[str]:
        if isinstance(content, str):
            content = [{"type": "text", "text": content}] if content else []
        if not isinstance(content, list):
            raise self.invalid(f"{where}: Input should be a valid list")
        for i, block in enumerate(content):
            if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
                raise self.invalid(f"{where}.{i}: Input should be a text block")
            if unknown := sorted(set(block) - {"type", "text", "cache_control", "citations"}):
                raise self.invalid(f"{where}.{i}.text.{unknown[0]}: Extra inputs are not permitted")
            if not block["text"]:
                raise self.invalid(f"{where}: text content blocks must be non-empty")
            if not block["text"].strip():
                raise self.invalid(f"{where}: text content blocks must contain non-whitespace text")
            blocks.append((block["text"], block))
        return [block["text"] for block in content]

    def messages_of(self, messages, blocks: list) -> list[str]:
        if not isinstance(messages, list) or not messages:
            raise self.invalid("messages: at least one message is required")
        texts = []
        for i, message in enumerate(messages):
            if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
                raise self.invalid(f"messages: Unexpected role \"{(message or {}).get('role')}\". The Messages API accepts a top-level `system` parameter, "
                                   "not \"system\" as an input message role.")
            if unknown := sorted(set(message) - {"role", "content"}):
                raise self.invalid(f"messages.{i}.{unknown[0]}: Extra inputs are not permitted")
            if not message.get("content"):
                raise self.invalid(f"messages.{i}: {message['role']} messages must have non-empty content")
            texts.append("\n".join(self.blocks_of(message["content"], f"messages.{i}.content", blocks)))
        if messages[0]["role"] != "user":
            raise self.invalid('messages: first message must use the "user" role')
        if messages[-1]["role"] != "user":
            raise self.invalid("This model does not support assistant message prefill. The conversation must end with a user message.")
        return texts

    def format_of(self, form) -> dict:
        if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
            raise self.invalid("output_config.format: Input should be a json_schema format")

        def check(schema) -> None:
            if isinstance(schema, dict):
                kinds = schema.get("type", [])
                if "object" in (kinds if isinstance(kinds, list) else [kinds]) and schema.get("additionalProperties") is not False:
                    raise self.invalid("output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false")
                for inner in [*schema.get("properties", {}).values(), schema.get("items"), *schema.get("anyOf", [])]:
                    check(inner)
        check(form["schema"])
        return form["schema"]

    def cache(self, cache, call: Call, now: float) -> tuple[int, int]:
        minimum = 4096 if "haiku-4-5" in call.model else 512 if "opus-5" in call.model else 1024
        return cache.explicit(call.parts, call.marks, minimum, now)

    def reservation(self, call: Call, usage: Usage) -> dict[str, int]:
        return {"requests_per_minute": 1, "input_tokens_per_minute": usage.input - usage.cached, "output_tokens_per_minute": 0}

    def afterwards(self, usage: Usage) -> dict[str, int]:
        return {"output_tokens_per_minute": usage.output}

    def rate_headers(self, meters: dict, now: float) -> dict[str, str]:
        headers, today = {}, datetime.datetime.now(datetime.timezone.utc)

        def write(name: str, limit: int, remaining: int, full_in: float) -> None:
            at = today + datetime.timedelta(seconds=full_in + 1)  # told in whole seconds, rounded up
            headers.update({f"anthropic-ratelimit-{name}-limit": str(limit), f"anthropic-ratelimit-{name}-remaining": str(remaining),
                            f"anthropic-ratelimit-{name}-reset": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
        for name in ("requests", "input-tokens", "output-tokens"):
            meter = meters[name.replace("-", "_") + "_per_minute"]
            if meter.limit:
                left = meter.remaining(now)
                write(name, int(meter.limit), left if name == "requests" else int(round(left, -3)), meter.seconds_to_full(now))
        both = [meters["input_tokens_per_minute"], meters["output_tokens_per_minute"]]
        if all(m.limit for m in both):
            write("tokens", int(sum(m.limit for m in both)), int(round(sum(m.remaining(now) for m in both), -3)), max(m.seconds_to_full(now) for m in both))
        return headers

    def over(self, over: Over, hint: bool = True) -> Refusal:
        what = over.meter.removesuffix("_per_minute").replace("_", " ")
        after = {"retry-after": str(max(1, math.ceil(over.wait_seconds)))} if hint and over.wait_seconds != math.inf else {}
        return self.error(429, "rate_limit_error", f"This request would exceed your organization's rate limit of {over.limit:,} {what} per minute. For "
                          "details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the response headers for current usage.", after)

    def errors(self) -> dict[str, Refusal]:
        return {
            "no_money": self.error(402, "billing_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
                                   "upgrade or purchase credits."),
            "spend_limit": self.error(429, "rate_limit_error", "You have reached your specified API usage limits.",
                                      details={"error_code": "enforced_spend_limit_reached"}),
            "bad_key": self.error(401, "authentication_error", "invalid x-api-key"),
            "forbidden": self.error(403, "permission_error", "Your API key does not have permission to use the specified resource."),
            "error500": self.error(500, "api_error", "Internal server error"),
            "error503": self.error(503, "api_error", "Service unavailable"),
            "error504": self.error(504, "timeout_error", "Request timed out"),
            "overloaded": self.error(529, "overloaded_error", "Overloaded"),
            "slow_down": self.error(429, "rate_limit_error", "This request would exceed your organization's maximum usage increase rate for requests per minute."),
            "too_large": self.error(413, "request_too_large", "Request exceeds the maximum size"),
            "context": self.invalid("prompt is too long: 208310 tokens > 200000 maximum"),
        }

    def usage_of(self, usage: Usage, output: int) -> dict:
        return {"input_tokens": usage.input - usage.cached - usage.written, "cache_creation_input_tokens": usage.written,
                "cache_read_input_tokens": usage.cached, "cache_creation": {"ephemeral_5m_input_tokens": usage.written, "ephemeral_1h_input_tokens": 0},
                "output_tokens": output, "service_tier": "standard"}

    def content_of(self, call: Call, text: str) -> dict:
        if not call.tool:
            return {"type": "text", "text": text}
        try:
            given = json.loads(text)
        except ValueError:
            given = {"reply": text}
        return {"type": "tool_use", "id": identifier("toolu_"), "name": call.tool, "input": given}

    def stop_of(self, call: Call, finish: str) -> str:
        return {"length": "max_tokens", "refusal": "refusal"}.get(finish, "tool_use" if call.tool else "end_turn")

    def whole(self, call: Call, text: str, usage: Usage, finish: str) -> dict:
        content = [] if finish == "refusal" else [self.content_of(call, text)]
        return {"id": identifier("msg_"), "type": "message", "role": "assistant", "model": call.model, "content": content,
                "stop_reason": self.stop_of(call, finish), "stop_sequence": None, "usage": self.usage_of(usage, usage.output)}

    def streamed(self, call: Call, pieces: list[str], usage: Usage, finish: str) -> Streamed:
        message = {"id": identifier("msg_"), "type": "message", "role": "assistant", "model": call.model, "content": [], "stop_reason": None,
                   "stop_sequence": None, "usage": self.usage_of(usage, 1)}
        end = [event({"type": "message_delta", "delta": {"stop_reason": self.stop_of(call, finish), "stop_sequence": None},
                      "usage": {"output_tokens": usage.output}}),
               event({"type": "message_stop"})]
        start = [event({"type": "message_start", "message": message})]
        if finish == "refusal":
            return Streamed(start, [], end)
        block = {"type": "tool_use", "id": identifier("toolu_"), "name": call.tool, "input": {}} if call.tool else {"type": "text", "text": ""}
        start += [event({"type": "content_block_start", "index": 0, "content_block": block}), event({"type": "ping"})]
        delta = (lambda p: {"type": "input_json_delta", "partial_json": p}) if call.tool else (lambda p: {"type": "text_delta", "text": p})
        return Streamed(start, [event({"type": "content_block_delta", "index": 0, "delta": delta(p)}) for p in pieces],
                        [event({"type": "content_block_stop", "index": 0}), *end])

    def stream_error(self) -> bytes:
        return event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})

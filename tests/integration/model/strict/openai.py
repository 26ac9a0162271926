"""OpenAI: POST /v1/chat/completions, and /v1/embeddings."""
import hashlib
import json
import math
import re
import time

from .limits import go_duration
from .wire import Call, Format, Over, Refusal, Streamed, Usage, bearer, data, identifier, is_count, strict_schema_fault

MEMBERS = set("""model messages max_completion_tokens max_tokens response_format stream stream_options temperature top_p n stop seed user store
    metadata prompt_cache_key prompt_cache_options prompt_cache_retention safety_identifier service_tier reasoning_effort verbosity
    presence_penalty frequency_penalty logprobs top_logprobs logit_bias tools tool_choice parallel_tool_calls modalities prediction""".split())
REASONING = re.compile(r"(gpt-([5-9]|\d\d)|o\d)")
WRITES_ARE_BILLED = re.compile(r"gpt-(5\.[6-9]|[6-9]|\d\d)")


class ChatCompletions(Format):
    """What OpenAI and those who copied its shape have in common."""

    def error(self, status: int, kind: str | None, code: str | None, message: str, param: str | None = None, headers=None) -> Refusal:
        return Refusal(status, {"error": {"message": message, "type": kind, "param": param, "code": code}}, headers)

    def messages(self, body: dict, roles: set[str]) -> list[dict]:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise self.invalid("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
        for i, m in enumerate(messages):
            if not isinstance(m, dict) or m.get("role") not in roles:
                raise self.unknown_role(i, m.get("role") if isinstance(m, dict) else None, roles)
            if not isinstance(m.get("content"), str):
                raise self.invalid(f"Invalid type for 'messages[{i}].content': expected a string.", param=f"messages[{i}].content", code="invalid_type")
            if extra := sorted(set(m) - {"role", "content", "name"}):
                raise self.invalid(f"Unknown parameter: 'messages[{i}].{extra[0]}'.", param=f"messages[{i}].{extra[0]}", code="unknown_parameter")
        if not any(m["role"] == "user" for m in messages):
            raise self.invalid("The conversation has no user message.", param="messages")
        return messages

    def unknown_role(self, i: int, role, roles: set[str]) -> Refusal:
        known = ", ".join(f"'{r}'" for r in sorted(roles))
        return self.invalid(f"Invalid value: '{role}'. Supported values are: {known}.", param=f"messages[{i}].role", code="invalid_value")

    def call_of(self, body: dict, messages: list[dict], **more) -> Call:
        system = "\n".join(m["content"] for m in messages if m["role"] in ("system", "developer"))
        message = next(m["content"] for m in reversed(messages) if m["role"] == "user")
        options = body.get("stream_options") or {}
        if options and not body.get("stream"):
            raise self.invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options")
        return Call(body["model"], body.get("stream") is True, system, message, more.pop("parts", []) + [m["content"] for m in messages],
                    include_usage=options.get("include_usage") is True, **more)

    def usage_of(self, usage: Usage) -> dict:
        return {"prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.input + usage.output,
                "prompt_tokens_details": {"cached_tokens": usage.cached}, "completion_tokens_details": {"reasoning_tokens": usage.reasoning}}

    def message_of(self, text: str, finish: str) -> dict:
        refused = finish == "refusal"
        return {"role": "assistant", "content": None if refused else text, "refusal": "I can't help with that." if refused else None, "annotations": []}

    def whole(self, call: Call, text: str, usage: Usage, finish: str) -> dict:
        return {"id": identifier("chatcmpl-"), "object": "chat.completion", "created": int(time.time()), "model": call.model,
                "choices": [{"index": 0, "message": self.message_of(text, finish), "logprobs": None,
                             "finish_reason": "stop" if finish == "refusal" else finish}],
                "usage": self.usage_of(usage), "service_tier": "default", "system_fingerprint": None}

    def chunk_of(self, call: Call, identity: str, delta: dict, finish: str | None = None, **more) -> bytes:
        return data({"id": identity, "object": "chat.completion.chunk", "created": int(time.time()), "model": call.model,
                     "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], **more})


class OpenAi(ChatCompletions):
    name = "openai"
    limits = {"requests_per_minute": 500, "tokens_per_minute": 30_000}
    refused_calls_count = True

    def operation(self, path: str) -> str | None:
        return {"/v1/chat/completions": "chat", "/v1/embeddings": "embed"}.get(path)

    def authorise(self, headers: dict[str, str], key: str) -> None:
        given = bearer(headers)
        if given is None:
            raise self.error(401, "invalid_request_error", None, "You didn't provide an API key. You need to provide your API key in an "
                             "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).")
        if key and given != key:
            raise self.errors()["bad_key"]

    def invalid(self, message: str, param: str | None = None, code: str | None = None) -> Refusal:
        return self.error(400, "invalid_request_error", code, message, param)

    def read(self, path: str, headers: dict[str, str], body: dict) -> Call:
        for member in body:
            if member not in MEMBERS:
                raise self.invalid(f"Unknown parameter: '{member}'.", member, "unknown_parameter")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise self.invalid("you must provide a model parameter")
        if not re.match(r"(gpt|o\d|chatgpt)", model):
            raise self.error(404, "invalid_request_error", "model_not_found", f"The model `{model}` does not exist or you do not have access to it.")
        messages = self.messages(body, {"system", "developer", "user", "assistant", "tool", "function"})
        if REASONING.match(model):
            if "max_tokens" in body:
                raise self.invalid("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                                   "max_tokens", "unsupported_parameter")
            if body.get("temperature", 1) != 1:
                raise self.invalid("Unsupported value: 'temperature' does not support this value with this model. Only the default (1) value is "
                                   "supported.", "temperature", "unsupported_value")
        elif "reasoning_effort" in body:
            raise self.invalid("Unrecognized request argument supplied: reasoning_effort", "reasoning_effort")
        cap = body.get("max_completion_tokens", body.get("max_tokens"))
        if cap is not None and not is_count(cap):
            raise self.invalid("Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 1.", "max_completion_tokens",
                               "integer_below_min_value")
        for member, most in (("prompt_cache_key", 64), ("safety_identifier", 64)):
            value = body.get(member, "")
            if not isinstance(value, str) or len(value) > most:
                raise self.invalid(f"Invalid '{member}': string too long. Expected a string with maximum length {most}.", member, "string_above_max_length")
        for member, values in (("service_tier", ("auto", "default", "flex", "priority", "scale")),
                               ("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh")), ("verbosity", ("low", "medium", "high"))):
            if member in body and body[member] not in values:
                raise self.invalid(f"Invalid value: '{body[member]}'. Supported values are: {values}.", member, "invalid_value")
        for member in ("stream", "store"):
            if body.get(member) not in (None, True, False):
                raise self.invalid(f"Invalid type for '{member}': expected a boolean.", member, "invalid_type")
        schema = self.schema_of(body.get("response_format"))
        return self.call_of(body, messages, parts=[json.dumps(schema)] if schema else [], schema=schema, cap=cap,
                            thinks=body.get("reasoning_effort", "none") not in ("none", "minimal"))

    def schema_of(self, form) -> dict | None:
        if form is None or form == {"type": "text"}:
            return None
        if not isinstance(form, dict) or form.get("type") not in ("json_schema", "json_object"):
            raise self.invalid("Invalid value for 'response_format.type'. Supported values are: 'json_object', 'json_schema', and 'text'.",
                               "response_format.type", "invalid_value")
        if form["type"] == "json_object":
            return None
        spec = form.get("json_schema")
        if not isinstance(spec, dict):
            raise self.invalid("Missing required parameter: 'response_format.json_schema'.", "response_format.json_schema", "missing_required_parameter")
        if extra := sorted((set(form) - {"type", "json_schema"}) | (set(spec) - {"name", "strict", "schema", "description"})):
            raise self.invalid(f"Unknown parameter: 'response_format.json_schema.{extra[0]}'.", f"response_format.json_schema.{extra[0]}", "unknown_parameter")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(spec.get("name", ""))):
            raise self.invalid("Invalid 'response_format.json_schema.name': string does not match pattern. Expected a string that matches the pattern "
                               "'^[a-zA-Z0-9_-]+$'.", "response_format.json_schema.name", "invalid_value")
        schema = spec.get("schema")
        fault = strict_schema_fault(schema) if spec.get("strict") is True else None
        if not isinstance(schema, dict) or schema.get("type") != "object":
            fault = "schema must be a JSON Schema of 'type: \"object\"'."
        if fault:
            raise self.invalid(f"Invalid schema for response_format '{spec['name']}': {fault}", "response_format")
        return schema

    def cache(self, cache, call: Call, now: float) -> tuple[int, int]:
        read, written = cache.implicit("\0".join(call.parts), 128, 1024, now)
        return read, written if WRITES_ARE_BILLED.match(call.model) else 0

    def reservation(self, call: Call, usage: Usage) -> dict[str, int]:
        return {"requests_per_minute": 1, "tokens_per_minute": usage.input + (call.cap or 16)}

    def rate_headers(self, meters: dict, now: float) -> dict[str, str]:
        headers = {}
        for name in ("requests", "tokens"):
            meter = meters[name + "_per_minute"]
            if meter.limit:
                headers |= {f"x-ratelimit-limit-{name}": str(int(meter.limit)), f"x-ratelimit-remaining-{name}": str(meter.remaining(now)),
                            f"x-ratelimit-reset-{name}": go_duration(meter.seconds_to_full(now))}
        return headers

    def over(self, over: Over, hint: bool = True) -> Refusal:
        kind = over.meter.split("_")[0]
        short = {"requests": "RPM", "tokens": "TPM"}[kind]
        if over.wait_seconds == math.inf:
            return self.error(429, kind, "rate_limit_exceeded", f"Request too large for model in organization org-local on {kind} per min ({short}): "
                              f"Limit {over.limit}, Requested {over.requested}. The input or output tokens must be reduced in order to run successfully.")
        text = f"Rate limit reached for model in organization org-local on {kind} per min ({short}): Limit {over.limit}, Used {over.used}, Requested {over.requested}."
        if not hint:
            return self.error(429, kind, "rate_limit_exceeded", text)
        return self.error(429, kind, "rate_limit_exceeded", f"{text} Please try again in {go_duration(over.wait_seconds)}. Visit "
                          "https://platform.openai.com/account/rate-limits to learn more.",
                          headers={"retry-after": str(math.ceil(over.wait_seconds)), "retry-after-ms": str(math.ceil(over.wait_seconds * 1000))})

    def errors(self) -> dict[str, Refusal]:
        return {
            "no_money": self.error(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan and billing "
                                   "details."),
            "spend_limit": self.error(429, "insufficient_quota", "project_spend_limit_exceeded", "This project has reached its spend limit."),
            "bad_key": self.error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-***. You can find your API key at "
                                  "https://platform.openai.com/account/api-keys."),
            "forbidden": self.error(403, "invalid_request_error", "unsupported_country_region_territory", "Country, region, or territory not supported"),
            "error500": self.error(500, "server_error", None, "The server had an error while processing your request. Sorry about that!"),
            "error503": self.error(503, "server_error", None, "The engine is currently overloaded, please try again later"),
            "overloaded": self.error(503, "server_error", None, "The engine is currently overloaded, please try again later"),
            "slow_down": self.error(429, "requests", "slow_down", "Requests to this model have risen too fast. Please slow down."),
            "too_large": self.over(Over("tokens_per_minute", 30_000, 0, 31_538, math.inf)),
            "context": self.invalid("This model's maximum context length is 128000 tokens. However, your messages resulted in 131072 tokens. Please "
                                    "reduce the length of the messages.", "messages", "context_length_exceeded"),
        }

    def usage_of(self, usage: Usage) -> dict:
        written = super().usage_of(usage)
        written["prompt_tokens_details"] |= {"audio_tokens": 0, "cache_write_tokens": usage.written}
        return written

    def streamed(self, call: Call, pieces: list[str], usage: Usage, finish: str) -> Streamed:
        identity = identifier("chatcmpl-")
        member = "refusal" if finish == "refusal" else "content"
        null = {"usage": None} if call.include_usage else {}
        first = [self.chunk_of(call, identity, {"role": "assistant", "content": "", "refusal": None}, **null)]
        middle = [self.chunk_of(call, identity, {member: p}, obfuscation="x" * (len(p) % 7), **null) for p in pieces]
        last = [self.chunk_of(call, identity, {}, "stop" if finish == "refusal" else finish, **null)]
        if call.include_usage:
            last.append(data({"id": identity, "object": "chat.completion.chunk", "created": int(time.time()), "model": call.model, "choices": [],
                              "usage": self.usage_of(usage)}))
        return Streamed(first, middle, [*last, b"data: [DONE]\n\n"])

    def stream_error(self) -> bytes:
        return data(self.errors()["error500"].body)

    def embed(self, body: dict) -> dict:
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        size = body.get("dimensions", 1536)
        if not isinstance(texts, list) or not texts or len(texts) > 2048 or not all(isinstance(t, str) and t for t in texts):
            raise self.invalid("'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.")
        if not is_count(size) or size > 3072 or not str(body.get("model", "")).startswith("text-embedding-"):
            raise self.invalid("Invalid 'dimensions' or 'model'.", "dimensions")
        used = sum(len(t) // 4 + 1 for t in texts)
        return {"object": "list", "model": body["model"], "usage": {"prompt_tokens": used, "total_tokens": used},
                "data": [{"object": "embedding", "index": i, "embedding": self.bag_of_words(t, size)} for i, t in enumerate(texts)]}

    @staticmethod
    def bag_of_words(text: str, size: int) -> list[float]:
        vector = [0.0] * size
        for word in re.findall(r"\w+", text.lower()):
            vector[int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big") % size] += 1.0
        length = math.sqrt(sum(v * v for v in vector)) or 1.0
        return [v / length for v in vector]

"""DeepSeek: OpenAI's shape at /chat/completions, no schema, thinking unless told not to, and a limit on calls in flight."""
import json

from .openai import ChatCompletions
from .wire import Call, Over, Refusal, Streamed, Usage, bearer, identifier, is_count

MEMBERS = set("""model messages max_tokens response_format stream stream_options temperature top_p stop tools tool_choice logprobs top_logprobs
    presence_penalty frequency_penalty thinking reasoning_effort user user_id""".split())


class DeepSeek(ChatCompletions):
    name = "deepseek"
    limits = {"max_concurrent": 2_500, "requests_per_minute": 0}

    def operation(self, path: str) -> str | None:
        return "chat" if path in ("/chat/completions", "/v1/chat/completions", "/beta/chat/completions") else None

    def authorise(self, headers: dict[str, str], key: str) -> None:
        given = bearer(headers)
        if given is None:
            raise self.error(401, "authentication_error", "invalid_request_error", "Authentication Fails (auth header format should be Bearer sk-...)")
        if key and given != key:
            raise self.errors()["bad_key"]

    def invalid(self, message: str, param: str | None = None, code: str | None = None) -> Refusal:
        return self.error(400, "invalid_request_error", "invalid_request_error", message)

    def unreadable(self, message: str) -> Refusal:
        return self.error(422, "invalid_request_error", "invalid_request_error", "Failed to deserialize the JSON body into the target type: " + message)

    def unknown_role(self, i: int, role, roles: set[str]) -> Refusal:
        return self.unreadable(f"messages[{i}].role: unknown variant `{role}`, expected one of `system`, `user`, `assistant`, `tool`")

    def read(self, path: str, headers: dict[str, str], body: dict) -> Call:
        # The real one ignores what it does not know, an answer's cap by another name among it: here that is an error.
        if unknown := sorted(set(body) - MEMBERS):
            raise self.unreadable(f"unknown field `{unknown[0]}`")
        model = body.get("model")
        if model not in ("deepseek-flash", "deepseek-v4-pro", "deepseek-chat", "deepseek-reasoner"):
            raise self.invalid("Model Not Exist")
        messages = self.messages(body, {"system", "user", "assistant", "tool"})
        if "max_tokens" in body and not (is_count(body["max_tokens"]) and body["max_tokens"] <= 384_000):
            raise self.invalid("Invalid max_tokens value, the valid range of max_tokens is [1, 384000]")
        form = body.get("response_format") or {"type": "text"}
        if form.get("type") not in ("text", "json_object"):
            raise self.invalid("This response_format type is unavailable now")
        if form["type"] == "json_object" and not any("json" in m["content"].lower() for m in messages):
            raise self.invalid("Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'.")
        thinking = body.get("thinking") or {"type": "enabled"}
        if not isinstance(thinking, dict) or thinking.get("type") not in ("enabled", "disabled", "adaptive"):
            raise self.unreadable("thinking.type: unknown variant, expected one of `enabled`, `disabled`, `adaptive`")
        return self.call_of(body, messages, cap=body.get("max_tokens"), thinks=thinking["type"] != "disabled" and model != "deepseek-chat")

    def cache(self, cache, call: Call, now: float) -> tuple[int, int]:
        return cache.implicit("\0".join(call.parts), 64, 64, now)[0], 0

    def reservation(self, call: Call, usage: Usage) -> dict[str, int]:
        return {"requests_per_minute": 1}

    def over(self, over: Over, hint: bool = True) -> Refusal:
        return self.error(429, "unknown_error", "invalid_request_error", "Rate limit reached: too many requests are being processed for this account. "
                          "Please pace your requests reasonably.")

    def errors(self) -> dict[str, Refusal]:
        return {
            "no_money": self.error(402, "unknown_error", "invalid_request_error", "Insufficient Balance"),
            "spend_limit": self.error(402, "unknown_error", "invalid_request_error", "Insufficient Balance"),
            "bad_key": self.error(401, "authentication_error", "invalid_request_error", "Authentication Fails, Your api key: ****test is invalid"),
            "forbidden": self.error(403, "permission_error", "invalid_request_error", "Forbidden"),
            "error500": self.error(500, "server_error", "internal_error", "Internal server error"),
            "error503": self.error(503, "service_unavailable_error", "service_unavailable_error", "Service is too busy. We advise users to temporarily "
                                   "switch to alternative LLM API service providers."),
            "overloaded": self.error(503, "service_unavailable_error", "service_unavailable_error", "Server overloaded"),
            "slow_down": self.over(Over("max_concurrent", 0, 0, 0, 0)),
            "too_large": self.invalid("This model's maximum context length is 131072 tokens."),
            "context": self.invalid("This model's maximum context length is 131072 tokens. However, you requested 131500 tokens (131100 in the messages, "
                                    "400 in the completion). Please reduce the length of the messages or completion."),
        }

    def usage_of(self, usage: Usage) -> dict:
        return super().usage_of(usage) | {"prompt_cache_hit_tokens": usage.cached, "prompt_cache_miss_tokens": usage.input - usage.cached}

    def message_of(self, text: str, finish: str) -> dict:
        return {"role": "assistant", "content": "" if finish == "refusal" else text}

    def whole(self, call: Call, text: str, usage: Usage, finish: str) -> dict:
        body = super().whole(call, text, usage, finish)
        if call.thinks:
            body["choices"][0]["message"]["reasoning_content"] = "The user tells something about themselves."
        return body

    def streamed(self, call: Call, pieces: list[str], usage: Usage, finish: str) -> Streamed:
        identity = identifier("")
        first = [self.chunk_of(call, identity, {"role": "assistant", "content": ""})]
        if call.thinks:
            first.append(self.chunk_of(call, identity, {"content": None, "reasoning_content": "The user tells something about themselves."}))
        pieces = [] if finish == "refusal" else pieces
        last = self.chunk_of(call, identity, {"content": ""}, "stop" if finish == "refusal" else finish, usage=self.usage_of(usage))
        return Streamed(first, [self.chunk_of(call, identity, {"content": p}) for p in pieces], [last, b"data: [DONE]\n\n"])

    def stream_error(self) -> bytes:
        return b"data: " + json.dumps(self.errors()["error503"].body).encode() + b"\n\n"

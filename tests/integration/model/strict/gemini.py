"""Gemini: POST /v1beta/models/{model}:generateContent and :streamGenerateContent?alt=sse. No rate headers, a bad key is a 400."""
import json
import math
import re
import time

from .wire import Call, Format, Over, Refusal, Streamed, Usage, identifier, is_count

PATH = re.compile(r"/v1(?:beta)?/models/([\w.-]+):(generateContent|streamGenerateContent)(?:\?(.*))?")
MEMBERS = set("contents systemInstruction generationConfig safetySettings tools toolConfig cachedContent labels".split())
CONFIG = set("""responseMimeType responseSchema responseJsonSchema maxOutputTokens temperature topP topK candidateCount stopSequences
    presencePenalty frequencyPenalty seed thinkingConfig responseLogprobs logprobs""".split())
SCHEMA = set("""type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength maxLength
    pattern example anyOf propertyOrdering default items minimum maximum""".split())
TYPES = {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"}
METRICS = {"requests_per_minute": ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel"),
           "requests_per_day": ("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel"),
           "input_tokens_per_minute": ("generate_content_paid_tier_input_token_count", "GenerateContentPaidTierInputTokensPerModelPerMinute")}


class Gemini(Format):
    name = "gemini"
    limits = {"requests_per_minute": 1_000, "input_tokens_per_minute": 1_000_000, "requests_per_day": 10_000}
    keep_alive = b"\r\n"
    content_type = "application/json; charset=UTF-8"
    context_tokens = 1_048_576

    def operation(self, path: str) -> str | None:
        return "chat" if PATH.fullmatch(path) else None

    def error(self, code: int, status: str, message: str, details: list | None = None) -> Refusal:
        return Refusal(code, {"error": {"code": code, "message": message, "status": status, **({"details": details} if details else {})}})

    def authorise(self, headers: dict[str, str], key: str) -> None:
        given = headers.get("x-goog-api-key", "")
        if not given:
            raise self.error(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers (callers without established identity). Please use "
                             "API Key or other form of API consumer identity to call this API.")
        if key and given != key:
            raise self.errors()["bad_key"]

    def invalid(self, message: str, **_) -> Refusal:
        return self.error(400, "INVALID_ARGUMENT", message)

    def known(self, value, members: set[str], where: str) -> dict:
        if not isinstance(value, dict):
            raise self.invalid(f"Invalid value at '{where}' (type.googleapis.com/google.ai.generativelanguage.v1beta), expected an object")
        if unknown := sorted(set(value) - members):
            at = f" at '{where}'" if where else ""
            raise self.error(400, "INVALID_ARGUMENT", f'Invalid JSON payload received. Unknown name "{unknown[0]}"{at}: Cannot find field.',
                             [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": where, "description": unknown[0]}]}])
        return value

    def texts(self, content, where: str) -> list[str]:
        parts = self.known(content, {"role", "parts"}, where).get("parts")
        if not isinstance(parts, list) or not parts:
            raise self.invalid(f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty.")
        for part in parts:
            if not isinstance(self.known(part, {"text", "thought", "thoughtSignature"}, where + ".parts").get("text"), str):
                raise self.invalid(f"* GenerateContentRequest.{where}.parts[0].data: required oneof field 'data' must have one initialized field")
        return [p["text"] for p in parts]

    def read(self, path: str, headers: dict[str, str], body: dict) -> Call:
        model, method, query = PATH.fullmatch(path).groups()
        if not model.startswith("gemini-"):
            raise self.error(404, "NOT_FOUND", f"models/{model} is not found for API version v1beta, or is not supported for generateContent. Call "
                             "ListModels to see the list of available models and their supported methods.")
        stream = method == "streamGenerateContent"
        if stream and query != "alt=sse":
            raise self.invalid("This server streams with alt=sse only.")
        self.known(body, MEMBERS, "")
        contents = body.get("contents")
        if not isinstance(contents, list) or not contents:
            raise self.invalid("* GenerateContentRequest.contents: contents is not specified")
        turns = [(c.get("role", "user") if isinstance(c, dict) else "", self.texts(c, f"contents[{i}]")) for i, c in enumerate(contents)]
        if any(role not in ("user", "model") for role, _ in turns):
            raise self.invalid("Please use a valid role: user, model.")
        if turns[-1][0] != "user":
            raise self.invalid("Please ensure that the last turn in a multiturn request is of the user role.")
        system = self.texts(body["systemInstruction"], "system_instruction") if "systemInstruction" in body else []
        config = self.known(body.get("generationConfig", {}), CONFIG, "generation_config")
        cap = config.get("maxOutputTokens")
        if cap is not None and not is_count(cap):
            raise self.invalid("* GenerateContentRequest.generation_config.max_output_tokens: max_output_tokens must be positive.")
        if not 0 <= config.get("temperature", 1) <= 2:
            raise self.invalid("* GenerateContentRequest.generation_config.temperature: temperature must be in the range [0.0, 2.0].")
        schema = self.schema_of(config)
        spoken = [text for _, texts in turns for text in texts]
        return Call(model, stream, "\n".join(system), "\n".join(turns[-1][1]), [*([json.dumps(schema)] if schema else []), *system, *spoken], schema=schema,
                    cap=cap, thinks=self.thinks(model, config.get("thinkingConfig")))

    def thinks(self, model: str, config) -> bool:
        config = self.known(config or {}, {"thinkingBudget", "thinkingLevel", "includeThoughts"}, "generation_config.thinking_config")
        older = model.startswith("gemini-2")
        if "thinkingLevel" in config and "thinkingBudget" in config:
            raise self.invalid("You can only set one of thinking budget and thinking level.")
        if "thinkingLevel" in config:
            if older:
                raise self.invalid("Thinking level is not supported for this model.")
            if str(config["thinkingLevel"]).lower() not in ("minimal", "low", "medium", "high"):
                raise self.invalid(f"Invalid value at 'generation_config.thinking_config.thinking_level': \"{config['thinkingLevel']}\"")
            return str(config["thinkingLevel"]).lower() != "minimal"
        if config.get("thinkingBudget") == 0 and "pro" in model:
            raise self.invalid("Budget 0 is invalid. This model only works in thinking mode.")
        if "thinkingBudget" in config:
            return config["thinkingBudget"] != 0
        return "2.5-flash-lite" not in model

    def schema_of(self, config: dict) -> dict | None:
        both = [config[m] for m in ("responseSchema", "responseJsonSchema") if m in config]
        if len(both) == 2:
            raise self.invalid("Only one of response_schema and response_json_schema may be set.")
        if not both:
            return None
        if config.get("responseMimeType") != "application/json":
            raise self.invalid("Function calling or a response schema with response mime type 'text/plain' is unsupported")
        if "responseSchema" in config:
            self.check_schema(config["responseSchema"], "generation_config.response_schema")
        return both[0]

    def check_schema(self, schema, where: str) -> None:
        self.known(schema, SCHEMA, where)
        kind = schema.get("type")
        if isinstance(kind, list):
            raise self.invalid(f"Invalid JSON payload received. Unknown name \"type\" at '{where}': Proto field is not repeating, cannot start list.")
        if kind not in TYPES and "anyOf" not in schema:
            raise self.invalid(f"Invalid value at '{where}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), \"{kind}\"")
        if kind == "OBJECT":
            properties = schema.get("properties")
            if not isinstance(properties, dict) or not properties:
                raise self.invalid(f"* GenerateContentRequest.{where}.properties: should be non-empty for OBJECT type")
            for name, inner in properties.items():
                self.check_schema(inner, f"{where}.properties[{name}]")
            for name in schema.get("required", []):
                if name not in properties:
                    raise self.invalid(f"* GenerateContentRequest.{where}.required[0]: property is not defined")
        if kind == "ARRAY":
            if "items" not in schema:
                raise self.invalid(f"* GenerateContentRequest.{where}.items: missing field.")
            self.check_schema(schema["items"], where + ".items")
        if "enum" in schema and kind != "STRING":
            raise self.invalid(f"* GenerateContentRequest.{where}.enum: only allowed for STRING type")

    def cache(self, cache, call: Call, now: float) -> tuple[int, int]:
        return cache.implicit("\0".join(call.parts), 128, 2048 if call.model.startswith("gemini-2") else 4096, now)[0], 0

    def reservation(self, call: Call, usage: Usage) -> dict[str, int]:
        return {"requests_per_minute": 1, "input_tokens_per_minute": usage.input, "requests_per_day": 1}

    def over(self, over: Over, hint: bool = True) -> Refusal:
        metric, quota = METRICS[over.meter]
        text = (f"You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for metric: "
                f"generativelanguage.googleapis.com/{metric}, limit: {over.limit}")
        details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"quotaMetric": "generativelanguage.googleapis.com/" + metric, "quotaId": quota,
                                    "quotaDimensions": {"location": "global", "model": "gemini"}, "quotaValue": str(over.limit)}]},
                   {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"description": "Learn more about Gemini API quotas",
                                                                               "url": "https://ai.google.dev/gemini-api/docs/rate-limits"}]}]
        if hint and over.wait_seconds != math.inf:
            text += f"\nPlease retry in {over.wait_seconds:.9f}s."
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{math.ceil(over.wait_seconds)}s"})
        return self.error(429, "RESOURCE_EXHAUSTED", text, details)

    def errors(self) -> dict[str, Refusal]:
        bad_key = "API key not valid. Please pass a valid API key."
        return {
            "no_money": self.error(402, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."),
            "spend_limit": self.error(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap."),
            "bad_key": self.error(400, "INVALID_ARGUMENT", bad_key, [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com",
                 "metadata": {"service": "generativelanguage.googleapis.com"}},
                {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": bad_key}]),
            "forbidden": self.error(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
            "error500": self.error(500, "INTERNAL", "An internal error has occurred. Please retry or report in https://developers.generativeai.google"),
            "error503": self.error(503, "UNAVAILABLE", "The service is currently unavailable."),
            "overloaded": self.error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
            "error504": self.error(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
            "slow_down": self.over(Over("requests_per_minute", 1_000, 0, 1, 1.0), hint=False),
            "day_limit": self.over(Over("requests_per_day", 10_000, 10_000, 1, 40_000.0)),
            "too_large": self.invalid("The input token count (1050000) exceeds the maximum number of tokens allowed (1048576)."),
            "context": self.invalid("The input token count (1050000) exceeds the maximum number of tokens allowed (1048576)."),
        }

    def usage_of(self, usage: Usage, output: int | None = None) -> dict:
        spoken = (usage.output - usage.reasoning) if output is None else output
        written = {"promptTokenCount": usage.input, "candidatesTokenCount": spoken, "totalTokenCount": usage.input + spoken + usage.reasoning,
                   "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}]}
        if usage.cached:
            written["cachedContentTokenCount"] = usage.cached
        if usage.reasoning:
            written["thoughtsTokenCount"] = usage.reasoning
        return written

    def body_of(self, call: Call, identity: str, text: str, usage: dict, finish: str | None) -> dict:
        reason = {"stop": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}.get(finish or "")
        candidate = {"index": 0} if finish == "refusal" else {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        return {"candidates": [candidate | ({"finishReason": reason} if reason else {})], "usageMetadata": usage, "modelVersion": call.model,
                "responseId": identity, "createTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}

    def whole(self, call: Call, text: str, usage: Usage, finish: str) -> dict:
        return self.body_of(call, identifier(""), text, self.usage_of(usage), finish)

    def streamed(self, call: Call, pieces: list[str], usage: Usage, finish: str) -> Streamed:
        identity, spoken = identifier(""), usage.output - usage.reasoning

        def chunk(i: int, text: str) -> bytes:
            last = i == len(pieces)
            body = self.body_of(call, identity, text, self.usage_of(usage, spoken if last else spoken * i // len(pieces)), finish if last else None)
            return b"data: " + json.dumps(body).encode() + b"\r\n\r\n"
        chunks = [chunk(i, piece) for i, piece in enumerate(pieces, 1)]
        return Streamed([], chunks[:-1], chunks[-1:])

    def stream_error(self) -> bytes:
        return b"data: " + json.dumps(self.errors()["overloaded"].body).encode() + b"\r\n\r\n"

#include "http/routes/body.hpp"

#include <algorithm>
#include <charconv>

#include "events/privacy/secrets.hpp"
#include "http/routes/write.hpp"

namespace onboarding::http {

result<BodyReader> BodyReader::parse(const std::string& body) {
  auto document = codec::parse_json(body.empty() ? std::string_view("{}") : std::string_view(body));
  if (!document) return failure(Errc::malformed_json, document.error().detail);
  if (!document->IsObject()) return failure(Errc::malformed_json, "The body must be a JSON object.");
  return BodyReader(std::move(*document));
}

std::optional<std::string> BodyReader::text(std::string_view name, std::size_t max_bytes) {
  const auto* member = codec::find_member(document_, name);
  if (member == nullptr || member->IsNull()) return std::nullopt;
  if (!member->IsString()) return note(name, "must be a string"), std::nullopt;
  if (member->GetStringLength() > max_bytes)
    return note(name, "is longer than " + std::to_string(max_bytes) + " bytes"), std::nullopt;
  return std::string(member->GetString(), member->GetStringLength());
}

std::optional<std::string> BodyReader::line(std::string_view name, std::size_t max_bytes) {
  auto value = text(name, max_bytes);
  if (value && std::any_of(value->begin(), value->end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    return note(name, "has a control character"), std::nullopt;
  return value;
}

std::optional<std::string> BodyReader::word(std::string_view name, std::size_t max_bytes, std::string_view characters) {
  auto value = text(name, max_bytes);
  if (value && (value->empty() || value->find_first_not_of(characters) != std::string::npos))
    return note(name, value->empty() ? "is empty" : "has a character that is not allowed here"), std::nullopt;
  return value;
}

std::optional<bool> BodyReader::boolean(std::string_view name) {
  const auto* member = codec::find_member(document_, name);
  if (member == nullptr || member->IsNull()) return std::nullopt;
  if (!member->IsBool()) return note(name, "must be true or false"), std::nullopt;
  return member->GetBool();
}

std::optional<std::uint64_t> BodyReader::whole(std::string_view name, std::uint64_t most) {
  const auto* member = codec::find_member(document_, name);
  if (member == nullptr || member->IsNull()) return std::nullopt;
  if (!member->IsUint64() || member->GetUint64() > most)
    return note(name, "must be a whole number from 0 to " + std::to_string(most)), std::nullopt;
  return member->GetUint64();
}

void BodyReader::only(std::initializer_list<std::string_view> names) {
  for (const auto& member : document_.GetObject()) {
    const std::string_view name(member.name.GetString(), member.name.GetStringLength());
    if (std::find(names.begin(), names.end(), name) == names.end()) note(name, "is not known here");
  }
}

std::string BodyReader::required_text(std::string_view name, std::size_t max_bytes) {
  auto value = text(name, max_bytes);
  const auto* member = codec::find_member(document_, name);
  if (member == nullptr || member->IsNull()) note(name, "is required");
  return std::move(value).value_or("");
}

std::string BodyReader::fingerprint() const { return privacy::sha256_hex(codec::canonical_json(document_)); }

void BodyReader::note(std::string_view name, std::string detail) {
  std::string pointer = "/";
  for (const char c : name)
    pointer += c == '~' ? std::string("~0") : c == '/' ? std::string("~1") : std::string(1, c);  // RFC 6901
  errors_.push_back({std::move(pointer), std::move(detail)});
}

bool idempotency_key(const Responder& responder, std::optional<std::string>& key) {
  const auto& request = responder->request();
  const auto given = request.header("idempotency-key");
  if (!given && !request.raw.repeats("idempotency-key")) return true;
  if (!given || given->empty() || given->size() > 255 ||
      !std::all_of(given->begin(), given->end(), [](char c) { return c > 0x20 && c < 0x7f; })) {
    responder->fail(Errc::malformed_request, "Idempotency-Key must be 1 to 255 visible ASCII characters, given once.");
    return false;
  }
  key = *given;
  return true;
}

bool query_time(const Responder& responder, std::string_view name, std::optional<domain::Timestamp>& time) {
  const auto* text = responder->request().query_value(name);
  if (text == nullptr) return true;
  time = codec::parse_time(*text);
  if (!time) responder->fail(Errc::invalid, std::string(name) + " must be a time such as 2026-11-21T08:00:00Z.");
  return time.has_value();
}

std::optional<std::uint64_t> query_number(const Responder& responder, std::string_view name, std::uint64_t fallback,
                                          std::uint64_t least, std::uint64_t most) {
  const auto* text = responder->request().query_value(name);
  if (text == nullptr) return fallback;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < least || value > most) {
    responder->fail(Errc::invalid, std::string(name) + " must be a whole number from " + std::to_string(least) + " to " +
                                       std::to_string(most) + ".");
    return std::nullopt;
  }
  return value;
}

}  // namespace onboarding::http

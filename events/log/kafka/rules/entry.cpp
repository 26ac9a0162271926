#include "events/log/kafka/rules/entry.hpp"

#include <charconv>

namespace onboarding::log::kafka {
namespace {

constexpr std::pair<Kind, std::string_view> kinds[] = {
    {Kind::log, "log"}, {Kind::claim, "claim"}, {Kind::events, "events"}, {Kind::barrier, "barrier"}, {Kind::release, "release"}};
constexpr std::uint32_t format = 1;

Id to_id(std::string_view bytes) {
  Id id;
  std::copy_n(bytes.begin(), std::min(bytes.size(), id.bytes.size()), id.bytes.begin());
  return id;
}

/// Exactly the decimal form that to_string gives.
template <class Number>
bool read(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() && std::to_string(number) == text;
}
bool read(std::string_view text, Id& id) {
  const auto found = from_hex(text);
  if (found) id = *found;
  return found && *found;
}

/// The headers of a message, each asked for once.
class Headers {
 public:
  explicit Headers(const Message& message) : message_(message) {}
  /// A header that is missing, doubled or of another form spoils the whole.
  template <class Value>
  void take(std::string_view name, Value& value) {
    const std::string* found = nullptr;
    for (const auto& [header, text] : message_.headers) {
      if (header != name) continue;
      if (found != nullptr) good_ = false;
      found = &text;
    }
    if (found == nullptr || !read(*found, value)) good_ = false;
  }
  bool good() const { return good_; }

 private:
  const Message& message_;
  bool good_ = true;
};

}  // namespace

Id make_id(RandomSource& random) {
  Id id;
  random.fill(id.bytes);
  return id;
}

std::string to_hex(const Id& id) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(32);
  for (const std::uint8_t byte : id.bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::optional<Id> from_hex(std::string_view text) {
  Id id;
  if (text.size() != 32) return std::nullopt;
  for (std::size_t i = 0; i < 32; ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    id.bytes[i / 2] = static_cast<std::uint8_t>(id.bytes[i / 2] << 4 | digit);
  }
  return id;
}

Message to_message(const Entry& entry) {
  Message message;
  const auto head = [&](std::string name, std::string value) { message.headers.emplace_back(std::move(name), std::move(value)); };
  for (const auto& [kind, name] : kinds)
    if (kind == entry.kind) head("kind", std::string(name));
  const Record& record = entry.record;
  message.key = std::to_string(record.partition);
  switch (entry.kind) {
    case Kind::log:
      head("log", to_hex(entry.log_id));
      head("partitions", std::to_string(entry.partitions));
      head("format", std::to_string(format));
      break;
    case Kind::claim:
      head("claim", to_hex(entry.claim));
      head("epoch", std::to_string(entry.epoch));
      break;
    case Kind::events:
      message.key = record.stream;
      message.value = record.payload;
      head("claim", to_hex(entry.claim));
      head("record", to_hex(to_id(record.record_id)));
      head("sequence", std::to_string(record.first_sequence));
      head("version", std::to_string(record.first_version));
      head("count", std::to_string(record.count));
      head("flags", std::to_string(record.index.open | record.index.pending_turn << 1));
      head("due", std::to_string(record.index.due_at.time_since_epoch().count()));
      head("time", std::to_string(record.time.time_since_epoch().count()));
      break;
    case Kind::barrier:
      head("claim", to_hex(entry.claim));
      head("record", to_hex(to_id(record.record_id)));
      break;
    case Kind::release: head("claim", to_hex(entry.claim)); break;
  }
  return message;
}

std::optional<Entry> parse(std::uint32_t partition, Message message) {
  Headers headers(message);
  const auto kind = [&]() -> std::optional<Kind> {
    constexpr auto name_of = [](const auto& header) -> const std::string& { return header.first; };
    if (std::ranges::count(message.headers, "kind", name_of) != 1) return std::nullopt;
    const auto said = std::ranges::find(message.headers, "kind", name_of);
    for (const auto& [kind, name] : kinds)
      if (said->second == name) return kind;
    return std::nullopt;
  }();
  if (!kind) return std::nullopt;
  Entry entry;
  entry.kind = *kind;
  entry.record.partition = partition;
  if (*kind == Kind::log) {
    std::uint32_t said_format = 0;
    headers.take("log", entry.log_id);
    headers.take("partitions", entry.partitions);
    headers.take("format", said_format);
    if (said_format != format) return std::nullopt;
  } else {
    headers.take("claim", entry.claim);
  }
  if (*kind == Kind::claim) headers.take("epoch", entry.epoch);
  Id record_id;
  if (*kind == Kind::events || *kind == Kind::barrier) headers.take("record", record_id);
  if (*kind == Kind::events) {
    std::uint8_t flags = 0;
    std::int64_t due = 0, time = 0;
    headers.take("sequence", entry.record.first_sequence);
    headers.take("version", entry.record.first_version);
    headers.take("count", entry.record.count);
    headers.take("flags", flags);
    headers.take("due", due);
    headers.take("time", time);
    if (entry.record.count == 0 || flags > 3 || message.key.empty() || message.key.size() > max_stream_bytes) return std::nullopt;
    entry.record.index = {(flags & 1) != 0, (flags & 2) != 0, domain::Timestamp(std::chrono::microseconds(due))};
    entry.record.time = domain::Timestamp(std::chrono::microseconds(time));
    entry.record.stream = std::move(message.key);
    entry.record.payload = std::move(message.value);
  }
  entry.record.record_id.assign(reinterpret_cast<const char*>(record_id.bytes.data()), record_id.bytes.size());
  if (!headers.good()) return std::nullopt;
  return entry;
}

}  // namespace onboarding::log::kafka

#include "events/codec/codec.hpp"

#include <charconv>
#include <cstddef>

#include "events/codec/json.hpp"
#include "events/codec/members.hpp"
#include "events/codec/sealing.hpp"
#include "events/domain/assertion.hpp"

namespace onboarding::codec {
namespace {

using domain::Event;
using domain::Personal;
using rapidjson::Value;

constexpr std::uint32_t format = 1;

std::string_view view(const Value& string) { return {string.GetString(), string.GetStringLength()}; }

// ---------------------------------------------------------------------------------------------------------- writing

/// An object's members, one after the other. How a personal text is shown is the policy's: sealed in a record, as the
/// reader may see it in a CloudEvent.
template <class PersonalPolicy>
class MemberWriter {
 public:
  MemberWriter(std::string& out, PersonalPolicy& personal) : out_(out), personal_(personal) {}

  void required(std::string_view name, const auto& member) {
    key(name);
    put(name, member);
  }
  template <class T>
  void optional(std::string_view name, const T& member, const std::type_identity_t<T>& fallback = {}) {
    if (!(member == fallback)) required(name, member);
  }
  void personal(std::string_view name, const Personal& text) {
    if (text.text.empty() && !text.erased) return;
    key(name);
    personal_(out_, name, text);
  }
  void value(const domain::FieldValue& value, bool sensitive) {
    required("value_type", domain::to_string(value.type));
    key("value");
    if (sensitive) {
      personal_(out_, "value", value.canonical);
    } else {
      put("value", value.canonical);
    }
  }

  /// The first member whose text nobody could read again; empty: none.
  std::string_view not_text() const { return not_text_; }

 private:
  void key(std::string_view name) {
    out_ += first_ ? "\"" : ",\"";
    first_ = false;
    out_.append(name).append("\":");
  }
  void put(std::string_view name, std::string_view text) {
    if (!append_string(out_, text) && not_text_.empty()) not_text_ = name;
  }
  void put(std::string_view, std::integral auto number) {
    char digits[24];
    out_.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
  }
  void put(std::string_view, bool flag) { out_ += flag ? "true" : "false"; }
  void put(std::string_view, domain::Timestamp time) { out_.append("\"").append(format_time(time)).append("\""); }
  void put(std::string_view name, const std::vector<std::string>& texts) {
    out_ += '[';
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (i) out_ += ',';
      put(name, texts[i]);
    }
    out_ += ']';
  }
  void put(std::string_view, const domain::Usage& usage) {
    out_ += '{';
    MemberWriter inner(out_, personal_);
    members(inner, usage);
    out_ += '}';
    if (not_text_.empty()) not_text_ = inner.not_text();
  }

  std::string& out_;
  PersonalPolicy& personal_;
  bool first_ = true;
  std::string_view not_text_;
};

struct SealedTexts {
  Sealer* sealer;
  Place& place;
  void operator()(std::string& out, std::string_view name, const Personal& text) const {
    if (text.erased) {
      out += R"({"erased":true})";
      return;
    }
    ONBOARDING_ASSERT(sealer != nullptr, "a personal text needs a user's key");
    out += R"({"sealed":")";
    sealer->append_sealed(out, text.text, place.of(name));
    out += R"("})";
  }
};

struct ShownTexts {
  Reveal reveal;
  bool erased;  // the record's key is gone: what is sealed in it is empty
  void operator()(std::string& out, std::string_view, const Personal& text) const {
    if (reveal == Reveal::sealed) {  // read without keys every text looks erased: only who opens them can tell
      out += R"("[sealed]")";
    } else if (erased || text.erased) {
      out += R"("[erased]")";
    } else {
      append_string(out, text.text);
    }
  }
};

// ---------------------------------------------------------------------------------------------------------- reading

/// Opens the sealed texts of one record. The key is looked up when the first one comes: many records have none.
class Opener {
 public:
  Opener(privacy::KeyStore& keys, std::string_view user, std::string_view key_id) : keys_(keys), user_(user), key_id_(key_id) {}

  /// nullopt: the key was erased.
  result<std::optional<std::string>> open(std::string_view base64, std::string_view place) {
    if (!looked_up_) {
      auto found = keys_.find(user_, key_id_);
      if (!found && found.error().code != privacy::Errc::erased) {
        if (found.error().code == privacy::Errc::unreachable) return failure(Errc::key_unreachable, found.error().detail);
        return tl::unexpected(found.error());
      }
      if (found) key_ = *found;
      looked_up_ = true;
    }
    if (!key_) return std::nullopt;
    auto text = open_sealed(*key_, base64, place);
    if (!text) return failure(privacy::Errc::forged);
    return text;
  }

 private:
  privacy::KeyStore& keys_;
  std::string_view user_, key_id_;
  bool looked_up_ = false;
  privacy::SealingKeyPtr key_;
};

/// Reads an object's members; the first thing wrong is kept and ends the reading.
class MemberReader {
 public:
  MemberReader(const Value& object, Opener& opener, Place& place, bool upcast)
      : object_(object), next_(object.MemberBegin()), opener_(opener), place_(place), upcast_(upcast) {}

  void required(std::string_view name, auto& member) {
    const Value* value = find(name);
    if (!value) return wrong(name, "is missing");
    take(name, *value, member);
  }
  template <class T>
  void optional(std::string_view name, T& member, const std::type_identity_t<T>& fallback = {}) {
    if (const Value* value = find(name)) {
      take(name, *value, member);
    } else {
      member = fallback;
    }
  }
  void personal(std::string_view name, Personal& text) {
    if (const Value* value = find(name)) open(name, *value, text);
  }
  void value(domain::FieldValue& field, bool& sensitive) {
    std::string type;
    required("value_type", type);
    const Value* value = find("value");
    if (!value) return wrong("value", "is missing");
    const auto known = domain::field_type(type);
    if (!known) return wrong("value_type", "is not a field type");
    field.type = *known;
    sensitive = !value->IsString();
    if (!sensitive) {
      field.canonical = view(*value);
      return;
    }
    Personal text;
    open("value", *value, text);
    field.canonical = std::move(text.text);
  }

  bool erased() const { return erased_; }
  const std::optional<Failure>& error() const { return error_; }

 private:
  /// Members come in the order they were written, nearly always: look where the last one was found.
  const Value* find(std::string_view name) {
    if (error_) return nullptr;
    if (next_ != object_.MemberEnd() && view(next_->name) == name) return &(next_++)->value;
    for (auto it = object_.MemberBegin(); it != object_.MemberEnd(); ++it) {
      if (view(it->name) == name) {
        next_ = it + 1;
        return &it->value;
      }
    }
    return nullptr;
  }
  void wrong(std::string_view name, const char* what, std::error_code code = Errc::malformed) {
    if (!error_) error_ = Failure{code, std::string(name) + " " + what};
  }
  void take(std::string_view name, const Value& value, std::string& member) {
    if (!value.IsString()) return wrong(name, "is not a string");
    member = view(value);
  }
  void take(std::string_view name, const Value& value, std::uint32_t& member) {
    if (!value.IsUint()) return wrong(name, "is not a number of 32 bits");
    member = value.GetUint();
  }
  void take(std::string_view name, const Value& value, std::int64_t& member) {
    if (!value.IsInt64()) return wrong(name, "is not a whole number");
    member = value.GetInt64();
  }
  void take(std::string_view name, const Value& value, bool& member) {
    if (!value.IsBool()) return wrong(name, "is not true or false");
    member = value.GetBool();
  }
  void take(std::string_view name, const Value& value, domain::Timestamp& member) {
    const auto time = value.IsString() ? parse_time(view(value)) : std::nullopt;
    if (!time) return wrong(name, "is not a time");
    member = *time;
  }
  void take(std::string_view name, const Value& value, std::vector<std::string>& member) {
    if (!value.IsArray()) return wrong(name, "is not a list");
    member.reserve(value.Size());
    for (const auto& element : value.GetArray()) {
      if (!element.IsString()) return wrong(name, "holds something else than strings");
      member.emplace_back(view(element));
    }
  }
  void take(std::string_view name, const Value& value, domain::Usage& member) {
    if (!value.IsObject()) return wrong(name, "is not an object");
    MemberReader inner(value, opener_, place_, upcast_);
    members(inner, member);
    if (!error_) error_ = inner.error_;
  }
  void open(std::string_view name, const Value& value, Personal& text) {
    const auto sealed = value.IsObject() && value.MemberCount() > 0 ? value.MemberBegin() : Value::ConstMemberIterator();
    if (sealed == Value::ConstMemberIterator() || value.MemberCount() > (upcast_ ? 2U : 1U)) return wrong(name, "is not sealed");
    if (view(sealed->name) == "erased" && sealed->value.IsTrue()) {
      text = Personal::forgotten();
      erased_ = true;
      return;
    }
    if (view(sealed->name) != "sealed" || !sealed->value.IsString()) return wrong(name, "is not sealed");
    const std::string_view path = upcast_ ? string_member(value, "path", name) : name;
    auto opened = opener_.open(view(sealed->value), place_.of(path));
    if (!opened) {
      if (!error_) error_ = Failure{opened.error().code, std::string(name) + " " + opened.error().detail};
    } else if (*opened) {
      text.text = std::move(**opened);
    } else {
      text = Personal::forgotten();
      erased_ = true;
    }
  }

  const Value& object_;
  Value::ConstMemberIterator next_;
  Opener& opener_;
  Place& place_;
  bool upcast_;
  bool erased_ = false;
  std::optional<Failure> error_;
};

/// Name, schema and reader of each alternative, by index.
struct TypeEntry {
  std::string_view name;
  std::uint32_t schema;
  void (*read)(MemberReader&, Event&);
};

template <std::size_t... I>
auto make_types(std::index_sequence<I...>) {
  return std::array{TypeEntry{domain::type_name(Event(std::in_place_index<I>)), schema_of<std::variant_alternative_t<I, Event>>,
                              [](MemberReader& reader, Event& event) { members(reader, event.template emplace<I>()); }}...};
}
const auto& types() {
  static const auto table = make_types(std::make_index_sequence<std::variant_size_v<Event>>());
  return table;
}

Value* find_changeable(Value& object, std::string_view name) { return const_cast<Value*>(find_member(object, name)); }

/// Before an upcaster moves sealed texts about, each is marked with the path that it was sealed under.
/// False when one is marked already: nobody but us may say where a text belongs.
bool mark_sealed(Value& value, const std::string& path, rapidjson::Document::AllocatorType& allocator) {
  if (value.IsArray()) {
    for (rapidjson::SizeType i = 0; i < value.Size(); ++i)
      if (!mark_sealed(value[i], path + "." + std::to_string(i), allocator)) return false;
  } else if (value.IsObject()) {
    if (find_member(value, "sealed")) {
      if (value.MemberCount() != 1) return false;
      value.AddMember("path", Value(path.data(), static_cast<rapidjson::SizeType>(path.size()), allocator), allocator);
      return true;
    }
    for (auto member = value.MemberBegin(); member < value.MemberEnd(); ++member) {
      const std::string name(view(member->name));
      if (!mark_sealed(member->value, path.empty() ? name : std::string(path).append(".").append(name), allocator)) return false;
    }
  }
  return true;
}

result<void> decode_event(const log::Record& record, std::size_t index, Value& envelope,
                          rapidjson::Document::AllocatorType& allocator, Opener& opener, const Upcasters& upcasters,
                          DecodedEvent& decoded) {
  if (!envelope.IsObject()) return failure(Errc::malformed, "is not an object");
  Value* const data = find_changeable(envelope, "data");
  if (!data || !data->IsObject()) return failure(Errc::malformed, "data is missing");
  const Value* schema = find_member(envelope, "schema");
  if (!schema || !schema->IsUint()) return failure(Errc::malformed, "schema is missing");

  const std::string_view written_type = string_member(envelope, "type");
  std::string_view type = written_type;
  std::uint32_t version = schema->GetUint();
  const Upcast* step = upcasters.find(type, version);
  const bool upcast = step != nullptr;
  if (upcast && !mark_sealed(*data, {}, allocator)) return failure(Errc::malformed, "a sealed text is not well-formed");
  for (; step; step = upcasters.find(type, version)) {
    step->apply(*data, allocator);
    type = step->to_type;
    version = step->to_version;
    if (!data->IsObject()) return failure(Errc::malformed, "cannot be read in its old schema");
  }

  const auto entry = std::find_if(types().begin(), types().end(), [&](const TypeEntry& e) { return e.name == type; });
  if (entry == types().end()) return failure(Errc::unknown_type);
  if (version != entry->schema)
    return failure(version > entry->schema ? Errc::unknown_schema : Errc::malformed, "schema " + std::to_string(version));
  decoded.recorded.version = record.first_version + index;
  decoded.recorded.sequence = record.first_sequence + index;
  Place place(record.stream, decoded.recorded.version, written_type);
  MemberReader reader(*data, opener, place, upcast);
  entry->read(reader, decoded.recorded.event);
  if (reader.error()) return tl::unexpected(Failure{reader.error()->code, std::string(type) + "." + reader.error()->detail});
  decoded.partition = record.partition;
  decoded.stream = record.stream;
  decoded.schema_version = version;
  decoded.erased = reader.erased();
  return {};
}

}  // namespace

result<std::string> encode(const RecordMeta& meta, std::string_view stream, std::uint64_t first_version, domain::Timestamp time,
                           std::span<const Event> events, const privacy::SealingKey* key, RandomSource& nonces) {
  ONBOARDING_ASSERT(key != nullptr || meta.user.empty(), "a user's record needs the user's key");
  ONBOARDING_ASSERT(!events.empty(), "a record holds at least one event");
  struct NoTexts {
    void operator()(std::string&, std::string_view, const Personal&) const {}
  } no_texts;
  std::string out;
  out.reserve(2048);
  out += R"({"format":1,)";
  MemberWriter head(out, no_texts);
  head.required("time", time);
  head.optional("user", meta.user);
  head.optional("blinded", meta.blinded_user_id);
  if (key) head.required("key", key->id);
  head.optional("plan", meta.plan);
  head.optional("correlation", meta.correlation_id);
  head.optional("causation", meta.causation_id);
  head.optional("traceparent", meta.traceparent);
  if (!head.not_text().empty()) return failure(Errc::malformed, std::string(head.not_text()) + " is not text");

  std::optional<Sealer> sealer;
  if (key) sealer.emplace(*key, nonces);
  out += R"(,"events":[)";
  for (std::size_t i = 0; i < events.size(); ++i) {
    const std::string_view type = domain::type_name(events[i]);
    Place place(stream, first_version + i, type);
    SealedTexts personal{sealer ? &*sealer : nullptr, place};
    MemberWriter writer(out, personal);
    out.append(i ? R"(,{"type":")" : R"({"type":")").append(type);
    out.append(R"(","schema":)").append(std::to_string(types()[events[i].index()].schema)).append(R"(,"data":{)");
    std::visit([&](const auto& event) { members(writer, event); }, events[i]);
    out += "}}";
    if (!writer.not_text().empty())
      return failure(Errc::malformed, std::string(type) + "." + std::string(writer.not_text()) + " is not text");
  }
  out += "]}";
  if (out.size() > log::max_payload_bytes) return failure(Errc::too_large, std::to_string(out.size()) + " bytes in one record");
  return out;
}

result<std::vector<DecodedEvent>> decode(const log::Record& record, privacy::KeyStore& keys, const Upcasters& upcasters) {
  const auto wrong = [&](const Failure& why, std::string_view where = {}) {
    return failure(why.code,
                   to_string(Position{record.partition, record.first_sequence}) + " " + std::string(where) + why.detail);
  };
  // A payload of the largest size may hold a value in every other byte; its size is the bound.
  constexpr JsonLimits limits{.max_bytes = log::max_payload_bytes, .max_values = log::max_payload_bytes};
  // Kept by the thread: a record's values fit the pool nearly always, and what is in them is sealed.
  thread_local std::string text;
  alignas(std::max_align_t) thread_local std::array<char, 32 * 1024> pool;
  text.assign(record.payload);
  rapidjson::MemoryPoolAllocator<> allocator(pool.data(), pool.size());
  rapidjson::Document document(&allocator);
  if (auto parsed = parse_json_in_place(text, document, limits); !parsed) return wrong(parsed.error());
  if (int_member(document, "format") != format) return wrong({Errc::malformed, "format is not 1"});
  const auto time = parse_time(string_member(document, "time"));
  if (!time) return wrong({Errc::malformed, "time is missing"});
  Value* const events = find_changeable(document, "events");
  if (!events || !events->IsArray() || events->Size() != record.count || record.count == 0)
    return wrong({Errc::malformed, "the events are not as many as the record counts"});

  auto meta = std::make_shared<RecordMeta>();
  meta->user = string_member(document, "user");
  meta->blinded_user_id = string_member(document, "blinded");
  meta->plan = string_member(document, "plan");
  meta->correlation_id = string_member(document, "correlation");
  meta->causation_id = string_member(document, "causation");
  meta->traceparent = string_member(document, "traceparent");

  Opener opener(keys, meta->user, string_member(document, "key"));
  std::vector<DecodedEvent> decoded;
  decoded.reserve(record.count);
  for (std::size_t i = 0; i < record.count; ++i) {
    DecodedEvent& event = decoded.emplace_back();
    auto read = decode_event(record, i, (*events)[static_cast<rapidjson::SizeType>(i)], document.GetAllocator(), opener,
                             upcasters, event);
    if (!read) return wrong(read.error(), "event " + std::to_string(i + 1) + ": ");
    event.recorded.time = *time;
    event.meta = meta;
  }
  return decoded;
}

std::string to_cloud_event(const DecodedEvent& decoded, std::string_view log_id, Reveal reveal) {
  ShownTexts personal{reveal, decoded.erased};
  const auto& recorded = decoded.recorded;
  std::string out;
  out.reserve(1024);
  out += '{';
  MemberWriter head(out, personal);
  head.required("specversion", std::string_view("1.0"));
  head.required("id", std::string(log_id) + "/" + to_string(decoded.position()));
  head.required("source", "/onboarding/" + std::string(log_id));
  head.required("type", domain::type_name(recorded.event));
  head.required("subject", decoded.stream);
  head.required("time", recorded.time);
  head.required("datacontenttype", std::string_view("application/json"));
  // CloudEvents' integers have 32 bits; a sequence may outgrow them and is a string, as in its sequence extension.
  head.required("partition", decoded.partition);
  head.required("sequence", std::to_string(recorded.sequence));
  head.required("version", recorded.version);
  head.required("schemaversion", decoded.schema_version);
  if (decoded.meta) {
    head.optional("correlationid", decoded.meta->correlation_id);
    head.optional("causationid", decoded.meta->causation_id);
    head.optional("traceparent", decoded.meta->traceparent);
    head.optional("plan", decoded.meta->plan);
    head.optional("userkey", decoded.meta->user);
  }
  out += R"(,"data":{)";
  MemberWriter data(out, personal);
  std::visit([&](const auto& event) { members(data, event); }, recorded.event);
  out += "}}";
  return out;
}

}  // namespace onboarding::codec

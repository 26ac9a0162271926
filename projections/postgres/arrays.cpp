#include "projections/postgres/arrays.hpp"

#include <bit>

#include "events/domain/assertion.hpp"

namespace onboarding::projections {

namespace {

// Type ids of PostgreSQL's catalogue (pg_type.dat), fixed for ever.
constexpr std::uint32_t type_ids[] = {25, 23, 20, 701, 16, 1184, 1082, 3802};

constexpr std::size_t header_size = 20;  // dimensions, has-null flag, element type, length, lower bound

void put(std::string& out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = bytes; i-- > 0;) out.push_back(static_cast<char>(value >> (8 * i)));
}

/// PostgreSQL counts from 2000-01-01.
constexpr std::int64_t epoch_days = 10957;
constexpr std::int64_t epoch_us = epoch_days * 86'400 * 1'000'000;

void write_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr const char* digits = "0123456789abcdef";
      out.append("\\u00").push_back(digits[c >> 4 & 15]);
      out.push_back(digits[c & 15]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

}  // namespace

std::string to_json(const Members& members) {
  std::string out = "{";
  for (const auto& [name, value] : members) {
    if (out.size() > 1) out.push_back(',');
    write_json_string(out, name);
    out.push_back(':');
    if (const bool* flag = std::get_if<bool>(&value)) {
      out.append(*flag ? "true" : "false");
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      write_json_string(out, *text);
    } else {
      out.append("null");
    }
  }
  out.push_back('}');
  return out;
}

ArrayParameter::Type ArrayParameter::type_of(std::string_view name) {
  constexpr std::string_view names[] = {"text",    "integer",     "bigint", "double precision",
                                        "boolean", "timestamptz", "date",   "jsonb"};
  for (std::size_t i = 0; i < std::size(names); ++i) {
    if (names[i] == name) return static_cast<Type>(i);
  }
  ONBOARDING_ASSERT(false, "a column's type is one of those that projection.hpp names");
  return Type::text;
}

ArrayParameter::ArrayParameter(std::string_view type) : type_(type_of(type)), bytes_(header_size, '\0') {}

void ArrayParameter::number(std::uint64_t value, std::size_t bytes) {
  put(bytes_, bytes, 4);
  put(bytes_, value, bytes);
}

void ArrayParameter::add(std::int64_t value) {
  ONBOARDING_ASSERT(type_ == Type::bigint || type_ == Type::integer, "an integer goes into an integer column");
  ++count_;
  number(static_cast<std::uint64_t>(value), type_ == Type::bigint ? 8 : 4);
}

void ArrayParameter::add(std::string_view text) {
  ONBOARDING_ASSERT(type_ == Type::text, "a text goes into a text column");
  ++count_;
  put(bytes_, text.size(), 4);
  bytes_.append(text);
}

void ArrayParameter::add(const Cell& cell) {
  if (const auto* text = std::get_if<std::string>(&cell)) return add(std::string_view(*text));
  if (const auto* integer = std::get_if<std::int64_t>(&cell)) return add(*integer);
  ++count_;
  if (std::holds_alternative<std::monostate>(cell)) {
    has_null_ = true;
    put(bytes_, 0xFFFFFFFF, 4);
  } else if (const auto* time = std::get_if<domain::Timestamp>(&cell)) {
    if (type_ == Type::date) {
      const auto day = std::chrono::floor<std::chrono::days>(*time);
      return number(static_cast<std::uint64_t>(day.time_since_epoch().count() - epoch_days), 4);
    }
    ONBOARDING_ASSERT(type_ == Type::timestamptz, "a time goes into a timestamptz or date column");
    number(static_cast<std::uint64_t>(time->time_since_epoch().count() - epoch_us), 8);
  } else if (const auto* flag = std::get_if<bool>(&cell)) {
    ONBOARDING_ASSERT(type_ == Type::boolean, "a flag goes into a boolean column");
    number(*flag ? 1 : 0, 1);
  } else if (const auto* real = std::get_if<double>(&cell)) {
    ONBOARDING_ASSERT(type_ == Type::double_precision, "a real number goes into a double precision column");
    number(std::bit_cast<std::uint64_t>(*real), 8);
  } else {
    ONBOARDING_ASSERT(type_ == Type::jsonb, "members go into a jsonb column");
    const std::string json = to_json(std::get<Members>(cell));
    put(bytes_, json.size() + 1, 4);
    bytes_.push_back(1);  // version of the binary form
    bytes_.append(json);
  }
}

std::string ArrayParameter::take() {
  std::string header;
  put(header, 1, 4);
  put(header, has_null_ ? 1 : 0, 4);
  put(header, type_ids[static_cast<std::size_t>(type_)], 4);
  put(header, count_, 4);
  put(header, 1, 4);
  bytes_.replace(0, header_size, header);
  return std::move(bytes_);
}

}  // namespace onboarding::projections

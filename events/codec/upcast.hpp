// Old events stay readable for ever: an upcaster turns the data of type@version, as it was written, into the next
// shape. They are chained until the type's schema of today is reached. Pure functions on JSON; sealed texts are still
// closed then and may be moved to another member as a whole, never looked into.
#pragma once

#include <rapidjson/document.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace onboarding::codec {

struct Upcast {
  std::string to_type;  // the same type, or the one that took its place
  std::uint32_t to_version = 1;
  void (*apply)(rapidjson::Value& data, rapidjson::Document::AllocatorType&) = nullptr;
};

/// Immutable once it is used: shared by all threads.
class Upcasters {
 public:
  /// A type's versions only grow; asserted.
  Upcasters& add(std::string type, std::uint32_t from_version, Upcast);
  /// nullptr: type@version needs none.
  const Upcast* find(std::string_view type, std::uint32_t version) const;
  bool empty() const { return steps_.empty(); }

 private:
  std::map<std::pair<std::string, std::uint32_t>, Upcast, std::less<>> steps_;
};

/// What this program knows to read: every older schema that any release wrote.
const Upcasters& upcasters();

}  // namespace onboarding::codec

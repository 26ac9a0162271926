// What a record says of itself without its events: no key is needed, nothing is opened.
#pragma once

#include "events/codec/codec.hpp"

namespace onboarding::codec {

/// Errc::malformed when the payload is not the JSON that FORMAT.md describes.
result<RecordMeta> read_meta(const log::Record&);

/// Whose key a record is sealed with, and whether it tells that the person was erased.
struct Seal {
  std::string user, key_id;
  bool erases = false;
};
result<Seal> read_seal(const log::Record&);

}  // namespace onboarding::codec

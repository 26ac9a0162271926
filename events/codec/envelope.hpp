// What a record says of itself without its events: no key is needed, nothing is opened.
#pragma once

#include "events/codec/codec.hpp"

namespace onboarding::codec {

/// Errc::malformed when the payload is not the JSON that FORMAT.md describes.
result<RecordMeta> read_meta(const log::Record&);

}  // namespace onboarding::codec

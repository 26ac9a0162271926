// Bytes that claim to be text, judged and mended with the standard library only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace onboarding::domain {

/// Well-formed UTF-8 (no surrogates, no overlong forms) without a NUL.
bool is_text(std::string_view bytes);

/// Nothing but white space, marks that show nothing, and joiners. `bytes` is text.
bool is_blank(std::string_view bytes);

/// Text that any store accepts: NULs and malformed bytes become U+FFFD, and what lies beyond `max_bytes` is cut off
/// between two code points.
std::string to_text(std::string_view bytes, std::size_t max_bytes);

/// ASCII letters in lower case, all other bytes as they are.
std::string ascii_lower(std::string_view bytes);

/// "a", "a and b", "a, b and c".
std::string enumerate(const std::vector<std::string>& things, std::string_view last_separator = " and ");

}  // namespace onboarding::domain

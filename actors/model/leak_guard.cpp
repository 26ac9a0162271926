#include "actors/model/leak_guard.hpp"

#include <algorithm>

#include "actors/model/prompt.hpp"

namespace onboarding::model {
namespace {

// "ref-" and 24 hexadecimal digits, of which the digits are enough.
constexpr std::size_t kEnough = 16;

bool counts(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string folded(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (counts(c)) out += lower(c);
  return out;
}

/// What every base64 text has in it that holds this one `shift` bytes behind a multiple of three.
std::string within_base64(std::string_view text, std::size_t shift) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  int have = 0;
  for (std::size_t i = (3 - shift) % 3; i < text.size(); ++i) {
    bits = (bits << 8) | static_cast<unsigned char>(text[i]);
    for (have += 8; have >= 6; have -= 6) out += kDigits[(bits >> (have - 6)) & 63];
  }
  return out;
}

}  // namespace

LeakGuard::LeakGuard(std::string_view canary) {
  const auto dash = canary.find('-');
  if (dash != canary.npos && canary.size() - dash > kEnough) canary.remove_prefix(dash + 1);
  if (!canary.empty()) {
    never_.push_back(folded(canary));
    if (canary.size() >= kEnough) {
      never_.emplace_back(never_[0].rbegin(), never_[0].rend());
      for (std::size_t shift = 0; shift < 3; ++shift) never_.push_back(folded(within_base64(canary, shift)));
    }
  }
  for (const auto mark : instruction_marks()) never_.push_back(folded(mark));
  std::erase_if(never_, [](const auto& never) { return never.empty(); });
}

bool LeakGuard::leaks(std::string_view text) const {
  const auto plain = folded(text);
  return std::any_of(never_.begin(), never_.end(), [&](const auto& never) { return plain.find(never) != plain.npos; });
}

std::size_t LeakGuard::beginning(std::string_view text) const {
  std::string plain;
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (counts(text[i])) plain += lower(text[i]), at.push_back(i);
  std::size_t most = 0;
  for (const auto& never : never_)
    for (auto n = std::min(plain.size(), never.size() - 1); n > most; --n)
      if (std::string_view(plain).substr(plain.size() - n) == std::string_view(never).substr(0, n)) most = n;
  return most == 0 ? 0 : text.size() - at[plain.size() - most];
}

}  // namespace onboarding::model

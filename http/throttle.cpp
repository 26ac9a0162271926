#include "http/throttle.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

namespace onboarding::http {
namespace {

std::optional<std::array<std::uint8_t, 16>> address_bytes(std::string_view text) {
  std::array<std::uint8_t, 16> bytes{};
  const std::string copy(text);
  in_addr v4{};
  if (::inet_pton(AF_INET, copy.c_str(), &v4) == 1) {
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(bytes.data() + 12, &v4, 4);
    return bytes;
  }
  if (::inet_pton(AF_INET6, copy.c_str(), bytes.data()) == 1) return bytes;
  return std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

}  // namespace

std::optional<AddressBlock> AddressBlock::parse(std::string_view text) {
  const auto slash = text.find('/');
  const auto bytes = address_bytes(text.substr(0, slash));
  if (!bytes) return std::nullopt;
  AddressBlock block;
  block.bytes_ = *bytes;
  if (slash != text.npos) {
    const auto digits = text.substr(slash + 1);
    const bool v4 = text.find(':') == text.npos;
    if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != digits.npos) return std::nullopt;
    const auto bits = static_cast<unsigned>(std::stoul(std::string(digits)));
    if (bits > (v4 ? 32U : 128U)) return std::nullopt;
    block.bits_ = v4 ? 96 + bits : bits;
  }
  return block;
}

bool AddressBlock::contains(std::string_view address) const {
  const auto bytes = address_bytes(address);
  if (!bytes) return false;
  for (unsigned bit = 0; bit < bits_; bit += 8) {
    const auto wanted = std::min(8U, bits_ - bit);
    const auto mask = static_cast<std::uint8_t>(0xff << (8 - wanted));
    if ((bytes_[bit / 8] & mask) != ((*bytes)[bit / 8] & mask)) return false;
  }
  return true;
}

std::string client_behind(const std::vector<AddressBlock>& trusted, const std::string& peer, std::string_view forwarded) {
  const auto is_trusted = [&](std::string_view address) {
    return std::any_of(trusted.begin(), trusted.end(), [&](const AddressBlock& block) { return block.contains(address); });
  };
  std::string client = peer;
  while (is_trusted(client) && !forwarded.empty()) {
    const auto comma = forwarded.rfind(',');
    const auto last = trimmed(comma == forwarded.npos ? forwarded : forwarded.substr(comma + 1));
    if (!address_bytes(last)) break;  // "unknown", or made up: the proxy before it is all that is known
    client = last;
    forwarded = comma == forwarded.npos ? std::string_view() : forwarded.substr(0, comma);
  }
  return client;
}

std::string throttle_key(std::string_view address) {
  const auto bytes = address_bytes(address);
  if (!bytes) return std::string(address);
  const bool v4 = address.find(':') == address.npos;
  return std::string(reinterpret_cast<const char*>(bytes->data()), v4 ? 16 : 8);
}

Throttle::Verdict Throttle::take(std::string_view client, std::int64_t now_ms) {
  if (per_minute_ == 0) return {};
  const double capacity = per_minute_;
  const double per_ms = capacity / 60'000.0;
  std::lock_guard lock(mutex_);
  auto found = by_client_.find(client);
  if (found == by_client_.end()) {
    if (recent_.size() >= max_clients_) {
      by_client_.erase(recent_.back().client);
      recent_.pop_back();
    }
    recent_.push_front({std::string(client), capacity, now_ms});
    found = by_client_.emplace(recent_.front().client, recent_.begin()).first;
  } else {
    recent_.splice(recent_.begin(), recent_, found->second);
  }
  auto& bucket = *found->second;
  bucket.tokens =
      std::min(capacity, bucket.tokens + static_cast<double>(std::max<std::int64_t>(now_ms - bucket.at_ms, 0)) * per_ms);
  bucket.at_ms = std::max(bucket.at_ms, now_ms);
  const bool admitted = bucket.tokens >= 1;
  if (admitted) bucket.tokens -= 1;
  const double missing = admitted ? capacity - bucket.tokens : 1 - bucket.tokens;
  return {admitted, per_minute_, static_cast<std::uint32_t>(bucket.tokens),
          static_cast<std::uint32_t>(std::ceil(missing / per_ms / 1000))};
}

std::size_t Throttle::clients() const {
  std::lock_guard lock(mutex_);
  return recent_.size();
}

}  // namespace onboarding::http

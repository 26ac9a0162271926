// How often one address may ask: a token bucket per client and class, in a bounded table. No thread and no clock of its own.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "http/http_server.hpp"

namespace onboarding::http {

/// An address block, IPv4 or IPv6: "10.0.0.0/8", "::1".
class AddressBlock {
 public:
  static std::optional<AddressBlock> parse(std::string_view text);
  bool contains(std::string_view address) const;

 private:
  std::array<std::uint8_t, 16> bytes_{};  // IPv4 as ::ffff:a.b.c.d
  unsigned bits_ = 128;
};

/// The client behind trusted proxies: the last address of X-Forwarded-For that no trusted proxy has; the peer itself
/// unless it is trusted.
std::string client_behind(const std::vector<AddressBlock>& trusted, const std::string& peer, std::string_view x_forwarded_for);

/// What one client address counts as: IPv6 clients own a /64.
std::string throttle_key(std::string_view address);

class Throttle {
 public:
  struct Verdict {
    bool admitted = true;
    std::uint32_t limit = 0;  // 0: not throttled
    std::uint32_t remaining = 0;
    std::uint32_t reset_seconds = 0;  // until the next token, when none is left; until it is full otherwise
  };
  Throttle(std::uint32_t per_minute, std::size_t max_clients) : per_minute_(per_minute), max_clients_(max_clients) {}

  Verdict take(std::string_view client, std::int64_t now_ms);
  std::size_t clients() const;

 private:
  struct Bucket {
    std::string client;
    double tokens;
    std::int64_t at_ms;
  };
  const std::uint32_t per_minute_;
  const std::size_t max_clients_;
  mutable std::mutex mutex_;
  std::list<Bucket> recent_;                                                     // latest in front
  std::unordered_map<std::string_view, std::list<Bucket>::iterator> by_client_;  // views into recent_
};

}  // namespace onboarding::http

// What a call actor and the supervisor say to each other about a call's budget. Plain values, no CAF type.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "actors/model/provider.hpp"

namespace onboarding::model {

/// Monotonic time of the actor system's clock; handed in, never read here.
using Instant = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

using LeaseId = std::uint64_t;

/// A set of providers by their place in SupervisorOptions::providers.
using ProviderSet = std::uint32_t;

/// By UTF-8 bytes a character, which is what decides how far an estimate of tokens is off.
enum class Script : std::uint8_t { one_byte, two_bytes, three_bytes, four_bytes };
/// That of most of a text's characters beyond ASCII, where they are at least a quarter of all.
Script script_of(std::string_view utf8);

/// The right to make one call, asked for before it is made.
struct LeaseRequest {
  Priority priority = Priority::waiting_client;
  Instant deadline;
  std::uint32_t input_tokens = 0;                 // estimated, an upper bound
  std::uint32_t output_tokens = 0;                // the answer's cap
  ProviderSet avoid = 0;                          // failed already in this activation: only when no other has budget
  ProviderSet exclude = 0;                        // never again in this activation (it cannot take this request)
  std::uint32_t plan = 0;                         // 0: none that is configured; else 1 + its place in SupervisorOptions::plans
  std::uint64_t session = 0, turn = 0, flow = 0;  // hashes
  Script script = Script::one_byte;
  bool again = false;         // had a lease before in this activation: stands before who had none
  std::int64_t arrived = 0;   // when its session came, microseconds of any clock that all share: who came first is served first
  std::uint32_t further = 0;  // turns that its session will want after this one, as far as is known
};

enum class LeaseStatus {
  granted,
  no_provider,  // none is enabled, healthy and allowed
  deadline,     // no budget came free in time
  queue_full,
  plan_limit  // the plan has had its tokens of the day
};

struct LeaseGrant {
  LeaseStatus status = LeaseStatus::no_provider;
  LeaseId id = 0;
  std::uint32_t provider = 0;            // place in SupervisorOptions::providers
  std::chrono::milliseconds timeout{0};  // for the call: the provider's, or what is left until the deadline
};

/// How the call ended. A lease that is never settled expires.
struct Settlement {
  CallError error = CallError::none;
  std::int64_t input_tokens = -1, output_tokens = -1;  // as the provider counted them; -1: it did not say
  bool was_sent = false;
  bool usage_refused = false;  // the provider told more than the call can have used
  std::chrono::milliseconds retry_after{0};
  bool day_limit = false;                         // CallResult::day_limit
  std::map<std::string, std::int64_t> remaining;  // CallResult::remaining, ::limits, ::reset
  std::map<std::string, std::int64_t> limits;
  std::map<std::string, std::chrono::milliseconds> reset;
  std::int64_t cached_input_tokens = 0;  // of the input
  std::int64_t nanodollars = -1;         // -1: no price is known
  std::chrono::milliseconds latency{0};
};

}  // namespace onboarding::model

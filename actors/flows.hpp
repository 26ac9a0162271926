// What operators may ask of the flows, and change while the server runs. No CAF type in it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "events/domain/result.hpp"

namespace onboarding {

/// A flow, its definition as a flow file has it (JSON).
struct PublishedFlow {
  std::uint32_t version = 0;
  std::string definition;
  bool is_new = false;  // of put(): it became a version of its own
};

class Flows {
 public:
  virtual ~Flows() = default;

  /// One version of a flow, 0: the newest. Does not block. Errors: GatewayErrc::unknown_flow.
  virtual result<PublishedFlow> find(std::string_view name, std::uint32_t version) const = 0;
  /// Makes the definition the flow's next version, unless its newest one says the same. `done` exactly once, when it is durable,
  /// on a thread that may block. Errors: std::errc::invalid_argument, the detail names the place; GatewayErrc::overloaded while
  /// another one is being put; the log's when it cannot be written.
  virtual void put(std::string name, std::string definition, std::function<void(result<PublishedFlow>)> done) = 0;
};

}  // namespace onboarding

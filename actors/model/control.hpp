// What operators may ask of the model supervisor, and change while it runs. No CAF type in it.
#pragma once

#include <functional>

#include "actors/model/status.hpp"
#include "events/domain/result.hpp"

namespace onboarding::model {

class Control {
 public:
  virtual ~Control() = default;
  using Done = std::function<void(result<ModelStatusPtr>)>;

  /// As it is now. `done` exactly once, on an actor's thread; it must not block. Errors: std::errc::invalid_argument, the detail
  /// names what is wrong; std::errc::no_such_device: there is no such provider; std::errc::timed_out when the supervisor is too busy or ends.
  virtual void status(Done) = 0;
  virtual void change(ProviderChange, Done) = 0;
  virtual void set_queue_mode(QueueMode, Done) = 0;
  /// The plans that are configured; empty: a plan is a session's label and decides nothing. Does not change.
  virtual const std::vector<std::string>& plans() const = 0;
};

}  // namespace onboarding::model

#include "events/log/event_log.hpp"

namespace onboarding::log {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "log"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::not_writable: return "the event log cannot be written at the moment";
      case Errc::overloaded: return "the event log's append queue is full";
      case Errc::corrupt: return "the event log is damaged";
      case Errc::shorter_than_head: return "the event log lost records that it had acknowledged";
      case Errc::wrong_layout: return "the event log is not as the configuration says";
      case Errc::unreadable: return "the event log cannot be read";
      case Errc::locked: return "another process writes the event log";
      case Errc::out_of_bounds: return "the append is outside the event log's bounds";
    }
    return "unknown event log error";
  }
};

}  // namespace

std::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

}  // namespace onboarding::log

#include "projections/queries.hpp"

namespace onboarding::projections {

namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "projections"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::unavailable: return "the read models cannot be reached";
      case Errc::foreign_log: return "the database holds the read models of another log";
      case Errc::beyond_end: return "a checkpoint lies beyond the end of the log";
      case Errc::not_found: return "not found";
      case Errc::bad_migration: return "the database's migrations are not those of this program";
      case Errc::poison: return "an event cannot be applied";
      case Errc::fenced: return "another runner has moved a checkpoint";
      case Errc::changed: return "somebody else has changed it since it was looked at";
      case Errc::not_possible: return "that is not possible now";
    }
    return "unknown projections error";
  }
};

}  // namespace

std::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

}  // namespace onboarding::projections

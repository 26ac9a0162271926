#include "actors/model/providers/errc.hpp"

#include <string>

namespace onboarding::model {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "model"; }
  std::string message(int code) const override {
    switch (static_cast<Errc>(code)) {
      case Errc::unsupported_provider: return "there is no adapter for this model provider in this version";
      case Errc::bad_settings: return "a model provider's settings are incomplete or malformed";
    }
    return "unknown model error";
  }
};

}  // namespace

std::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

}  // namespace onboarding::model

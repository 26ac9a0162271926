#include "events/codec/codec.hpp"

namespace onboarding::codec {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "codec"; }
  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::malformed: return "This is not the JSON that was expected";
      case Errc::unknown_type: return "The log holds an event type that this program does not know";
      case Errc::unknown_schema: return "The log holds an event in a schema newer than this program";
      case Errc::key_unreachable: return "The key store did not answer, so sealed texts cannot be read now";
      case Errc::too_large: return "This is larger than it may be";
    }
    return "Unknown codec error";
  }
};

}  // namespace

std::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

}  // namespace onboarding::codec

#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "privacy"; }
  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::unreachable: return "The key store cannot be read or written now";
      case Errc::erased: return "The user's key was erased";
      case Errc::lost: return "A key is missing that nobody erased: restore the newest keys.db";
      case Errc::forged: return "A sealed text does not open: wrong key, moved or altered";
      case Errc::bad_secret_file: return "A secret's file is missing, readable by others, or not what it should be";
    }
    return "Unknown privacy error";
  }
};

}  // namespace

std::error_code make_error_code(Errc code) {
  static const Category category;
  return {static_cast<int>(code), category};
}

}  // namespace onboarding::privacy

// A key store that knows nobody: for readers that are to see nothing personal.
#pragma once

#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {

class NoKeys final : public KeyStore {
 public:
  void obtain(std::string, Obtained done) override { done(failure(Errc::unreachable)); }
  result<SealingKeyPtr> find(std::string_view, std::string_view) override { return failure(Errc::erased); }
  void erase(std::string, std::function<void(result<void>)> done) override { done(failure(Errc::unreachable)); }
};

}  // namespace onboarding::privacy

// A real key store without a disk, for simulation and tests: answers at once on the caller's thread, and can be told to
// be out of reach. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "events/clock.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {

class MemoryKeyStore final : public KeyStore {
 public:
  /// A seeded source gives the same keys again.
  explicit MemoryKeyStore(RandomSource& random = system_random());

  void obtain(std::string user, Obtained done) override;
  result<SealingKeyPtr> find(std::string_view user, std::string_view key_id) override;
  void erase(std::string user, std::function<void(result<void>)> done) override;
  void erase_if(std::string user, Confirm confirm, std::function<void(result<void>)> done) override;

  /// While false every call answers Errc::unreachable; nothing is lost.
  void set_reachable(bool);
  /// A key made elsewhere.
  void put(std::string user, SealingKeyPtr);

 private:
  std::mutex mutex_;
  RandomSource& random_;
  bool reachable_ = true;
  std::map<std::string, std::vector<SealingKeyPtr>, std::less<>> keys_;
};

}  // namespace onboarding::privacy

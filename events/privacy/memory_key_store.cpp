#include "events/privacy/memory_key_store.hpp"

#include <algorithm>

#include "events/privacy/new_key.hpp"

namespace onboarding::privacy {

MemoryKeyStore::MemoryKeyStore(RandomSource& random) : random_(random) {}

void MemoryKeyStore::obtain(std::string user, Obtained done) {
  result<SealingKeyPtr> obtained = failure(Errc::unreachable);
  {
    const std::lock_guard lock(mutex_);
    if (reachable_) {
      auto& keys = keys_[user];
      if (keys.empty()) keys.push_back(new_key(random_));
      obtained = keys.back();
    }
  }
  done(std::move(obtained));
}

result<SealingKeyPtr> MemoryKeyStore::find(std::string_view user, std::string_view key_id) {
  const std::lock_guard lock(mutex_);
  if (!reachable_) return failure(Errc::unreachable);
  if (const auto found = keys_.find(user); found != keys_.end())
    for (const auto& key : found->second)
      if (key->id == key_id) return key;
  return failure(Errc::erased);
}

void MemoryKeyStore::erase(std::string user, std::function<void(result<void>)> done) {
  bool erased = false;
  {
    const std::lock_guard lock(mutex_);
    if ((erased = reachable_)) keys_.erase(user);
  }
  done(erased ? result<void>() : failure(Errc::unreachable));
}

void MemoryKeyStore::erase_if(std::string user, Confirm confirm, std::function<void(result<void>)> done) {
  std::vector<SealingKeyPtr> known;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = keys_.find(user); found != keys_.end()) known = found->second;
  }
  confirm([this, user = std::move(user), known = std::move(known), done = std::move(done)](result<void> confirmed) {
    if (confirmed) {
      const std::lock_guard lock(mutex_);
      if (!reachable_) confirmed = failure(Errc::unreachable);
      else std::erase_if(keys_[user], [&](const auto& key) { return std::find(known.begin(), known.end(), key) != known.end(); });
    }
    done(std::move(confirmed));
  });
}

void MemoryKeyStore::set_reachable(bool reachable) {
  const std::lock_guard lock(mutex_);
  reachable_ = reachable;
}

void MemoryKeyStore::put(std::string user, SealingKeyPtr key) {
  const std::lock_guard lock(mutex_);
  keys_[std::move(user)].push_back(std::move(key));
}

}  // namespace onboarding::privacy

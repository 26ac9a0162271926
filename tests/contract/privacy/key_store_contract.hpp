// What any key store promises (events/privacy/key_store.hpp). All adapters are held to it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <string>

#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {

/// A place where one store keeps its keys; opened again it has them again. Only one is open at a time.
class KeyStorePlace {
 public:
  virtual ~KeyStorePlace() = default;
  virtual std::unique_ptr<KeyStore> open() = 0;
};

struct KeyStoreAdapter {
  const char* name;
  std::function<std::unique_ptr<KeyStorePlace>()> make;
  bool lasting = true;
};

class KeyStoreContract : public testing::TestWithParam<KeyStoreAdapter> {
 protected:
  std::unique_ptr<KeyStorePlace> place = GetParam().make();
  std::unique_ptr<KeyStore> store = place->open();
};

// The promises outlive their callbacks, which may still be in set_value() when the future is ready.
inline result<SealingKeyPtr> obtain(KeyStore& store, const std::string& user) {
  const auto promise = std::make_shared<std::promise<result<SealingKeyPtr>>>();
  auto answer = promise->get_future();
  store.obtain(user, [promise](auto obtained) { promise->set_value(std::move(obtained)); });
  return answer.get();
}
inline result<void> erase(KeyStore& store, const std::string& user) {
  const auto promise = std::make_shared<std::promise<result<void>>>();
  auto answer = promise->get_future();
  store.erase(user, [promise](auto erased) { promise->set_value(std::move(erased)); });
  return answer.get();
}

}  // namespace onboarding::privacy

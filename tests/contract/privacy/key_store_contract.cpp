#include "tests/contract/privacy/key_store_contract.hpp"

#include <atomic>
#include <set>
#include <thread>
#include <vector>

namespace onboarding::privacy {
namespace {

TEST_P(KeyStoreContract, gives_a_user_the_same_key_again_and_others_another) {
  const auto key = obtain(*store, "zoe").value();
  EXPECT_EQ(key->id.size(), 16U);
  EXPECT_EQ(obtain(*store, "zoe").value()->bytes, key->bytes);
  EXPECT_EQ(store->find("zoe", key->id).value()->bytes, key->bytes);
  EXPECT_NE(obtain(*store, "ann").value()->bytes, key->bytes);
}

TEST_P(KeyStoreContract, calls_a_key_erased_that_never_was_or_is_another_users) {
  const auto key = obtain(*store, "zoe").value();
  EXPECT_EQ(store->find("zoe", "0000000000000000").error().code, Errc::erased);
  EXPECT_EQ(store->find("ann", key->id).error().code, Errc::erased);
  EXPECT_EQ(store->find("", "").error().code, Errc::erased);
}

TEST_P(KeyStoreContract, forgets_an_erased_user_and_nobody_else) {
  const auto zoe = obtain(*store, "zoe").value(), ann = obtain(*store, "ann").value();
  EXPECT_TRUE(erase(*store, "zoe"));
  EXPECT_EQ(store->find("zoe", zoe->id).error().code, Errc::erased);
  EXPECT_EQ(store->find("ann", ann->id).value()->bytes, ann->bytes);
  EXPECT_TRUE(erase(*store, "zoe")) << "twice changes nothing";
  const auto fresh = obtain(*store, "zoe").value();
  EXPECT_NE(fresh->id, zoe->id);
  EXPECT_NE(fresh->bytes, zoe->bytes);
  EXPECT_EQ(store->find("zoe", fresh->id).value()->bytes, fresh->bytes);
  EXPECT_EQ(store->find("zoe", zoe->id).error().code, Errc::erased);
}

TEST_P(KeyStoreContract, forgets_nobody_before_it_is_confirmed) {
  const auto zoe = obtain(*store, "zoe").value();
  const auto erased_if = [&](const result<void>& answer) {
    const auto promise = std::make_shared<std::promise<result<void>>>();
    auto ended = promise->get_future();
    store->erase_if(
        "zoe", [answer](const auto& confirmed) { confirmed(answer); },
        [promise](auto how) { promise->set_value(std::move(how)); });
    return ended.get();
  };
  EXPECT_EQ(erased_if(failure(Errc::lost)).error().code, Errc::lost);
  EXPECT_EQ(store->find("zoe", zoe->id).value()->bytes, zoe->bytes);
  EXPECT_EQ(obtain(*store, "zoe").value()->id, zoe->id);
  EXPECT_TRUE(erased_if({}));
  EXPECT_EQ(store->find("zoe", zoe->id).error().code, Errc::erased);
  EXPECT_NE(obtain(*store, "zoe").value()->id, zoe->id);
}

TEST_P(KeyStoreContract, keeps_keys_and_erasures_over_a_restart) {
  if (!GetParam().lasting) GTEST_SKIP() << "it forgets everything at its end";
  const auto zoe = obtain(*store, "zoe").value(), ann = obtain(*store, "ann").value();
  ASSERT_TRUE(erase(*store, "ann"));
  store.reset();
  store = place->open();
  EXPECT_EQ(store->find("zoe", zoe->id).value()->bytes, zoe->bytes);
  EXPECT_EQ(obtain(*store, "zoe").value()->id, zoe->id);
  EXPECT_EQ(store->find("ann", ann->id).error().code, Errc::erased);
  EXPECT_NE(obtain(*store, "ann").value()->id, ann->id);
}

TEST_P(KeyStoreContract, gives_all_who_ask_at_once_for_one_user_one_key) {
  std::vector<std::thread> threads;
  std::vector<std::string> ids(8);
  for (auto& id : ids) threads.emplace_back([&] { id = obtain(*store, "zoe").value()->id; });
  for (auto& thread : threads) thread.join();
  for (const auto& id : ids) EXPECT_EQ(id, ids[0]);
}

TEST_P(KeyStoreContract, answers_a_thousand_who_start_at_once) {
  std::mutex mutex;
  std::set<std::string> ids;
  std::promise<void> all;
  for (int i = 0; i < 1000; ++i)
    store->obtain("user" + std::to_string(i), [&](auto obtained) {
      const std::lock_guard lock(mutex);
      ids.insert(obtained.value()->id);
      if (ids.size() == 1000) all.set_value();
    });
  EXPECT_EQ(all.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
  store.reset();  // before what its callbacks use
}

TEST_P(KeyStoreContract, carries_out_what_it_accepted_before_it_ends) {
  std::atomic<int> answered = 0, erased = 0;
  obtain(*store, "zoe").value();
  for (int i = 0; i < 100; ++i)
    store->obtain("user" + std::to_string(i), [&](auto obtained) { answered += obtained.has_value(); });
  store->erase("zoe", [&](auto done) { erased += done.has_value(); });
  store.reset();
  EXPECT_EQ(answered, 100);
  EXPECT_EQ(erased, 1);
}

}  // namespace
}  // namespace onboarding::privacy

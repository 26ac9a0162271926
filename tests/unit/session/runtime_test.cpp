// The runtime on its real threads: waits for answers, never for time.
#include "actors/runtime.hpp"

#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <future>

#include "events/domain/catalog.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/privacy/memory_key_store.hpp"

namespace onboarding {
namespace {

template <class T>
struct Awaited {
  std::promise<result<T>> promise;
  std::future<result<T>> future = promise.get_future();
  Gateway::Done<T> done() {
    return [this](result<T> answer) { promise.set_value(std::move(answer)); };
  }
  result<T> get() {
    if (future.wait_for(std::chrono::seconds(60)) != std::future_status::ready) throw std::runtime_error("no answer");
    return future.get();
  }
};

TEST(Runtime, holds_a_conversation_with_the_offline_extractor_and_ends_cleanly) {
  log::MemoryLog log(log::make_memory_store());
  privacy::MemoryKeyStore keys;
  const auto secrets = privacy::Secrets::from_bytes({});
  domain::FixedFlowCatalog flows;
  prometheus::Registry registry;
  Runtime runtime({&log, &keys, &secrets, &system_clock(), &system_random(), &flows, &registry, {}, {}, 2});

  Awaited<SessionStartedAnswer> started;
  runtime.gateway().start_session({}, started.done());
  const auto session = started.get();
  ASSERT_TRUE(session.has_value()) << session.error().message();

  Awaited<TurnAnswer> answered;
  MessageRequest request;
  request.session_id = session->session.session_id;
  request.token_generation = 1;
  request.text = "My name is Zoe Miller";
  runtime.gateway().post_message(std::move(request), answered.done());
  const auto turn = answered.get();
  ASSERT_TRUE(turn.has_value()) << turn.error().message();
  EXPECT_FALSE(turn->queued);
  EXPECT_EQ(turn->turn().status, domain::TurnStatus::answered);
  EXPECT_EQ(turn->turn().extracted.at(0).first, "full_name");
  EXPECT_EQ(runtime.status().turns_total, 1u);

  std::promise<void> drained;
  runtime.gateway().drain([&] { drained.set_value(); });
  EXPECT_EQ(drained.get_future().wait_for(std::chrono::seconds(60)), std::future_status::ready);
  EXPECT_TRUE(runtime.status().draining);
  EXPECT_NE(runtime.model_status(), nullptr);
}

TEST(Runtime, ends_while_requests_are_under_way_and_answers_each) {
  log::MemoryLog log(log::make_memory_store());
  privacy::MemoryKeyStore keys;
  const auto secrets = privacy::Secrets::from_bytes({});
  domain::FixedFlowCatalog flows;
  prometheus::Registry registry;
  std::atomic<int> answers = 0;
  constexpr int requests = 500;
  {
    Runtime runtime({&log, &keys, &secrets, &system_clock(), &system_random(), &flows, &registry, {}, {}, 2});
    for (int i = 0; i < requests; ++i) runtime.gateway().start_session({}, [&](result<SessionStartedAnswer>) { ++answers; });
  }
  EXPECT_EQ(answers, requests);
}

}  // namespace
}  // namespace onboarding

#include "actors/session/flow_registry.hpp"

#include <gtest/gtest.h>

#include "events/domain/flow.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/privacy/memory_key_store.hpp"

namespace onboarding::session {
namespace {

struct Shelf {
  std::shared_ptr<log::MemoryStore> store = log::make_memory_store(2);
  privacy::MemoryKeyStore keys;
  log::MemoryLog log{store};
  std::unique_ptr<FlowRegistry> open(std::vector<domain::Flow> flows) {
    return FlowRegistry::open(log, keys, system_clock(), system_random(), flows).value();
  }
};

domain::Flow greeting(const std::string& text) {
  domain::Flow flow = domain::default_flow();
  flow.greeting = text;
  return flow;
}

TEST(FlowRegistry, publishes_what_is_new_and_nothing_twice) {
  Shelf shelf;
  {
    const auto registry = shelf.open({domain::default_flow()});
    ASSERT_NE(registry->newest("default"), nullptr);
    EXPECT_EQ(registry->newest("default")->version, 1u);
  }
  EXPECT_EQ(shelf.log.head(0), 1u);
  const auto again = shelf.open({domain::default_flow()});
  EXPECT_EQ(shelf.log.head(0), 1u);
  EXPECT_EQ(*again->find("default", 1), domain::default_flow());
}

TEST(FlowRegistry, changed_content_is_the_next_version_and_old_ones_stay) {
  Shelf shelf;
  shelf.open({domain::default_flow()});
  const auto registry = shelf.open({greeting("Hello there!")});
  EXPECT_EQ(registry->newest("default")->version, 2u);
  EXPECT_EQ(registry->newest("default")->greeting, "Hello there!");
  EXPECT_EQ(registry->find("default", 1)->greeting, domain::default_flow().greeting);
  EXPECT_EQ(registry->find("default", 3), nullptr);
  EXPECT_EQ(registry->find("default", 0), nullptr);
}

TEST(FlowRegistry, finds_flows_whose_file_is_gone) {
  Shelf shelf;
  domain::Flow other = domain::default_flow();
  other.name = "short";
  shelf.open({domain::default_flow(), other});
  const auto registry = shelf.open({domain::default_flow()});
  EXPECT_NE(registry->find("short", 1), nullptr);
  EXPECT_EQ(registry->newest("nobody"), nullptr);
}

TEST(FlowRegistry, refuses_a_flow_that_makes_no_sense) {
  Shelf shelf;
  const auto registry = shelf.open({});
  domain::Flow flow = domain::default_flow();
  flow.fields.push_back(flow.fields.front());
  EXPECT_FALSE(registry->publish(flow).has_value());
  EXPECT_EQ(shelf.log.head(0), 0u);
}

}  // namespace
}  // namespace onboarding::session

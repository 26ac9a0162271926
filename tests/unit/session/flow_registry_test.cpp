#include "actors/session/flow_registry.hpp"

#include <gtest/gtest.h>

#include <future>

#include "actors/gateway.hpp"
#include "events/codec/codec.hpp"
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

TEST(FlowRegistry, what_an_operator_put_stays_in_force_over_a_restart) {
  Shelf shelf;
  {
    const auto registry = shelf.open({domain::default_flow()});
    EXPECT_EQ(registry->publish(greeting("Put by hand.")).value(), 2u);
  }
  const auto again = shelf.open({domain::default_flow()});
  EXPECT_EQ(again->newest("default")->greeting, "Put by hand.");
  EXPECT_EQ(again->publish(domain::default_flow()).value(), 3u);
  EXPECT_EQ(again->newest("default")->greeting, domain::default_flow().greeting);
}

result<PublishedFlow> put(FlowDesk& desk, const std::string& name, const std::string& definition) {
  std::promise<result<PublishedFlow>> promise;
  desk.put(name, definition, [&](result<PublishedFlow> flow) { promise.set_value(std::move(flow)); });
  return promise.get_future().get();
}

TEST(FlowDesk, puts_a_file_as_the_next_version_and_only_once) {
  Shelf shelf;
  const auto registry = shelf.open({domain::default_flow()});
  FlowDesk desk(*registry);
  const std::string file = codec::write_flow(greeting("Put by hand."));
  const auto first = put(desk, "default", file);
  EXPECT_EQ(first.value().version, 2u);
  EXPECT_TRUE(first->is_new);
  EXPECT_EQ(codec::parse_flow(first->definition)->greeting, "Put by hand.");
  const auto second = put(desk, "default", first->definition);
  EXPECT_EQ(second.value().version, 2u);
  EXPECT_FALSE(second->is_new);
  EXPECT_EQ(desk.find("default", 0)->version, 2u);
  EXPECT_EQ(desk.find("default", 1)->version, 1u);
  EXPECT_EQ(desk.find("default", 3).error().code, GatewayErrc::unknown_flow);
  EXPECT_EQ(shelf.log.head(0), 2u);
}

TEST(FlowDesk, says_where_a_file_is_wrong_and_keeps_the_newest) {
  Shelf shelf;
  const auto registry = shelf.open({domain::default_flow()});
  FlowDesk desk(*registry);
  domain::Flow twice = domain::default_flow();
  twice.fields.push_back(twice.fields.front());
  for (const auto& [name, file] : {std::pair<std::string, std::string>("default", "{"),
                                   {"default", R"({"name":"default","fields":7})"},
                                   {"default", codec::write_flow(twice)},
                                   {"other", codec::write_flow(domain::default_flow())}}) {
    const auto refused = put(desk, name, file);
    ASSERT_FALSE(refused.has_value()) << file;
    EXPECT_EQ(refused.error().code, std::errc::invalid_argument) << file;
    EXPECT_FALSE(refused.error().detail.empty()) << file;
  }
  EXPECT_EQ(desk.find("default", 0)->version, 1u);
}

}  // namespace
}  // namespace onboarding::session

#include "infra/app/server/model_changes.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace onboarding::app {
namespace {

struct NothingRuns final : model::Control {
  void status(Done) override {}
  void change(model::ProviderChange, Done) override { ++changes; }
  void set_queue_mode(model::QueueMode, Done) override {}
  const std::vector<std::string>& plans() const override { return none; }
  std::vector<std::string> none;
  int changes = 0;
};

struct ModelChangesFile : testing::Test {
  ModelChangesFile() {
    std::string name = "/tmp/model_changes_XXXXXX";
    folder = ::mkdtemp(name.data());
  }
  ~ModelChangesFile() override { std::filesystem::remove_all(folder); }
  void write(const std::string& content) { std::ofstream(folder / "model-changes.json") << content; }
  std::uint32_t weight_after_restart() {
    std::vector<model::ProviderSettings> providers(1);
    providers[0].name = "openai";
    providers[0].weight = 40;
    model::QueueSettings queue;
    (*ModelChanges::load(folder))->apply(providers, queue);
    return providers[0].weight;
  }
  std::filesystem::path folder;
};

TEST_F(ModelChangesFile, a_change_is_in_force_after_a_restart_and_one_that_is_refused_is_not) {
  auto changes = std::move(*ModelChanges::load(folder));
  NothingRuns running;
  changes->attach(running);
  std::vector<model::ProviderSettings> providers(1);
  providers[0].name = "openai";
  model::QueueSettings queue;
  changes->apply(providers, queue);
  model::ProviderChange change;
  change.name = "zed";
  bool unknown = false;
  changes->change(change, [&](const auto& status) { unknown = !status && status.error().code == std::errc::no_such_device; });
  EXPECT_TRUE(unknown);
  EXPECT_FALSE(std::filesystem::exists(folder / "model-changes.json"));
  change.name = "openai";
  change.weight = 7;
  changes->change(change, [](const auto&) {});
  EXPECT_EQ(weight_after_restart(), 7u);
  change.weight = model::kGreatestWeight + 1;
  bool refused = false;
  changes->change(change, [&](const auto& status) { refused = !status && status.error().code == std::errc::invalid_argument; });
  EXPECT_TRUE(refused);
  EXPECT_EQ(running.changes, 1);
  EXPECT_EQ(weight_after_restart(), 7u);
}

TEST_F(ModelChangesFile, a_damaged_file_is_not_believed) {
  for (const auto* content :
       {"", "{", "[]", "{}", R"({"queue_mode":5,"providers":{}})", R"({"queue_mode":"fast","providers":{}})",
        R"({"providers":{"openai":{"weight":-1}}})", R"({"providers":{"openai":{"weight":1000001}}})",
        R"({"providers":{"openai":{"enabled":1}}})", R"({"providers":{"openai":5}})"}) {
    write(content);
    EXPECT_FALSE(ModelChanges::load(folder)) << content;
  }
  write(R"({"queue_mode":"on","providers":{"openai":{"weight":9}}})");
  EXPECT_EQ(weight_after_restart(), 9u);
}

}  // namespace
}  // namespace onboarding::app

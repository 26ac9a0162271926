// ONBOARD_SIM_SEED=<n> runs that one history again; ONBOARD_SIM_SEEDS=<n> says how many are run; ONBOARD_SIM_FIRST where
// they begin. ONBOARDING_CAMPAIGN_SECONDS runs new ones until that time is over.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "projections/models/models.hpp"
#include "tests/simulation/world.hpp"

namespace onboarding::simulation {
namespace {

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

const std::vector<std::string> every_fault = {"client repeats",
                                              "client repeats the start",
                                              "clock jumps back",
                                              "clock jumps forward",
                                              "crash",
                                              "keys unreachable",
                                              "keys unreachable while reading",
                                              "log: duplicate",
                                              "log: failed read",
                                              "log: fenced",
                                              "log: in doubt, lost",
                                              "log: in doubt, written",
                                              "log: late",
                                              "log: lost at crash",
                                              "log: refused",
                                              "log: slow read",
                                              "log: written at crash",
                                              "long silence",
                                              "model hangs",
                                              "model: claims completion",
                                              "model: garbage",
                                              "model: invents a bad value",
                                              "model: rate limited",
                                              "model: timeout",
                                              "model: unavailable",
                                              "model: unknown field",
                                              "model: wrong type",
                                              "no room in memory"};

TEST(Simulation, every_history_keeps_every_promise) {
  spdlog::set_level(spdlog::level::off);
  const bool one = std::getenv("ONBOARD_SIM_SEED") != nullptr;
  const std::uint64_t seconds = one ? 0 : number_from("ONBOARDING_CAMPAIGN_SECONDS", 0);
  const std::uint64_t first =
      one ? number_from("ONBOARD_SIM_SEED", 1) : number_from("ONBOARD_SIM_FIRST", seconds ? std::random_device()() : 1);
  const std::uint64_t wanted = one ? 1 : number_from("ONBOARD_SIM_SEEDS", seconds ? UINT64_MAX : 150);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  Tally tally;
  std::uint64_t count = 0;
  for (std::uint64_t seed = first; count < wanted && (!seconds || std::chrono::steady_clock::now() < end); ++seed, ++count) {
    World world(seed);
    const std::vector<std::string> violations = world.run();
    tally += world.tally;
    for (const std::string& violation : violations) ADD_FAILURE() << "ONBOARD_SIM_SEED=" << seed << ": " << violation;
    if (!violations.empty()) break;
  }
  std::printf("%llu histories, %llu sessions, %llu commands, %llu events, %llu model questions, %llu steps\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(tally.sessions),
              static_cast<unsigned long long>(tally.commands), static_cast<unsigned long long>(tally.events),
              static_cast<unsigned long long>(tally.asks), static_cast<unsigned long long>(tally.steps));
  for (const auto& [kind, times] : tally.faults)
    std::printf("  %-34s %llu\n", kind.c_str(), static_cast<unsigned long long>(times));
  for (const auto& [kind, times] : tally.answers)
    std::printf("  answer: %-26s %llu\n", kind.c_str(), static_cast<unsigned long long>(times));
  if (one || HasFailure()) return;
  for (const std::string& kind : every_fault) EXPECT_GT(tally.faults[kind], 0u) << kind << " never happened";
}

/// A read model that gets something wrong: what `spoil` does to an event's operations.
class Wrong : public projections::Projection {
 public:
  using Spoil = std::function<void(const domain::Event&, const std::vector<projections::Table>&, projections::RowOperations&)>;
  Wrong(std::unique_ptr<projections::Projection> inner, Spoil spoil) : inner_(std::move(inner)), spoil_(std::move(spoil)) {}
  const std::string& name() const override { return inner_->name(); }
  std::uint32_t version() const override { return inner_->version(); }
  const std::vector<projections::Table>& tables() const override { return inner_->tables(); }
  result<void> apply(const codec::DecodedEvent& event, projections::RowOperations& out) const override {
    auto applied = inner_->apply(event, out);
    spoil_(event.recorded.event, inner_->tables(), out);
    return applied;
  }

 private:
  std::unique_ptr<projections::Projection> inner_;
  Spoil spoil_;
};

/// The columns of a table that an event's operations leave out.
Wrong::Spoil leave_out(bool (*of)(const domain::Event&), const std::string& table, const std::string& column) {
  return [=](const domain::Event& event, const std::vector<projections::Table>& tables, projections::RowOperations& out) {
    if (!of(event)) return;
    for (projections::RowOperation& operation : out) {
      auto* upsert = std::get_if<projections::Upsert>(&operation);
      if (upsert == nullptr || tables[upsert->table].name != table) continue;
      std::erase_if(upsert->values, [&](const auto& value) { return tables[upsert->table].columns[value.first].name == column; });
    }
  };
}
template <class Event>
bool is(const domain::Event& event) {
  return std::holds_alternative<Event>(event);
}

TEST(Simulation, a_read_model_with_a_wrong_row_is_found) {
  spdlog::set_level(spdlog::level::off);
  const std::map<std::string, Wrong::Spoil> wrongs = {
      {"an abandoned session stays active", leave_out(is<domain::SessionAbandoned>, "onboarding_sessions", "status")},
      {"a reply is not counted", leave_out(is<domain::AssistantReplied>, "onboarding_sessions", "total_messages_count")},
      {"a completion has no time", leave_out(is<domain::SessionCompleted>, "onboarding_sessions", "completed_at")},
      {"a correction is not stored", leave_out(is<domain::FieldCorrected>, "user_profiles", "fields")},
      {"a refused value is not counted", leave_out(is<domain::FieldRejected>, "session_analytics", "fields_rejected")},
      {"a reply is said by the user", [](const domain::Event& event, const auto& tables, projections::RowOperations& out) {
         if (!is<domain::AssistantReplied>(event)) return;
         for (projections::RowOperation& operation : out) {
           auto& upsert = std::get<projections::Upsert>(operation);
           if (tables[upsert.table].name != "conversation_messages") continue;
           for (auto& [column, cell] : upsert.values) {
             if (tables[upsert.table].columns[column].name == "role") cell = std::string("user");
           }
         }
       }}};
  for (const auto& [name, spoil] : wrongs) {
    bool found = false;
    for (std::uint64_t seed = 1; !found && seed <= 20; ++seed) {
      World world(seed);
      world.make_projections = [&] {
        Projections all;
        for (auto& projection : projections::make_all_projections())
          all.push_back(std::make_unique<Wrong>(std::move(projection), spoil));
        return all;
      };
      found = !world.run().empty();
    }
    EXPECT_TRUE(found) << name << " was not found";
  }
}

}  // namespace
}  // namespace onboarding::simulation

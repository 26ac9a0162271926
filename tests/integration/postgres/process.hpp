// A whole process as operators see it, and projections with a weak spot.
#pragma once

#include <spdlog/spdlog.h>

#include "tests/integration/postgres/following.hpp"

namespace onboarding::testing {

/// A projection with another version, and a weak spot: what some people say is poison to it.
class Odd : public projections::Projection {
 public:
  Odd(std::unique_ptr<projections::Projection> inner, std::uint32_t newer, std::shared_ptr<std::atomic<bool>> poisoned)
      : inner_(std::move(inner)), newer_(newer), poisoned_(std::move(poisoned)) {}
  const std::string& name() const override { return inner_->name(); }
  std::uint32_t version() const override { return inner_->version() + newer_; }
  const std::vector<projections::Table>& tables() const override { return inner_->tables(); }
  result<void> apply(const codec::DecodedEvent& event, projections::RowOperations& out) const override {
    const auto* said = std::get_if<domain::MessageReceived>(&event.recorded.event);
    if (*poisoned_ && said != nullptr && said->text.text == "poison")
      return failure(projections::Errc::poison, "as the test wants");
    const auto* failed = std::get_if<domain::TurnFailed>(&event.recorded.event);  // not sealed: for ever
    if (*poisoned_ && failed != nullptr && failed->reason == "poison") return failure(projections::Errc::poison, "for ever");
    return inner_->apply(event, out);
  }

 private:
  std::unique_ptr<projections::Projection> inner_;
  std::uint32_t newer_;
  std::shared_ptr<std::atomic<bool>> poisoned_;
};

/// A process as operators see it.
struct Process {
  Process(History& history, const std::string& url, std::uint32_t newer = 0, bool follows = true,
          const Clock& clock = system_clock(), std::set<std::string> odd = {"sessions"})
      : made(projections::make_read_models(options(url, newer, poisoned, std::move(odd)), history.log, history.keys, registry,
                                           clock)) {
    (*made)->start(follows);
  }
  static projections::PostgresOptions options(const std::string& url, std::uint32_t newer,
                                              const std::shared_ptr<std::atomic<bool>>& poisoned, std::set<std::string> odd) {
    auto options = options_for(url);
    if (std::getenv("ONBOARDING_TEST_LOG") != nullptr) options.logger = spdlog::default_logger();
    options.near_events = 100;  // what is further behind is filled by lanes
    options.parked_page = 3;
    options.projections = [newer, poisoned, odd = std::move(odd)] {
      auto all = projections::make_all_projections();
      for (auto& projection : all) {
        if (odd.contains(projection->name())) projection = std::make_unique<Odd>(std::move(projection), newer, poisoned);
      }
      return all;
    };
    return options;
  }

  result<projections::Outcome> act(projections::Action action) {
    action.actor = "the test";
    std::promise<result<projections::Outcome>> answer;
    (*made)->control().act(std::move(action), [&](result<projections::Outcome> got) { answer.set_value(std::move(got)); });
    return answer.get_future().get();
  }
  result<projections::Outcome> act(const std::string& projection, const std::string& verb, const std::string& swap = "if_equal") {
    projections::Action action;
    action.projection = projection;
    action.verb = verb;
    action.swap = swap;
    return act(std::move(action));
  }
  /// Page by page.
  std::vector<projections::ParkedRow> parked(const std::string& projection) {
    std::vector<projections::ParkedRow> all;
    for (std::string after;; after = all.back().key) {
      std::promise<result<std::vector<projections::ParkedRow>>> answer;
      (*made)->control().parked(projection, after, [&](auto got) { answer.set_value(std::move(got)); });
      const auto page = answer.get_future().get().value();
      if (page.empty()) return all;
      all.insert(all.end(), page.begin(), page.end());
    }
  }
  projections::ProjectionStatus status(const std::string& projection) {
    for (auto& status : (*made)->queries().projections()) {
      if (status.name == projection) return status;
    }
    ADD_FAILURE() << "no projection " << projection;
    return {};
  }
  bool caught_up() {
    return eventually([this] {
      const auto all = (*made)->queries().projections();
      return std::all_of(all.begin(), all.end(),
                         [](const auto& p) { return p.generation > 0 && p.lag_events == 0 && p.state == "running"; });
    });
  }
  bool is_live(const std::string& projection, std::uint32_t generation) {
    return eventually([&] { return status(projection).generation == generation; });
  }

  std::shared_ptr<std::atomic<bool>> poisoned = std::make_shared<std::atomic<bool>>(false);
  prometheus::Registry registry;
  result<std::unique_ptr<projections::ReadModels>> made;
};

inline std::string state_of(const Database& database, const std::string& projection, int generation) {
  return database.value(
      "SELECT coalesce(max(state || CASE phase WHEN '' THEN '' ELSE ' ' || phase END), 'none') FROM projection_generations "
      "WHERE projection = '" +
      projection + "' AND generation = " + std::to_string(generation));
}

/// Rows that one of the two tables has and the other has not.
inline std::string differing_rows(const Database& database, const std::string& one, const std::string& other) {
  return database.value("SELECT count(*) FROM ((TABLE " + one + " EXCEPT TABLE " + other + ") UNION ALL (TABLE " + other +
                        " EXCEPT TABLE " + one + ")) AS d");
}

}  // namespace onboarding::testing

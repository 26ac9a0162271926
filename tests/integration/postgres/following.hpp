// Read models that follow a history, and what their tables must hold then: a fold of the told events that shares no code
// with the projections.
#pragma once

#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include "events/clock.hpp"
#include "projections/core/runner.hpp"
#include "projections/models/models.hpp"
#include "projections/postgres/pool.hpp"
#include "projections/postgres/read_models.hpp"
#include "projections/postgres/writer.hpp"
#include "tests/integration/postgres/database.hpp"
#include "tests/integration/postgres/history.hpp"

namespace onboarding::testing {

using Lines = std::vector<std::string>;

/// Polls until it holds, at most 30 s.
template <class Condition>
bool eventually(Condition&& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (std::chrono::steady_clock::now() < deadline) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return holds();
}

inline projections::PostgresOptions options_for(const std::string& url) {
  projections::PostgresOptions options;
  options.url = url;
  return options;
}

/// Calls an asynchronous query and waits for its answer.
template <class T, class Call>
result<T> ask(Call&& call) {
  std::promise<result<T>> answer;
  call([&](result<T> got) { answer.set_value(std::move(got)); });
  return answer.get_future().get();
}

/// A whole set of read models, as the server has them.
struct Following {
  Following(History& history, const std::string& url) : Following(history, options_for(url)) {}
  Following(History& history, projections::PostgresOptions options)
      : made(projections::make_read_models(std::move(options), history.log, history.keys, registry, system_clock())),
        models(**made) {
    models.start();
  }
  bool lag_is_zero() {
    for (const auto& status : models.queries().projections()) {
      if (status.lag_events != 0 || status.state != "running") return false;
    }
    return true;
  }
  bool caught_up() {
    return eventually([this] { return lag_is_zero(); });
  }

  prometheus::Registry registry;
  result<std::unique_ptr<projections::ReadModels>> made;
  projections::ReadModels& models;
};

/// A runner without a thread and without leases: a test takes its steps.
struct Stepping {
  Stepping(History& history, const std::string& url, projections::RunnerOptions options = {},
           std::vector<std::unique_ptr<projections::Projection>> all = projections::make_all_projections())
      : owned(std::move(all)),
        progress(names(), history.log, system_clock(), nullptr),
        pool(*projections::connection_string(url), options_for(url), nullptr),
        books(pointers(), history.log.log_id(), history.log.partitions()),
        writer(pool, books, options_for(url),
               [] {
                 return projections::Assignment{0, 0, 1,
                                                [](const projections::GenerationRow& row) { return row.state != "replay"; }};
               }),
        runner(history.log, history.keys, writer, &progress, options, nullptr, nullptr) {}

  /// Steps until there is nothing left; how many steps failed on the way.
  int run_to_end() {
    int failures = 0;
    for (;;) {
      const auto step = runner.step();
      if (step.kind == projections::Runner::Step::Kind::idle) return failures;
      if (step.kind == projections::Runner::Step::Kind::failed && ++failures > 1000) {
        ADD_FAILURE() << "the runner does not get on: " << progress.status()[0].stalled_because;
        return failures;
      }
    }
  }
  std::vector<const projections::Projection*> pointers() const {
    std::vector<const projections::Projection*> all;
    for (const auto& projection : owned) all.push_back(projection.get());
    return all;
  }
  std::vector<projections::Progress::Name> names() const {
    std::vector<projections::Progress::Name> all;
    for (const auto& projection : owned) all.push_back({projection->name(), projection->version()});
    return all;
  }

  std::vector<std::unique_ptr<projections::Projection>> owned;
  projections::Progress progress;
  projections::Pool pool;
  projections::Generations books;
  projections::PostgresWriter writer;
  projections::Runner runner;
};

/// The read models' tables, as lines in order.
struct Tables {
  Lines users, profiles, sessions, analytics, messages, usage, outcomes;
  bool operator==(const Tables&) const = default;
};
Tables tables_of(const Database&);
Tables expected_tables(const History&);
void expect_equal(const Tables& actual, const Tables& expected);

}  // namespace onboarding::testing

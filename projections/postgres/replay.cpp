#include "projections/postgres/replay.hpp"

#include <algorithm>
#include <thread>

#include "projections/models/models.hpp"
#include "projections/postgres/coordinator.hpp"

namespace onboarding::projections {

namespace {

constexpr int most_failures = 5;

bool good_schema(const std::string& name) {
  return !name.empty() && name.size() <= 60 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos &&
         (name[0] < '0' || name[0] > '9') && name != "public" && name != "information_schema" && name.rfind("pg_", 0) != 0 &&
         name.rfind("projection_", 0) != 0;
}

/// The replay's generation: the one that was begun, or a new one.
result<GenerationRow> begin_replay(pqxx::connection& db, const Generations& books, const ReplayOptions& options) {
  pqxx::work transaction(db);
  transaction.exec_params("SELECT FROM projection_controls WHERE projection = $1 FOR UPDATE", options.projection);
  for (const GenerationRow& row : books.read(transaction)) {
    if (row.state != "replay" || row.schema != options.schema) continue;
    const auto tables = transaction.exec_params1("SELECT count(*) FROM pg_tables WHERE schemaname = $1", options.schema);
    if (tables[0].as<int>() == 0) {  // dropped by hand
      books.give_up(transaction, row, "its schema was dropped");
      continue;
    }
    if (row.projection != options.projection || row.until != options.until)
      return failure(Errc::not_possible, "the schema " + options.schema + " holds " + row.projection +
                                             " as of another time; name another schema, or drop this one");
    transaction.commit();
    return row;
  }
  if (transaction.exec_params1("SELECT count(*) FROM pg_namespace WHERE nspname = $1", options.schema)[0].as<int>() > 0)
    return failure(Errc::not_possible, "the schema " + options.schema + " exists already; name another one");
  auto made = books.begin(transaction, options.projection, "replay", "never", options.schema, options.until);
  transaction.commit();
  return made;
}

}  // namespace

result<Replayed> replay(const PostgresOptions& postgres, log::EventLog& log, privacy::KeyStore& keys,
                        const ReplayOptions& options) {
  if (!good_schema(options.schema))
    return failure(Errc::not_possible, "\"" + options.schema + "\" cannot be the name of a replay's schema");
  auto text = connection_string(postgres.url);
  if (!text) return tl::unexpected(text.error());
  const auto owned = make_all_projections();
  std::vector<const Projection*> projections;
  for (const auto& projection : owned) projections.push_back(projection.get());
  const Generations books(projections, log.log_id(), log.partitions());
  if (books.find(options.projection) == nullptr) {
    std::string names;
    for (const Projection* projection : projections) names += (names.empty() ? "" : ", ") + std::string(projection->name());
    return failure(Errc::not_found, "there is no projection " + options.projection + ", but " + names);
  }

  Pool pool(*text, postgres, nullptr);
  auto lease = pool.acquire();
  if (!lease) return tl::unexpected(lease.error());
  auto begun = books.prepare((*lease)->db).and_then([&]() -> result<GenerationRow> {
    auto made = guarded([&] { return begin_replay((*lease)->db, books, options); });
    return made ? std::move(*made) : result<GenerationRow>(tl::unexpected(made.error()));
  });
  if (!begun) return tl::unexpected(begun.error());

  PostgresWriter writer(pool, books, postgres, [&] {
    return Assignment{
        0, 0, 1, [&](const GenerationRow& row) { return row.projection == begun->projection && row.number == begun->number; }};
  });
  RunnerOptions filling = coordinator_options(postgres).filling;
  filling.until = options.until;
  Runner runner(log, keys, writer, nullptr, filling, postgres.logger.get(), nullptr);
  std::uint64_t of = 0;
  for (std::uint32_t partition = 0; partition < log.partitions(); ++partition) of += log.head(partition);
  Replayed replayed;
  std::vector<std::uint64_t> ends(log.partitions());
  const auto count = [&](bool idle) -> result<void> {
    auto counted = guarded([&] {
      pqxx::nontransaction session((*lease)->db);
      replayed.events = 0;
      auto missing = ends;
      for (const auto& row :
           session.exec_params("SELECT partition, sequence FROM projection_checkpoints WHERE projection = $1 AND generation = $2",
                               begun->projection, begun->number)) {
        const auto sequence = row[1].as<std::uint64_t>();
        auto& end = missing.at(row[0].as<std::size_t>());
        replayed.events += sequence;
        end -= std::min(end, sequence);
      }
      replayed.complete = idle || std::all_of(missing.begin(), missing.end(), [](std::uint64_t left) { return left == 0; });
      replayed.parked = session
                            .exec_params1("SELECT count(*) FROM projection_parked_keys WHERE projection = $1 AND generation = $2",
                                          begun->projection, begun->number)[0]
                            .as<std::uint64_t>();
    });
    return counted;
  };
  for (int failures = 0;;) {
    // What is appended meanwhile to partitions that were read already is no part of it, nor does it make up for one that was not.
    for (std::uint32_t partition = 0; partition < ends.size(); ++partition) ends[partition] = log.head(partition);
    const Runner::Step step = runner.step();
    if (step.kind == Runner::Step::Kind::failed || step.retry_after.count() > 0) {
      if (++failures == most_failures) return failure(Errc::unavailable, step.why);
      std::this_thread::sleep_for(step.retry_after);
      continue;
    }
    failures = 0;
    if (auto counted = count(step.kind == Runner::Step::Kind::idle); !counted) return tl::unexpected(counted.error());
    const bool goes_on = !options.progress || options.progress(replayed.events, std::max(of, replayed.events));
    if (!replayed.complete && goes_on) continue;
    auto told = guarded([&] {
      pqxx::work transaction((*lease)->db);
      transaction.exec_params0(
          "UPDATE projection_generations SET phase = $3, changed_at = now() WHERE projection = $1 AND "
          "generation = $2",
          begun->projection, begun->number, replayed.complete ? "" : "filling");
      transaction.commit();
    });
    return told ? result<Replayed>(replayed) : tl::unexpected(told.error());
  }
}

}  // namespace onboarding::projections

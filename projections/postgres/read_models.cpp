#include "projections/postgres/read_models.hpp"

#include "projections/models/models.hpp"
#include "projections/postgres/control.hpp"
#include "projections/postgres/coordinator.hpp"
#include "projections/postgres/queries.hpp"
#include "projections/postgres/replica.hpp"

namespace onboarding::projections {

namespace {

std::vector<const Projection*> pointers(const std::vector<std::unique_ptr<Projection>>& owned) {
  std::vector<const Projection*> all;
  for (const auto& projection : owned) all.push_back(projection.get());
  return all;
}

std::vector<Progress::Name> names(const std::vector<std::unique_ptr<Projection>>& owned) {
  std::vector<Progress::Name> all;
  for (const auto& projection : owned) all.push_back({projection->name(), projection->version()});
  return all;
}

class PostgresReadModels final : public ReadModels {
 public:
  PostgresReadModels(PostgresOptions options, std::string connection_string, std::string replica_string, log::EventLog& log,
                     privacy::KeyStore& keys, prometheus::Registry& registry, const Clock& clock)
      : options_(std::move(options)),
        projections_(options_.projections ? options_.projections() : make_all_projections()),
        progress_(names(projections_), log, clock, &registry),
        pool_(std::move(connection_string), options_, &registry),
        books_(pointers(projections_), log.log_id(), log.partitions()),
        queries_(pool_, progress_, options_, &registry),
        coordinator_(pool_, books_, log, keys, progress_, options_, coordinator_options(options_), &registry),
        control_(pool_, books_, log, keys, options_, [this] { coordinator_.look(); }) {
    if (!replica_string.empty())
      queries_.read_from(
          std::make_unique<Replica>(std::move(replica_string), pool_.connection_string(), options_, progress_, &registry));
  }

  ~PostgresReadModels() override {
    stop();
    progress_.stop();
  }

  Queries& queries() override { return queries_; }
  Control& control() override { return control_; }
  void start(bool follows) override { coordinator_.start(follows); }
  void stop() override { coordinator_.stop(); }

 private:
  const PostgresOptions options_;
  const std::vector<std::unique_ptr<Projection>> projections_;
  Progress progress_;
  Pool pool_;
  const Generations books_;
  PostgresQueries queries_;
  Coordinator coordinator_;
  PostgresControl control_;
};

}  // namespace

result<std::unique_ptr<ReadModels>> make_read_models(PostgresOptions options, log::EventLog& log, privacy::KeyStore& keys,
                                                     prometheus::Registry& registry, const Clock& clock) {
  auto text = connection_string(options.url);
  if (!text) return failure(Errc::unavailable, "postgres.url " + text.error().detail);
  auto replica = options.replica_url.empty() ? result<std::string>() : connection_string(options.replica_url);
  if (!replica) return failure(Errc::unavailable, "postgres.replica_url " + replica.error().detail);
  return std::make_unique<PostgresReadModels>(std::move(options), std::move(*text), std::move(*replica), log, keys, registry,
                                              clock);
}

}  // namespace onboarding::projections

// A person's erasure where no runner brings it in its turn: behind a parked key, in tables that nobody follows. Private to
// projections/postgres.
#pragma once

#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "events/log/event_log.hpp"
#include "projections/core/writer.hpp"
#include "projections/postgres/generations.hpp"

namespace spdlog {
class logger;
}

namespace onboarding::projections {

/// What the projection does at this UserErased, as statements on its tables in `schema` (quoted): rows that are there are deleted
/// or changed, none is made. `quoted` makes a literal of a text.
std::vector<std::string> erasure_statements(const Projection&, const std::string& schema, const codec::DecodedEvent&,
                                            const std::function<std::string(const std::string&)>& quoted);

/// Erases persons in the generations that nobody follows: replays, paused ones, those of another version. It looks for erasures in
/// the log itself: it needs no projection that goes on, and what keeps it from a table holds none up. Of one thread.
class Eraser {
 public:
  /// All but `logger`, which may be null, outlive it.
  Eraser(Pool&, const Generations&, log::EventLog&, privacy::KeyStore&, std::shared_ptr<spdlog::logger> logger);

  /// Carries out what the log tells of these partitions. A table that somebody holds is tried again by the next call; one that
  /// refuses for good (its owner is another one now) is not. Its generation's detail says so. Errors: PostgreSQL, the log or the
  /// keys cannot be reached; the next call goes on. Long only where much of the log is to be read; ends early once `stopped`.
  result<void> look(const std::set<std::uint32_t>& partitions, const std::function<bool()>& stopped);

 private:
  struct Where {
    std::string projection;
    std::uint32_t generation = 1, partition = 0;
    auto operator<=>(const Where&) const = default;
  };
  struct Tables {
    std::uint64_t read_to = 0, noted = 0;  // in the log; in the books
    std::vector<std::uint64_t> erasures;   // where their records begin that are to be carried out
    bool are_due() const;
  };

  void read_tables(pqxx::connection_base&, const std::set<std::uint32_t>& partitions);
  result<void> read_log(std::uint32_t partition, const std::function<bool()>& stopped);
  result<void> erase(pqxx::connection_base&, const Where&, Tables&);
  /// `refused`: why it would fail again and again; empty: somebody holds the tables.
  result<void> wait(pqxx::connection_base&, const Where&, Tables&, const std::string& refused);

  Pool& pool_;
  const Generations& books_;
  log::EventLog& log_;
  privacy::KeyStore& keys_;
  const std::shared_ptr<spdlog::logger> logger_;
  std::map<Where, Tables> tables_;  // that nobody follows
};

}  // namespace onboarding::projections

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
/// the log itself: it needs no projection that goes on, and what keeps it from a table holds nobody up. A person's key goes only
/// after the erasure is in the log: tables that move on before it (a replay under way, a projection that was resumed) may read the
/// person again, so once they stand still all erasures that are later than they are carried out anew. Of one thread.
class Eraser {
 public:
  /// All but `logger`, which may be null, outlive it.
  Eraser(Pool&, const Generations&, log::EventLog&, privacy::KeyStore&, std::shared_ptr<spdlog::logger> logger);

  /// Carries out what the log tells of these partitions, in tables that stand where they stood at the last call. A table that
  /// somebody holds is tried again by the next call; what is refused for good (its owner is another one now) at times. Its
  /// generation's detail says so. Errors: the first that kept it from something; everything else was done, and the next call goes
  /// on. Long only where much of the log is to be read; ends early once `stopped`.
  result<void> look(const std::set<std::uint32_t>& partitions, const std::function<bool()>& stopped);

 private:
  struct Where {
    std::string projection;
    std::uint32_t generation = 1, partition = 0;
    auto operator<=>(const Where&) const = default;
  };
  struct Tables {
    std::uint64_t sequence = 0, noted = 0;  // as the books have it: the checkpoint, and how far erasures are carried out at it
    std::uint64_t read_to = 0;              // in the log
    std::set<std::uint64_t> erasures;       // where their records begin that are to be carried out
    std::set<std::uint64_t> refused;        // and those that could not be
    int looks_until_again = 0;              // at the refused ones
    bool still = false;                     // it stands where it stood at the last look
    /// All before were carried out.
    std::uint64_t done_to() const;
    bool is_due() const;
  };

  void read_tables(pqxx::connection_base&, const std::set<std::uint32_t>& partitions);
  result<void> read_log(std::uint32_t partition, const std::function<bool()>& stopped);
  result<void> erase(pqxx::connection_base&, const Where&, Tables&, const std::function<bool()>& stopped);
  /// One transaction. True when there is more to do at once.
  result<bool> erase_some(pqxx::connection_base&, const Where&, Tables&);
  void tell_who_holds(pqxx::connection_base&, const Where&);

  Pool& pool_;
  const Generations& books_;
  log::EventLog& log_;
  privacy::KeyStore& keys_;
  const std::shared_ptr<spdlog::logger> logger_;
  std::map<Where, Tables> tables_;  // that nobody follows
};

}  // namespace onboarding::projections

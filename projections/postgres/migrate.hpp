// Brings a database to the schema of this program. Forward only; one runner at a time (advisory lock); each file in a
// transaction of its own, together with its line in `schema_migrations(number, name, checksum, applied_at)`.
#pragma once

#include <string>
#include <vector>

#include "events/domain/result.hpp"

namespace pqxx {
class connection_base;
}

namespace onboarding::projections {

struct Migration {
  std::string name;  // NNNN_verb_noun
  std::string sql;
};

/// migrations/*.sql as they were when the program was built, in order.
const std::vector<Migration>& embedded_migrations();

/// Applies what is missing; the number of files applied. Errc::bad_migration, before anything is changed, when a file that
/// was applied has been edited or is missing here, or when the numbers have a gap; and when a file fails, with its name and
/// SQLSTATE: the ones before it stay applied. A file that does not get a lock within half a second fails so (55P03), that nobody
/// waits behind it: call again. Errc::unavailable when the connection breaks.
result<std::size_t> migrate(pqxx::connection_base&, const std::vector<Migration>&);

}  // namespace onboarding::projections

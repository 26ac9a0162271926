// Old rows of read models, told to whoever keeps them and then deleted, in short transactions that stop nobody. They could be made
// again from the log, which keeps everything: what was archived is remembered, and left out of rebuilt tables.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "events/domain/personal.hpp"
#include "events/domain/result.hpp"

namespace onboarding::projections {

class Pool;
struct Table;

/// The tables that have a time and grow for ever.
const std::vector<std::string>& archivable_tables();

struct OldRows {
  std::uint64_t rows = 0;
  std::string oldest, newest;  // as PostgreSQL writes them; empty: there are none
};
/// Rows from before `before`. `table`: one of archivable_tables().
result<OldRows> count_old_rows(const std::string& url, const std::string& table, domain::Timestamp before);

struct ArchiveOptions {
  std::string table;  // one of archivable_tables()
  domain::Timestamp before;
  bool open = false;  // personal texts as they are; else they read "[sealed]": the log has them
  std::string actor;  // who, for projection_audit
};
/// Deletes them, 5,000 a transaction; each batch is first handed to `keep` as JSON objects, one a line, and deleted only when that
/// succeeded: a failure in between leaves rows that were kept and not yet deleted, never the other way round. Then they go from the
/// former generation's table, and one that is being built, too. The number of the live table's rows.
result<std::uint64_t> archive_old_rows(const std::string& url, const ArchiveOptions&,
                                       const std::function<result<void>(std::string_view lines)>& keep);

/// Deletes from the tables in `schema` what was archived of tables of their names, as archive_old_rows() does.
result<void> leave_archived(Pool&, const std::string& schema, const std::vector<Table>& tables);

}  // namespace onboarding::projections

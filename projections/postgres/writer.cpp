#include "projections/postgres/writer.hpp"

#include "events/fault_point.hpp"
#include "projections/postgres/arrays.hpp"
#include "projections/postgres/migrate.hpp"

namespace onboarding::projections {

namespace {

FaultPoint before_commit("projection.before_commit");
FaultPoint after_commit("projection.after_commit");

// The read models can be made again from the log, and rows and checkpoint are in one transaction: a crash of PostgreSQL
// that loses the last moments loses both, and the runner writes them again. Plans are fixed: every statement is an
// insertion from arrays, nothing is gained by planning it anew.
constexpr const char* session_settings = "SET synchronous_commit = off; SET jit = off; SET plan_cache_mode = force_generic_plan";

constexpr const char* move_statement = R"(
WITH moves AS (
  SELECT * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::bigint[], $6::bigint[], $7::text[])
           WITH ORDINALITY AS m (projection, version, partition, old_sequence, new_sequence, resume_token, n)
), locked AS MATERIALIZED (
  SELECT c.projection, c.version, c.partition, m.new_sequence, m.resume_token
    FROM moves m JOIN projection_checkpoints c
      ON c.log_id = $1 AND c.projection = m.projection AND c.version = m.version AND c.partition = m.partition
   WHERE c.sequence = m.old_sequence
   ORDER BY m.n FOR UPDATE OF c
)
UPDATE projection_checkpoints c SET sequence = l.new_sequence, resume_token = l.resume_token, updated_at = now()
  FROM locked l
 WHERE c.log_id = $1 AND c.projection = l.projection AND c.version = l.version AND c.partition = l.partition)";

constexpr const char* park_keys_statement = R"(
INSERT INTO projection_parked_keys (log_id, projection, version, partition, parked_key, sequence, error)
SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[], $7::text[]))";

constexpr const char* park_events_statement = R"(
INSERT INTO projection_parked_events (log_id, projection, version, partition, parked_key, sequence, stream)
SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[], $7::text[]))";

/// Another runner was faster; ends the transaction.
struct FencedOff {};

pqxx::binarystring parameter(ArrayParameter&& array) { return pqxx::binarystring(array.take()); }

std::string combined(const Table& table, const Column& column) {
  const std::string mine = table.name + "." + column.name, incoming = "EXCLUDED." + column.name;
  switch (column.combine) {
    case Combine::key:
    case Combine::replace: return incoming;
    case Combine::keep_first: return "COALESCE(" + mine + ", " + incoming + ")";
    case Combine::add: return mine + " + " + incoming;
    case Combine::add_until:
      return mine + " + CASE WHEN " + table.name + "." + table.columns[column.until].name + " IS NULL THEN " + incoming + " ELSE 0 END";
    case Combine::least: return "LEAST(" + mine + ", " + incoming + ")";
    case Combine::greatest: return "GREATEST(" + mine + ", " + incoming + ")";
    case Combine::merge: return "COALESCE(" + mine + ", '{}') || " + incoming;
  }
  return incoming;
}

}  // namespace

std::string upsert_statement(const Table& table, std::uint64_t mask) {
  std::string names, arrays, keys, sets;
  std::size_t parameters = 0;
  const auto list = [](std::string& to, const std::string& item) { to.append(to.empty() ? "" : ", ").append(item); };
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    if ((mask >> i & 1U) == 0) continue;
    const Column& column = table.columns[i];
    list(names, column.name);
    list(arrays, "$" + std::to_string(++parameters) + "::" + column.type + "[]");
    if (column.combine == Combine::key) {
      list(keys, column.name);
    } else {
      list(sets, column.name + " = " + combined(table, column));
    }
  }
  const bool ignore = table.written_once || sets.empty();
  return "INSERT INTO " + table.name + " (" + names + ") SELECT * FROM unnest(" + arrays + ") ON CONFLICT (" + keys + ") DO " +
         (ignore ? "NOTHING" : "UPDATE SET " + sets);
}

PostgresWriter::PostgresWriter(Pool& pool, std::vector<const Projection*> projections, const PostgresOptions& options)
    : pool_(pool), projections_(std::move(projections)), recycle_(options.recycle) {}

PostgresWriter::~PostgresWriter() {
  if (lease_) lease_->broken();  // its session's settings are not for others
}

result<Opened> PostgresWriter::open(const std::string& log_id, std::uint32_t partitions) {
  log_id_ = log_id;
  days_.clear();
  if (auto connected = connect(); !connected) return tl::unexpected(connected.error());
  if (auto migrated = migrate((*lease_)->db, embedded_migrations()); !migrated) return tl::unexpected(migrated.error());
  if (auto ours = own_database(log_id); !ours) return tl::unexpected(ours.error());
  return guarded([&] { return read_state(partitions); });
}

result<void> PostgresWriter::connect() {
  if (lease_) lease_->broken();  // its session's settings are not for others
  lease_.reset();
  auto lease = pool_.acquire();
  if (!lease) return tl::unexpected(lease.error());
  lease_.emplace(std::move(*lease));
  return guarded([&] { pqxx::nontransaction((*lease_)->db).exec(session_settings); });
}

result<void> PostgresWriter::own_database(const std::string& log_id) {
  auto owner = guarded([&] {
    pqxx::work transaction((*lease_)->db);
    transaction.exec_params0("INSERT INTO projection_log (log_id) VALUES ($1) ON CONFLICT DO NOTHING", log_id);
    auto id = transaction.exec1("SELECT log_id FROM projection_log")[0].as<std::string>();
    transaction.commit();
    return id;
  });
  if (!owner) return tl::unexpected(owner.error());
  if (*owner != log_id) return failure(Errc::foreign_log, "its log is " + *owner + ", ours is " + log_id);
  return {};
}

Opened PostgresWriter::read_state(std::uint32_t partitions) {
  pqxx::work transaction((*lease_)->db);
  Opened opened;
  for (const Projection* projection : projections_) {
    transaction.exec_params0(
        "INSERT INTO projection_checkpoints (log_id, projection, version, partition) "
        "SELECT $1, $2, $3, generate_series(0, $4::integer - 1) ON CONFLICT DO NOTHING",
        log_id_, projection->name(), projection->version(), partitions);
    auto& checkpoints = opened.checkpoints.emplace_back(partitions);
    for (const auto& row : transaction.exec_params("SELECT partition, sequence, resume_token FROM projection_checkpoints "
                                                   "WHERE log_id = $1 AND projection = $2 AND version = $3 AND partition < $4",
                                                   log_id_, projection->name(), projection->version(), partitions)) {
      checkpoints[row[0].as<std::uint32_t>()] = {row[1].as<std::uint64_t>(), row[2].as<std::string>()};
    }
    for (const auto& row : transaction.exec_params("SELECT partition, parked_key, sequence, error FROM projection_parked_keys "
                                                   "WHERE log_id = $1 AND projection = $2 AND version = $3",
                                                   log_id_, projection->name(), projection->version())) {
      opened.parked.push_back({opened.checkpoints.size() - 1, row[0].as<std::uint32_t>(), row[1].as<std::string>(),
                               row[2].as<std::uint64_t>(), row[3].as<std::string>()});
    }
  }
  transaction.commit();
  return opened;
}

result<void> PostgresWriter::write(const WriteBatch& batch) {
  if (!lease_) return failure(Errc::unavailable, "not open");
  if (std::chrono::steady_clock::now() - (*lease_)->born > recycle_) {
    if (auto connected = connect(); !connected) return connected;
  }
  bool fenced = false;
  auto written = guarded([&] {
    make_partitions(batch);
    pqxx::work transaction((*lease_)->db);
    try {
      write_in(transaction, batch);
    } catch (const FencedOff&) {
      fenced = true;
      return;
    }
    if (before_commit.hit()) throw pqxx::broken_connection("fault point");
    transaction.commit();
    if (after_commit.hit()) throw pqxx::broken_connection("fault point");
  });
  if (fenced) return failure(Errc::fenced);
  return written;
}

void PostgresWriter::write_in(pqxx::work& transaction, const WriteBatch& batch) {
  if (!move_checkpoints(transaction, batch.moves)) throw FencedOff{};
  for (const Fold* fold : batch.folds) {
    for (const FoldedTable& table : fold->tables()) {
      if (!table.empty()) write_table(transaction, table);
    }
  }
  if (!batch.parked_events.empty()) park(transaction, batch);
}

void PostgresWriter::execute(pqxx::work& transaction, const std::string& name, const std::string& sql, const Parameters& parameters,
                             pqxx::result* answer) {
  (*lease_)->prepare(name, sql);
  auto done = transaction.exec_prepared(name, pqxx::prepare::make_dynamic_params(parameters));
  if (answer != nullptr) *answer = std::move(done);
}

bool PostgresWriter::move_checkpoints(pqxx::work& transaction, const std::vector<Move>& moves) {
  ArrayParameter projections("text"), versions("integer"), partitions("integer"), from("bigint"), to("bigint"), tokens("text");
  for (const Move& move : moves) {
    projections.add(std::string_view(projections_[move.projection]->name()));
    versions.add(std::int64_t{projections_[move.projection]->version()});
    partitions.add(std::int64_t{move.partition});
    from.add(static_cast<std::int64_t>(move.from));
    to.add(static_cast<std::int64_t>(move.to));
    tokens.add(std::string_view(move.resume_token));
  }
  pqxx::result moved;
  execute(transaction, "move_checkpoints", move_statement,
          {pqxx::binarystring(log_id_), parameter(std::move(projections)), parameter(std::move(versions)), parameter(std::move(partitions)),
           parameter(std::move(from)), parameter(std::move(to)), parameter(std::move(tokens))},
          &moved);
  return moved.affected_rows() == moves.size();
}

void PostgresWriter::write_table(pqxx::work& transaction, const FoldedTable& folded) {
  const Table& table = folded.table();
  for (const Erase& erasure : folded.erasures()) erase(transaction, table, erasure);
  std::map<std::uint64_t, std::vector<const FoldedRow*>> by_mask;
  for (const FoldedRow& row : folded.rows()) {
    if (row.mask != 0) by_mask[row.mask].push_back(&row);
  }
  for (const auto& [mask, rows] : by_mask) {
    Parameters parameters;
    for (std::size_t column = 0; column < table.columns.size(); ++column) {
      if ((mask >> column & 1U) == 0) continue;
      ArrayParameter array(table.columns[column].type);
      for (const FoldedRow* row : rows) array.add(row->cells[column]);
      parameters.push_back(parameter(std::move(array)));
    }
    execute(transaction, table.name + "/" + std::to_string(mask), upsert_statement(table, mask), parameters);
  }
}

void PostgresWriter::erase(pqxx::work& transaction, const Table& table, const Erase& erasure) {
  std::string conditions, columns;
  Parameters parameters;
  for (const auto& [column, cell] : erasure.where) {
    ArrayParameter array(table.columns[column].type);
    array.add(cell);
    parameters.push_back(parameter(std::move(array)));
    conditions += (conditions.empty() ? "" : " AND ") + table.columns[column].name + " = ($" + std::to_string(parameters.size()) + "::" +
                  table.columns[column].type + "[])[1]";
    columns += "/" + table.columns[column].name;
  }
  execute(transaction, table.name + "/erase" + columns, "DELETE FROM " + table.name + " WHERE " + conditions, parameters);
}

void PostgresWriter::park(pqxx::work& transaction, const WriteBatch& batch) {
  const auto insert = [&](const std::string& name, const char* sql, const auto& rows, const auto& last_column) {
    ArrayParameter projections("text"), versions("integer"), partitions("integer"), keys("text"), sequences("bigint"), last("text");
    for (const auto& row : rows) {
      projections.add(std::string_view(projections_[row.projection]->name()));
      versions.add(std::int64_t{projections_[row.projection]->version()});
      partitions.add(std::int64_t{row.partition});
      keys.add(std::string_view(row.key));
      sequences.add(static_cast<std::int64_t>(row.sequence));
      last.add(std::string_view(last_column(row)));
    }
    execute(transaction, name, sql,
            {pqxx::binarystring(log_id_), parameter(std::move(projections)), parameter(std::move(versions)),
             parameter(std::move(partitions)), parameter(std::move(keys)), parameter(std::move(sequences)), parameter(std::move(last))});
  };
  insert("park_keys", park_keys_statement, batch.parked_keys, [](const ParkedKey& key) -> const std::string& { return key.error; });
  insert("park_events", park_events_statement, batch.parked_events,
         [](const ParkedEvent& event) -> const std::string& { return event.stream; });
}

void PostgresWriter::make_partitions(const WriteBatch& batch) {
  for (const Fold* fold : batch.folds) {
    for (const FoldedTable& folded : fold->tables()) {
      if (!folded.table().partitioned_by_day) continue;
      const std::string& name = folded.table().name;
      for (const FoldedRow& row : folded.rows()) {
        if (row.mask == 0) continue;
        const auto day = std::chrono::floor<std::chrono::days>(std::get<domain::Timestamp>(row.cells[0])).time_since_epoch().count();
        if (days_.contains({name, day})) continue;
        // Made apart and attached: creating it in place would lock out every reader of the table. The lock keeps two
        // runners from making the same one.
        pqxx::work transaction((*lease_)->db);
        const std::string from = "(date '1970-01-01' + " + std::to_string(day) + ")";
        const auto dates = transaction.exec1("SELECT to_char(" + from + ", 'YYYYMMDD'), " + from + ", " + from + " + 1");
        const std::string child = name + "_" + dates[0].as<std::string>();
        transaction.exec1("SELECT pg_advisory_xact_lock(hashtext('" + child + "'))");
        if (transaction.exec1("SELECT to_regclass('" + child + "') IS NULL")[0].as<bool>()) {
          transaction.exec("CREATE TABLE " + child + " (LIKE " + name + " INCLUDING ALL)");
          transaction.exec("ALTER TABLE " + name + " ATTACH PARTITION " + child + " FOR VALUES FROM ('" + dates[1].as<std::string>() +
                           "') TO ('" + dates[2].as<std::string>() + "')");
        }
        transaction.commit();
        days_.emplace(name, day);
      }
    }
  }
}

}  // namespace onboarding::projections

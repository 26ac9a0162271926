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
), moved AS (
  UPDATE projection_checkpoints c SET sequence = l.new_sequence, resume_token = l.resume_token, updated_at = now()
    FROM locked l
   WHERE c.log_id = $1 AND c.projection = l.projection AND c.version = l.version AND c.partition = l.partition
  RETURNING 1
)
SELECT projection_fence((SELECT count(*) FROM moved), cardinality($2::text[])))";

constexpr const char* park_keys_statement = R"(
INSERT INTO projection_parked_keys (log_id, projection, version, partition, parked_key, sequence, error)
SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[], $7::text[]))";

constexpr const char* park_events_statement = R"(
INSERT INTO projection_parked_events (log_id, projection, version, partition, parked_key, sequence, stream)
SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[], $7::text[]))";

std::string parameter(ArrayParameter&& array) { return array.take(); }

std::string combined(const Table& table, const Column& column) {
  const std::string mine = table.name + "." + column.name, incoming = "EXCLUDED." + column.name;
  switch (column.combine) {
    case Combine::key:
    case Combine::replace: return incoming;
    case Combine::keep_first: return "COALESCE(" + mine + ", " + incoming + ")";
    case Combine::add: return mine + " + " + incoming;
    case Combine::add_until:
      return mine + " + CASE WHEN " + table.name + "." + table.columns[column.until].name + " IS NULL THEN " + incoming +
             " ELSE 0 END";
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
  const std::string insert = "INSERT INTO " + table.name + " (" + names + ") SELECT * FROM unnest(" + arrays + ")";
  if (table.written_once) return insert;
  return insert + " ON CONFLICT (" + keys + ") DO " + (sets.empty() ? "NOTHING" : "UPDATE SET " + sets);
}

PostgresWriter::PostgresWriter(Pool& pool, std::vector<const Projection*> projections, const PostgresOptions& options)
    : pool_(pool), projections_(std::move(projections)), recycle_(options.recycle) {}

result<Opened> PostgresWriter::open(const std::string& log_id, std::uint32_t partitions) {
  log_id_ = log_id;
  days_.clear();
  auto lease = pool_.acquire();
  if (!lease) return tl::unexpected(lease.error());
  pqxx::connection& db = (*lease)->db;
  auto opened = migrate(db, embedded_migrations())
                    .and_then([&](std::size_t) { return own_database(db, log_id); })
                    .and_then([&] { return connect(); })
                    .and_then([&] { return guarded([&] { return read_state(db, partitions); }); });
  if (!opened) lease->broken();
  return opened;
}

result<void> PostgresWriter::connect() {
  pipeline_.reset();
  auto connected = Pipeline::connect(pool_.connection_string(), session_settings);
  if (!connected) return tl::unexpected(connected.error());
  pipeline_.emplace(std::move(*connected));
  return {};
}

result<void> PostgresWriter::own_database(pqxx::connection& db, const std::string& log_id) {
  auto owner = guarded([&] {
    pqxx::work transaction(db);
    transaction.exec_params0("INSERT INTO projection_log (log_id) VALUES ($1) ON CONFLICT DO NOTHING", log_id);
    auto id = transaction.exec1("SELECT log_id FROM projection_log")[0].as<std::string>();
    transaction.commit();
    return id;
  });
  if (!owner) return tl::unexpected(owner.error());
  if (*owner != log_id) return failure(Errc::foreign_log, "its log is " + *owner + ", ours is " + log_id);
  return {};
}

Opened PostgresWriter::read_state(pqxx::connection& db, std::uint32_t partitions) {
  pqxx::work transaction(db);
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

result<void> PostgresWriter::send(const WriteBatch& batch) {
  const bool renew = pipeline_ && std::chrono::steady_clock::now() - pipeline_->born() > recycle_;
  if (!pipeline_ || !pipeline_->usable() || renew) {
    if (auto connected = connect(); !connected) return connected;
  }
  if (auto made = make_partitions(batch); !made) return made;
  move_checkpoints(batch.moves);
  for (const Fold* fold : batch.folds) {
    for (const FoldedTable& table : fold->tables()) {
      if (!table.empty()) write_table(table);
    }
  }
  if (!batch.parked_events.empty()) park(batch);
  if (before_commit.hit()) {
    pipeline_.reset();
    return failure(Errc::unavailable, "fault point");
  }
  pipeline_->commit();
  return {};
}

result<void> PostgresWriter::finish() {
  auto written = pipeline_->finish();
  if (written && after_commit.hit()) {
    pipeline_.reset();
    return failure(Errc::unavailable, "fault point");
  }
  return written;
}

void PostgresWriter::move_checkpoints(const std::vector<Move>& moves) {
  ArrayParameter projections("text"), versions("integer"), partitions("integer"), from("bigint"), to("bigint"), tokens("text");
  for (const Move& move : moves) {
    projections.add(std::string_view(projections_[move.projection]->name()));
    versions.add(std::int64_t{projections_[move.projection]->version()});
    partitions.add(std::int64_t{move.partition});
    from.add(static_cast<std::int64_t>(move.from));
    to.add(static_cast<std::int64_t>(move.to));
    tokens.add(std::string_view(move.resume_token));
  }
  pipeline_->add("move_checkpoints", move_statement,
                 {log_id_, parameter(std::move(projections)), parameter(std::move(versions)), parameter(std::move(partitions)),
                  parameter(std::move(from)), parameter(std::move(to)), parameter(std::move(tokens))});
}

void PostgresWriter::write_table(const FoldedTable& folded) {
  const Table& table = folded.table();
  for (const Erase& erasure : folded.erasures()) erase(table, erasure);
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
    pipeline_->add(table.name + "/" + std::to_string(mask), upsert_statement(table, mask), parameters);
  }
}

void PostgresWriter::erase(const Table& table, const Erase& erasure) {
  std::string conditions, columns;
  Parameters parameters;
  for (const auto& [column, cell] : erasure.where) {
    ArrayParameter array(table.columns[column].type);
    array.add(cell);
    parameters.push_back(parameter(std::move(array)));
    conditions += (conditions.empty() ? "" : " AND ") + table.columns[column].name + " = ($" + std::to_string(parameters.size()) +
                  "::" + table.columns[column].type + "[])[1]";
    columns += "/" + table.columns[column].name;
  }
  pipeline_->add(table.name + "/erase" + columns, "DELETE FROM " + table.name + " WHERE " + conditions, parameters);
}

void PostgresWriter::park(const WriteBatch& batch) {
  const auto insert = [&](const std::string& name, const char* sql, const auto& rows, const auto& last_column) {
    ArrayParameter projections("text"), versions("integer"), partitions("integer"), keys("text"), sequences("bigint"),
        last("text");
    for (const auto& row : rows) {
      projections.add(std::string_view(projections_[row.projection]->name()));
      versions.add(std::int64_t{projections_[row.projection]->version()});
      partitions.add(std::int64_t{row.partition});
      keys.add(std::string_view(row.key));
      sequences.add(static_cast<std::int64_t>(row.sequence));
      last.add(std::string_view(last_column(row)));
    }
    pipeline_->add(name, sql,
                   {log_id_, parameter(std::move(projections)), parameter(std::move(versions)), parameter(std::move(partitions)),
                    parameter(std::move(keys)), parameter(std::move(sequences)), parameter(std::move(last))});
  };
  insert("park_keys", park_keys_statement, batch.parked_keys,
         [](const ParkedKey& key) -> const std::string& { return key.error; });
  insert("park_events", park_events_statement, batch.parked_events,
         [](const ParkedEvent& event) -> const std::string& { return event.stream; });
}

result<void> PostgresWriter::make_partitions(const WriteBatch& batch) {
  for (const Fold* fold : batch.folds) {
    for (const FoldedTable& folded : fold->tables()) {
      if (!folded.table().partitioned_by_day) continue;
      for (const FoldedRow& row : folded.rows()) {
        if (row.mask == 0) continue;
        const auto day =
            std::chrono::floor<std::chrono::days>(std::get<domain::Timestamp>(row.cells[0])).time_since_epoch().count();
        if (days_.contains({folded.table().name, day})) continue;
        if (auto made = make_partition(folded.table().name, day); !made) return made;
        days_.emplace(folded.table().name, day);
      }
    }
  }
  return {};
}

result<void> PostgresWriter::make_partition(const std::string& table, std::int64_t day) {
  auto lease = pool_.acquire();
  if (!lease) return tl::unexpected(lease.error());
  auto made = guarded([&] {
    // Made apart and attached: creating it in place would lock out every reader of the table. The lock keeps two
    // runners from making the same one.
    pqxx::work transaction((*lease)->db);
    const std::string from = "(date '1970-01-01' + " + std::to_string(day) + ")";
    const auto dates = transaction.exec1("SELECT to_char(" + from + ", 'YYYYMMDD'), " + from + ", " + from + " + 1");
    const std::string child = table + "_" + dates[0].as<std::string>();
    transaction.exec1("SELECT pg_advisory_xact_lock(hashtext('" + child + "'))");
    if (transaction.exec1("SELECT to_regclass('" + child + "') IS NULL")[0].as<bool>()) {
      transaction.exec("CREATE TABLE " + child + " (LIKE " + table + " INCLUDING ALL)");
      transaction.exec("ALTER TABLE " + table + " ATTACH PARTITION " + child + " FOR VALUES FROM ('" +
                       dates[1].as<std::string>() + "') TO ('" + dates[2].as<std::string>() + "')");
    }
    transaction.commit();
  });
  if (!made) lease->broken();
  return made;
}

}  // namespace onboarding::projections

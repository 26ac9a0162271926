#include "projections/postgres/writer.hpp"

#include <algorithm>

#include "events/fault_point.hpp"
#include "projections/postgres/arrays.hpp"
#include "projections/postgres/erasure.hpp"

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
  SELECT * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[])
           WITH ORDINALITY AS m (projection, generation, partition, old_sequence, fence, new_sequence, resume_token, n)
), locked AS MATERIALIZED (
  SELECT c.projection, c.generation, c.partition, m.new_sequence, m.resume_token
    FROM moves m JOIN projection_checkpoints c
      ON c.log_id = $1 AND c.projection = m.projection AND c.generation = m.generation AND c.partition = m.partition
   WHERE c.sequence = m.old_sequence AND c.fence = m.fence
   ORDER BY m.n FOR UPDATE OF c
), moved AS (
  UPDATE projection_checkpoints c SET sequence = l.new_sequence, resume_token = l.resume_token, updated_at = now()
    FROM locked l
   WHERE c.log_id = $1 AND c.projection = l.projection AND c.generation = l.generation AND c.partition = l.partition
  RETURNING 1
)
SELECT projection_fence((SELECT count(*) FROM moved), cardinality($2::text[])))";

constexpr const char* park_keys_statement = R"(
INSERT INTO projection_parked_keys (log_id, projection, generation, partition, parked_key, sequence, error)
SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[], $7::text[]))";

constexpr const char* park_events_statement = R"(
INSERT INTO projection_parked_events (log_id, projection, generation, partition, parked_key, sequence, stream)
SELECT $1, * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[], $7::text[]))";

// Of a parked key that is retried: $1 log, $2 projection, $3 generation, $4 partition, $5 key.
#define OF_PARTITION "log_id = $1 AND projection = $2 AND partition = ($4::integer[])[1]"
#define OF_KEY OF_PARTITION " AND generation = ($3::integer[])[1] AND parked_key = $5"
// A swap since we looked would send rows into the tables of another generation.
constexpr const char* revise_statement =
    "WITH revised AS (UPDATE projection_controls SET revision = revision + 1 WHERE projection = $1 AND revision = "
    "($2::bigint[])[1] RETURNING 1) SELECT projection_fence((SELECT count(*) FROM revised), 1)";
constexpr const char* lock_statement =
    "SELECT FROM projection_checkpoints WHERE log_id = $1 AND projection = $2 AND partition = ($3::integer[])[1] ORDER BY "
    "generation "
    "FOR UPDATE";
constexpr const char* raise_statement =
    "UPDATE projection_checkpoints SET fence = fence + 1 WHERE log_id = $1 AND projection = $2 AND partition = "
    "($3::integer[])[1]";
constexpr const char* as_seen_statement =
    "SELECT projection_fence((SELECT count(*) FROM projection_parked_keys WHERE " OF_KEY
    " AND sequence = ($6::bigint[])[1] AND NOT "
    "EXISTS (SELECT FROM projection_parked_events WHERE " OF_KEY " AND sequence > ($7::bigint[])[1])), 1)";
constexpr const char* skip_statement =
    "INSERT INTO projection_skipped_events (projection, partition, sequence) VALUES ($1, ($2::integer[])[1], ($3::bigint[])[1]) "
    "ON CONFLICT DO NOTHING";
constexpr const char* release_statement =
    "DELETE FROM projection_parked_events WHERE " OF_KEY " AND sequence <= ($6::bigint[])[1]";
constexpr const char* still_parked_statement =
    "UPDATE projection_parked_keys k SET error = $6, parked_at = now(), sequence = coalesce((SELECT min(e.sequence) "
    "FROM projection_parked_events e WHERE " OF_KEY "), k.sequence) WHERE " OF_KEY;
constexpr const char* unpark_statement =
    "DELETE FROM projection_parked_keys WHERE " OF_KEY " AND NOT EXISTS (SELECT FROM projection_parked_events WHERE " OF_KEY ")";
constexpr const char* audit_statement =
    "INSERT INTO projection_audit (projection, version, action, actor, reason, detail) "
    "SELECT $2, ($6::integer[])[1], $7, $8, $9, $10::text::jsonb || jsonb_strip_nulls(jsonb_build_object('still_parked', k.at IS "
    "NOT "
    "NULL, 'now_at', ($4::integer[])[1]::text || ':' || k.at)) "
    "FROM (SELECT min(sequence) AS at FROM projection_parked_keys WHERE " OF_KEY ") k";
#undef OF_KEY
#undef OF_PARTITION

std::string parameter(ArrayParameter&& array) { return array.take(); }

/// Its rows are sums over many people: runners of different partitions meet in them.
bool only_adds(const Table& table) {
  return std::all_of(table.columns.begin(), table.columns.end(),
                     [](const Column& column) { return column.combine == Combine::key || column.combine == Combine::add; });
}

}  // namespace

std::string combined(const Table& table, const Column& column, const std::string& incoming) {
  const std::string mine = table.name + "." + column.name;
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

std::string upsert_statement(const Table& table, const std::string& schema, std::uint64_t mask) {
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
      list(sets, column.name + " = " + combined(table, column, "EXCLUDED." + column.name));
    }
  }
  const std::string insert = "INSERT INTO " + schema + "." + table.name + " (" + names + ") SELECT * FROM unnest(" + arrays + ")";
  if (table.written_once) return insert;
  return insert + " ON CONFLICT (" + keys + ") DO " + (sets.empty() ? "NOTHING" : "UPDATE SET " + sets);
}

PostgresWriter::PostgresWriter(Pool& pool, const Generations& books, const PostgresOptions& options,
                               std::function<Assignment()> assignment)
    : pool_(pool), books_(books), recycle_(options.recycle), assignment_(std::move(assignment)) {}

result<Opened> PostgresWriter::open() {
  days_.clear();
  auto lease = pool_.acquire();
  if (!lease) return tl::unexpected(lease.error());
  pqxx::connection& db = (*lease)->db;
  auto opened =
      books_.prepare(db).and_then([&] { return connect(); }).and_then([&] { return guarded([&] { return read_state(db); }); });
  if (!opened) lease->broken();
  return opened;
}

result<void> PostgresWriter::connect() {
  pipeline_.reset();
  const std::int32_t worker = assignment_().worker;
  std::string settings = session_settings;
  if (worker != 0)
    settings += "; DO $$ BEGIN PERFORM pg_advisory_lock_shared(" + std::to_string(writer_class) + ", " + std::to_string(worker) +
                "); END $$";
  auto connected = Pipeline::connect(pool_.connection_string(), settings.c_str());
  if (!connected) return tl::unexpected(connected.error());
  pipeline_.emplace(std::move(*connected));
  return {};
}

// One snapshot: whoever takes a partition over raises its fences in the same transaction.
Opened PostgresWriter::read_state(pqxx::connection& db) {
  const Assignment assignment = assignment_();
  pqxx::transaction<pqxx::repeatable_read, pqxx::readwrite_policy::read_only> snapshot(db);
  Opened opened;
  if (assignment.worker == 0) {
    for (std::uint32_t partition = 0; partition < books_.partitions(); ++partition) opened.partitions.push_back(partition);
  } else {
    for (const auto& row : snapshot.exec_params("SELECT partition FROM projection_leases WHERE worker = $1 AND partition < $2 "
                                                "ORDER BY partition",
                                                assignment.worker, books_.partitions())) {
      opened.partitions.push_back(row[0].as<std::uint32_t>());
    }
  }
  std::erase_if(opened.partitions, [&, n = 0U](std::uint32_t) mutable { return n++ % assignment.lanes != assignment.lane; });

  const auto controls = books_.controls(snapshot);
  for (const auto& [projection, control] : controls) revisions_[projection] = control.revision;
  for (const GenerationRow& row : books_.read(snapshot)) {
    const Projection* projection = books_.find(row.projection);
    const bool replays = row.state == "replay" && projection != nullptr && projection->version() == row.version;
    if (!assignment.takes(row) || (!replays && !books_.is_followed(row, controls))) continue;
    const auto& all = books_.projections();
    const auto index = static_cast<std::size_t>(std::find(all.begin(), all.end(), projection) - all.begin());
    opened.generations.push_back({projection, index, row.number, row.state == "live", snapshot.quote_name(row.at())});
  }
  for (std::size_t i = 0; i < opened.generations.size(); ++i) {
    const Generation& generation = opened.generations[i];
    auto& checkpoints = opened.checkpoints.emplace_back(books_.partitions());
    for (const auto& row :
         snapshot.exec_params("SELECT partition, sequence, resume_token, fence FROM projection_checkpoints "
                              "WHERE log_id = $1 AND projection = $2 AND generation = $3 AND partition < $4",
                              books_.log_id(), generation.projection->name(), generation.number, books_.partitions())) {
      checkpoints[row[0].as<std::uint32_t>()] = {row[1].as<std::uint64_t>(), row[2].as<std::string>(),
                                                 row[3].as<std::uint64_t>()};
    }
    for (const auto& row : snapshot.exec_params("SELECT partition, parked_key, sequence, error FROM projection_parked_keys "
                                                "WHERE log_id = $1 AND projection = $2 AND generation = $3",
                                                books_.log_id(), generation.projection->name(), generation.number)) {
      opened.parked.push_back(
          {i, row[0].as<std::uint32_t>(), row[1].as<std::string>(), row[2].as<std::uint64_t>(), row[3].as<std::string>()});
    }
    for (const auto& row : snapshot.exec_params("SELECT partition, sequence FROM projection_skipped_events WHERE projection = $1",
                                                generation.projection->name())) {
      opened.skipped.push_back({generation.index, {row[0].as<std::uint32_t>(), row[1].as<std::uint64_t>()}});
    }
  }
  generations_ = opened.generations;
  return opened;
}

result<void> PostgresWriter::send(const WriteBatch& batch) {
  const bool renew = pipeline_ && std::chrono::steady_clock::now() - pipeline_->born() > recycle_;
  if (!pipeline_ || !pipeline_->usable() || renew) {
    if (auto connected = connect(); !connected) return connected;
  }
  if (auto made = make_partitions(batch); !made) return made;
  if (!batch.moves.empty()) move_checkpoints(batch.moves);
  for (const Retried& retried : batch.retried) begin_retried(retried);
  // Rows that other partitions' runners change, too, come last: whoever waits for them waits for a moment.
  for (const bool shared : {false, true}) {
    for (std::size_t generation = 0; generation < batch.folds.size(); ++generation) {
      for (const FoldedTable& table : batch.folds[generation]->tables()) {
        if (!table.empty() && only_adds(table.table()) == shared) write_table(table, generations_[generation].schema);
      }
    }
  }
  for (const Erasure& erasure : batch.erasures) {
    const Generation& generation = generations_[erasure.generation];
    for (const std::string& statement : erasure_statements(*generation.projection, generation.schema, *erasure.event,
                                                           [&](const std::string& text) { return pipeline_->quoted(text); }))
      pipeline_->run(statement);
  }
  if (!batch.parked_events.empty()) park(batch);
  for (const Retried& retried : batch.retried) end_retried(retried);
  if (before_commit.hit()) {
    pipeline_.reset();
    return failure(Errc::unavailable, "fault point");
  }
  pipeline_->commit();
  return {};
}

result<void> PostgresWriter::finish() {
  auto written = pipeline_->finish();
  if (written && !retries_.empty()) ++revisions_[retries_];
  retries_.clear();
  if (written && after_commit.hit()) {
    pipeline_.reset();
    return failure(Errc::unavailable, "fault point");
  }
  return written;
}

void PostgresWriter::move_checkpoints(const std::vector<Move>& moves) {
  ArrayParameter projections("text"), numbers("integer"), partitions("integer"), from("bigint"), fences("bigint"), to("bigint"),
      tokens("text");
  for (const Move& move : moves) {
    const Generation& generation = generations_[move.generation];
    projections.add(std::string_view(generation.projection->name()));
    numbers.add(std::int64_t{generation.number});
    partitions.add(std::int64_t{move.partition});
    from.add(static_cast<std::int64_t>(move.from));
    fences.add(static_cast<std::int64_t>(move.fence));
    to.add(static_cast<std::int64_t>(move.to));
    tokens.add(std::string_view(move.resume_token));
  }
  pipeline_->add(
      "move_checkpoints", move_statement,
      {books_.log_id(), parameter(std::move(projections)), parameter(std::move(numbers)), parameter(std::move(partitions)),
       parameter(std::move(from)), parameter(std::move(fences)), parameter(std::move(to)), parameter(std::move(tokens))});
}

void PostgresWriter::write_table(const FoldedTable& folded, const std::string& schema) {
  static const Cell zero = std::int64_t{0};
  const Table& table = folded.table();
  for (const Erase& erasure : folded.erasures()) erase(table, schema, erasure);
  std::map<std::uint64_t, std::vector<const FoldedRow*>> by_mask;
  const bool adds = only_adds(table);
  const std::uint64_t all = (std::uint64_t{2} << (table.columns.size() - 1)) - 1;
  for (const FoldedRow& row : folded.rows()) {
    if (row.mask != 0) by_mask[adds ? all : row.mask].push_back(&row);
  }
  for (auto& [mask, rows] : by_mask) {
    if (adds) {  // runners of other partitions change the same rows: all in one order
      std::sort(rows.begin(), rows.end(), [](const FoldedRow* a, const FoldedRow* b) { return a->cells < b->cells; });
    }
    Parameters parameters;
    for (std::size_t column = 0; column < table.columns.size(); ++column) {
      if ((mask >> column & 1U) == 0) continue;
      ArrayParameter array(table.columns[column].type);
      for (const FoldedRow* row : rows) array.add(row->has(column) ? row->cells[column] : zero);
      parameters.push_back(parameter(std::move(array)));
    }
    pipeline_->add(schema + "." + table.name + "/" + std::to_string(mask), upsert_statement(table, schema, mask), parameters);
  }
}

void PostgresWriter::erase(const Table& table, const std::string& schema, const Erase& erasure) {
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
  pipeline_->add(schema + "." + table.name + "/erase" + columns,
                 "DELETE FROM " + schema + "." + table.name + " WHERE " + conditions, parameters);
}

void PostgresWriter::begin_retried(const Retried& retried) {
  const std::string& projection = generations_[retried.key.generation].projection->name();
  const auto integer = [](std::uint64_t value, const char* type) {
    ArrayParameter array(type);
    array.add(static_cast<std::int64_t>(value));
    return array.take();
  };
  const std::string partition = integer(retried.key.partition, "integer"), sequence = integer(retried.key.sequence, "bigint");
  retries_ = projection;
  pipeline_->add("retry_revise", revise_statement,
                 {projection, integer(revisions_[projection], "bigint")});  // before the checkpoints, as every change does
  pipeline_->add("retry_lock", lock_statement, {books_.log_id(), projection, partition});
  pipeline_->add("retry_raise", raise_statement, {books_.log_id(), projection, partition});
  pipeline_->add("retry_as_seen", as_seen_statement,
                 {books_.log_id(), projection, integer(generations_[retried.key.generation].number, "integer"), partition,
                  retried.key.key, sequence, integer(retried.last_waiting, "bigint")});
  if (retried.skips_first) pipeline_->add("retry_skip", skip_statement, {projection, partition, sequence});
}

void PostgresWriter::end_retried(const Retried& retried) {
  const Generation& generation = generations_[retried.key.generation];
  ArrayParameter number("integer"), partition("integer"), up_to("bigint");
  number.add(std::int64_t{generation.number});
  partition.add(std::int64_t{retried.key.partition});
  up_to.add(static_cast<std::int64_t>(retried.up_to));
  Parameters of_key = {books_.log_id(), generation.projection->name(), number.take(), partition.take(), retried.key.key};
  Parameters released = of_key, still = of_key, audit = of_key;
  released.push_back(up_to.take());
  still.push_back(retried.error);
  pipeline_->add("retry_release", release_statement, released);
  pipeline_->add("retry_still", still_parked_statement, still);
  pipeline_->add("retry_unpark", unpark_statement, of_key);
  ArrayParameter version("integer");
  version.add(std::int64_t{generation.projection->version()});
  const Audit& by = retried.audit;
  for (const std::string& value : {version.take(), by.action, by.actor, by.reason, by.detail}) audit.push_back(value);
  pipeline_->add("retry_audit", audit_statement, audit);
}

void PostgresWriter::park(const WriteBatch& batch) {
  const auto insert = [&](const std::string& name, const char* sql, const auto& rows, const auto& last_column) {
    ArrayParameter projections("text"), numbers("integer"), partitions("integer"), keys("text"), sequences("bigint"),
        last("text");
    for (const auto& row : rows) {
      projections.add(std::string_view(generations_[row.generation].projection->name()));
      numbers.add(std::int64_t{generations_[row.generation].number});
      partitions.add(std::int64_t{row.partition});
      keys.add(std::string_view(row.key));
      sequences.add(static_cast<std::int64_t>(row.sequence));
      last.add(std::string_view(last_column(row)));
    }
    pipeline_->add(
        name, sql,
        {books_.log_id(), parameter(std::move(projections)), parameter(std::move(numbers)), parameter(std::move(partitions)),
         parameter(std::move(keys)), parameter(std::move(sequences)), parameter(std::move(last))});
  };
  insert("park_keys", park_keys_statement, batch.parked_keys,
         [](const ParkedKey& key) -> const std::string& { return key.error; });
  insert("park_events", park_events_statement, batch.parked_events,
         [](const ParkedEvent& event) -> const std::string& { return event.stream; });
}

result<void> PostgresWriter::make_partitions(const WriteBatch& batch) {
  for (std::size_t generation = 0; generation < batch.folds.size(); ++generation) {
    const std::string& schema = generations_[generation].schema;
    for (const FoldedTable& folded : batch.folds[generation]->tables()) {
      if (!folded.table().partitioned_by_day) continue;
      for (const FoldedRow& row : folded.rows()) {
        if (row.mask == 0) continue;
        const auto day =
            std::chrono::floor<std::chrono::days>(std::get<domain::Timestamp>(row.cells[0])).time_since_epoch().count();
        const std::string name = schema + "." + folded.table().name;
        if (days_.contains({name, day})) continue;
        if (auto made = make_partition(schema, folded.table().name, day); !made) return made;
        days_.emplace(name, day);
      }
    }
  }
  return {};
}

result<void> PostgresWriter::make_partition(const std::string& schema, const std::string& table, std::int64_t day) {
  auto lease = pool_.acquire();
  if (!lease) return tl::unexpected(lease.error());
  auto made = guarded([&] {
    // Made apart and attached: creating it in place would lock out every reader of the table. The lock keeps two
    // runners from making the same one.
    pqxx::work transaction((*lease)->db);
    const std::string from = "(date '1970-01-01' + " + std::to_string(day) + ")";
    const auto dates = transaction.exec1("SELECT to_char(" + from + ", 'YYYYMMDD'), " + from + ", " + from + " + 1");
    const std::string parent = schema + "." + table, child = parent + "_" + dates[0].as<std::string>();
    transaction.exec1("SELECT pg_advisory_xact_lock(hashtext('" + child + "'))");
    if (transaction.exec1("SELECT to_regclass('" + child + "') IS NULL")[0].as<bool>()) {
      transaction.exec("CREATE TABLE " + child + " (LIKE " + parent + " INCLUDING ALL)");
      transaction.exec("ALTER TABLE " + parent + " ATTACH PARTITION " + child + " FOR VALUES FROM ('" +
                       dates[1].as<std::string>() + "') TO ('" + dates[2].as<std::string>() + "')");
    }
    transaction.commit();
  });
  if (!made) lease->broken();
  return made;
}

}  // namespace onboarding::projections

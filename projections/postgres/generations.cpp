#include "projections/postgres/generations.hpp"

#include <algorithm>
#include <iterator>
#include <set>
#include <sstream>
#include <thread>

#include "events/codec/json.hpp"
#include "events/fault_point.hpp"
#include "projections/postgres/migrate.hpp"

namespace onboarding::projections {

namespace {

FaultPoint before_change("projection.before_change");
FaultPoint after_change("projection.after_change");
FaultPoint in_swap("projection.in_swap");

// Checkpoints are held for a batch's time, and no reader waits for them.
constexpr const char* patience = "SET LOCAL lock_timeout = '2s'";
// Who waits for a table makes every reader behind it wait, too: not long, but again and again.
constexpr const char* short_patience = "SET LOCAL lock_timeout = '20ms'";
constexpr int most_tries = 60;
constexpr std::chrono::milliseconds between_tries{150};
constexpr std::size_t shown_differences = 10;
constexpr const char* lock_generations = "LOCK TABLE projection_generations IN SHARE ROW EXCLUSIVE MODE";

// A format, and the values of pg_stat_activity `a` for it. Whose they are is seen by everybody; since when, by superusers and the
// same role.
constexpr const char* holder = "%s of %s (pid %s%s)'";
constexpr const char* holder_values =
    "coalesce(nullif(a.application_name, ''), 'a program'), coalesce(a.usename, 'somebody'), a.pid, "
    "coalesce(to_char(a.xact_start AT "
    "TIME ZONE 'UTC', '\", since\" YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '')";

std::string joined(const std::vector<std::string>& items, const char* separator = ", ") {
  std::string all;
  for (const std::string& item : items) all.append(all.empty() ? "" : separator).append(item);
  return all;
}

/// Whoever may do something with one table may do the same with the other, and nobody else.
void copy_grants(pqxx::transaction_base& transaction, const std::string& from, const std::string& to) {
  const auto grants_of = [&](const std::string& table) {
    return transaction.exec_params(
        "SELECT privilege, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, grantable FROM ("
        "SELECT relowner, privilege_type, grantee, is_grantable FROM pg_class, aclexplode(relacl) WHERE oid = $1::regclass UNION "
        "ALL SELECT relowner, privilege_type || ' (' || quote_ident(attname) || ')', grantee, is_grantable FROM pg_class c JOIN "
        "pg_attribute ON attrelid = c.oid, aclexplode(attacl) WHERE c.oid = $1::regclass) AS g (owner, privilege, grantee, "
        "grantable) WHERE grantee <> owner",
        table);
  };
  for (const auto& row : grants_of(to))
    transaction.exec("REVOKE " + row[0].as<std::string>() + " ON " + to + " FROM " + row[1].as<std::string>() + " CASCADE");
  for (const auto& row : grants_of(from))
    transaction.exec("GRANT " + row[0].as<std::string>() + " ON " + to + " TO " + row[1].as<std::string>() +
                     (row[2].as<bool>() ? " WITH GRANT OPTION" : ""));
}

/// What goes with a table's name when another table takes it: comments, policies, triggers. `gone` is carried out on the table that
/// leaves, lest it still refuses or triggers something; `made` on the one that has the name then.
struct Attached {
  std::vector<std::string> gone, made;
};
Attached attached_to(pqxx::transaction_base& transaction, const std::string& tables, const std::string& incoming_schema) {
  // Partitions, too: each has what is its own. The search path is pg_catalog: all names are whole.
  const std::string of_tables =
      "WITH t AS (SELECT c.oid, i.oid AS other, format('%I.%I', n.nspname, c.relname) AS name, c.relrowsecurity, "
      "c.relforcerowsecurity, i.relrowsecurity OR i.relforcerowsecurity AS other_secured FROM pg_class c JOIN pg_namespace n ON "
      "n.oid = c.relnamespace JOIN pg_class i ON i.relname = c.relname JOIN pg_namespace s ON s.oid = i.relnamespace AND "
      "s.nspname "
      "= " +
      transaction.quote(incoming_schema) + " WHERE c.oid IN (" + tables +
      ") OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent IN (" + tables + "))) ";
  Attached attached;
  const auto add = [&](const char* gone_and_made) {
    for (const auto& row : transaction.exec(of_tables + gone_and_made)) {
      if (!row[0].is_null()) attached.gone.push_back(row[0].as<std::string>());
      if (!row[1].is_null()) attached.made.push_back(row[1].as<std::string>());
    }
  };
  // Only what differs: readers wait, and there may be a partition for each day.
  add("SELECT NULL, format('COMMENT ON TABLE %s IS %L', name, obj_description(t.oid, 'pg_class')) FROM t WHERE "
      "obj_description(t.oid, 'pg_class') IS DISTINCT FROM obj_description(other, 'pg_class') UNION ALL SELECT NULL, "
      "format('COMMENT ON COLUMN %s.%I IS %L', name, a.attname, col_description(t.oid, a.attnum)) FROM t JOIN pg_attribute a ON "
      "a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_attribute o ON o.attrelid = other AND o.attname = "
      "a.attname WHERE EXISTS (SELECT FROM pg_description WHERE objoid IN (t.oid, other) AND classoid = 'pg_class'::regclass AND "
      "objsubid > 0) AND col_description(t.oid, a.attnum) IS DISTINCT FROM col_description(other, o.attnum)");
  add("SELECT CASE WHEN relforcerowsecurity THEN format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', name) END, format('ALTER "
      "TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', name, CASE WHEN relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END, "
      "CASE WHEN relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END) FROM t WHERE relrowsecurity OR relforcerowsecurity OR "
      "other_secured");
  add("SELECT format('DROP POLICY %I ON %s', polname, name), format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', polname, name, "
      "CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN "
      "'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END, (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' "
      "ELSE quote_ident(pg_get_userbyid(role)) END, ', ') FROM unnest(polroles) AS role)) || coalesce(' USING (' || "
      "pg_get_expr(polqual, polrelid) || ')', '') || coalesce(' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')', '') "
      "FROM t JOIN pg_policy ON polrelid = t.oid");
  add("SELECT format('DROP TRIGGER %I ON %s', tgname, name), pg_get_triggerdef(g.oid) || CASE tgenabled WHEN 'O' THEN '' ELSE "
      "format('; ALTER TABLE %s %s TRIGGER %I', name, CASE tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE "
      "'ENABLE ALWAYS' END, tgname) END FROM t JOIN pg_trigger g ON tgrelid = t.oid AND NOT tgisinternal AND tgparentid = 0");
  return attached;
}

/// What depends on the tables themselves, not on their names, and cannot be taken along: a sentence that names it all; empty: nothing.
std::string bound_to(pqxx::transaction_base& transaction, const std::string& tables, const std::string& incoming_schema) {
  const std::string ours = "(" + tables + ")", of_table = "d.refclassid = 'pg_class'::regclass AND d.refobjid IN " + ours,
                    of_row =
                        "d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT unnest(ARRAY[t.oid, t.typarray]) FROM "
                        "pg_type t WHERE t.typrelid IN " +
                        ours + ")";
  const auto named = [&](const std::string& query) {
    std::vector<std::string> all;
    for (const auto& row : transaction.exec(query)) all.push_back(row[0].as<std::string>());
    return joined(all);
  };
  std::string why;
  if (const auto stay = named(
          "SELECT 'materialized view ' || v.oid::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN "
          "pg_class v ON v.oid = r.ev_class AND v.relkind = 'm' WHERE d.classid = 'pg_rewrite'::regclass AND " +
          of_table +
          " UNION SELECT 'rule ' || quote_ident(rulename) || ' of ' || ev_class::regclass::text FROM pg_rewrite WHERE "
          "ev_class IN " +
          ours +
          " UNION SELECT 'foreign key ' || quote_ident(conname) || ' of ' || conrelid::regclass::text FROM pg_constraint WHERE "
          "contype = 'f' AND (confrelid IN " +
          ours + " OR conrelid IN " + ours +
          ") UNION SELECT 'function ' || "
          "d.objid::regprocedure::text FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND (" +
          of_table + " OR " + of_row +
          ") UNION SELECT 'column ' || quote_ident(attname) || ' of ' || attrelid::regclass::text FROM pg_depend d JOIN "
          "pg_attribute ON attrelid = d.objid AND attnum = d.objsubid JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', "
          "'p', 'c') WHERE d.classid = 'pg_class'::regclass AND " +
          of_row +
          " UNION SELECT 'policy ' || quote_ident(polname) || ' of ' || polrelid::regclass::text FROM pg_depend d JOIN pg_policy "
          "p "
          "ON p.oid = d.objid AND polrelid NOT IN " +
          ours + " WHERE d.classid = 'pg_policy'::regclass AND " + of_table +
          " UNION SELECT 'publication ' || quote_ident(pubname) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = "
          "r.prpubid "
          "WHERE r.prrelid IN " +
          ours + " OR r.prrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent IN " + ours + ") ORDER BY 1");
      !stay.empty())
    why = "these would stay with the former tables; drop them (of a publication: the tables), and make them anew afterwards: " +
          stay;
  // Made since the build was begun. Not made here: that takes its time, and readers wait.
  const std::string there =
      " NOT IN (SELECT o.relname FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace WHERE "
      "n.nspname = " +
      transaction.quote(incoming_schema) + ")";
  if (const auto lacks = named("SELECT 'index ' || i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE "
                               "x.indrelid IN " +
                               ours + " AND i.relname" + there + " ORDER BY 1");
      !lacks.empty())
    why += (why.empty() ? "" : "; ") + std::string("make these in schema ") + incoming_schema + ", too, or drop them: " + lacks;
  return why;
}

domain::Timestamp time_of(const pqxx::field& microseconds) {
  return domain::Timestamp(std::chrono::microseconds(microseconds.as<std::int64_t>()));
}

}  // namespace

Generations::Generations(std::vector<const Projection*> projections, std::string log_id, std::uint32_t partitions)
    : projections_(std::move(projections)), log_id_(std::move(log_id)), partitions_(partitions) {}

const Projection* Generations::find(std::string_view name) const {
  for (const Projection* projection : projections_) {
    if (projection->name() == name) return projection;
  }
  return nullptr;
}

result<void> Generations::prepare(pqxx::connection_base& db) const {
  if (auto migrated = migrate(db, embedded_migrations()); !migrated) return tl::unexpected(migrated.error());
  auto owner = guarded([&] {
    pqxx::work transaction(db);
    transaction.exec_params0("INSERT INTO projection_log (log_id) VALUES ($1) ON CONFLICT DO NOTHING", log_id_);
    auto id = transaction.exec1("SELECT log_id FROM projection_log")[0].as<std::string>();
    transaction.commit();
    return id;
  });
  if (!owner) return tl::unexpected(owner.error());
  if (*owner != log_id_) return failure(Errc::foreign_log, "its log is " + *owner + ", ours is " + log_id_);
  return guarded([&] {
    pqxx::work transaction(db);
    transaction.exec(lock_generations);
    for (const Projection* projection : projections_) {
      const std::string& name = projection->name();
      transaction.exec_params0("INSERT INTO projection_controls (projection) VALUES ($1) ON CONFLICT DO NOTHING", name);
      transaction.exec_params0(
          "INSERT INTO projection_generations (projection, generation, version, state, schema_name, layout) "
          "SELECT $1, 1, $2, 'live', 'projection_' || $1 || '_1', (SELECT max(number) FROM schema_migrations) "
          "WHERE NOT EXISTS (SELECT FROM projection_generations WHERE projection = $1 AND state = 'live')",
          name, projection->version());
    }
    for (const GenerationRow& row : read(transaction)) make_checkpoints(transaction, row.projection, row.number);
    transaction.commit();
    give_up_outdated(db);
  });
}

void Generations::give_up_outdated(pqxx::connection_base& db) const {
  std::vector<GenerationRow> rows;
  {
    pqxx::read_transaction transaction(db);
    rows = read(transaction);
  }
  std::erase_if(rows, [](const GenerationRow& row) { return !row.outdated || row.state == "replay"; });
  for (const GenerationRow& row : rows) {
    try {
      pqxx::work transaction(db);
      transaction.exec(short_patience);
      transaction.exec(lock_generations);
      const auto now = find(transaction, row.projection, row.number);
      if (!now || !now->outdated || now->state == "replay") continue;
      give_up(transaction, *now, "its tables are older than a migration");
      transaction.commit();
    } catch (const std::exception& error) {
      if (!lost_patience(state_of(error))) throw;
    }
  }
}

void Generations::make_checkpoints(pqxx::transaction_base& transaction, const std::string& projection,
                                   std::uint32_t number) const {
  transaction.exec_params0(
      "INSERT INTO projection_checkpoints (log_id, projection, generation, partition) "
      "SELECT $1, $2, $3, generate_series(0, $4::integer - 1) ON CONFLICT DO NOTHING",
      log_id_, projection, number, partitions_);
}

std::vector<GenerationRow> Generations::read(pqxx::transaction_base& transaction) const {
  std::vector<GenerationRow> rows;
  for (const auto& row : transaction.exec("SELECT projection, generation, version, state, schema_name, phase, swap, detail, "
                                          "(extract(epoch FROM until_time) * 1000000)::bigint, state <> 'live' AND layout <> "
                                          "(SELECT max(number) FROM schema_migrations) FROM projection_generations "
                                          "WHERE state <> 'gone' ORDER BY projection, generation")) {
    GenerationRow& read = rows.emplace_back();
    read.projection = row[0].as<std::string>();
    read.number = row[1].as<std::uint32_t>();
    read.version = row[2].as<std::uint32_t>();
    read.state = row[3].as<std::string>();
    read.schema = row[4].as<std::string>();
    read.phase = row[5].as<std::string>();
    read.swap = row[6].as<std::string>();
    read.detail = row[7].as<std::string>();
    if (!row[8].is_null()) read.until = time_of(row[8]);
    read.outdated = row[9].as<bool>();
  }
  return rows;
}

bool Generations::is_followed(const GenerationRow& row, const std::map<std::string, Controls>& controls) const {
  const Projection* projection = find(row.projection);
  if (projection == nullptr || projection->version() != row.version || row.outdated || row.state == "replay") return false;
  const auto control = controls.find(row.projection);
  return control == controls.end() || !control->second.paused;
}

std::map<std::string, Controls> Generations::controls(pqxx::transaction_base& transaction) const {
  std::map<std::string, Controls> all;
  for (const auto& row : transaction.exec("SELECT projection, revision, paused, because FROM projection_controls")) {
    all[row[0].as<std::string>()] = {row[1].as<std::uint64_t>(), row[2].as<bool>(), row[3].as<std::string>()};
  }
  return all;
}

std::optional<GenerationRow> Generations::find(pqxx::transaction_base& transaction, const std::string& projection,
                                               const char* state) const {
  for (GenerationRow& row : read(transaction)) {
    if (row.projection == projection && row.state == state) return std::move(row);
  }
  return std::nullopt;
}

std::optional<GenerationRow> Generations::find(pqxx::transaction_base& transaction, const std::string& projection,
                                               std::uint32_t number) const {
  for (GenerationRow& row : read(transaction)) {
    if (row.projection == projection && row.number == number) return std::move(row);
  }
  return std::nullopt;
}

GenerationRow Generations::begin(pqxx::transaction_base& transaction, const std::string& projection, const char* state,
                                 const std::string& swap, const std::string& schema,
                                 std::optional<domain::Timestamp> until) const {
  GenerationRow made;
  made.projection = projection;
  made.version = find(projection)->version();
  made.state = state;
  made.phase = "filling";
  made.swap = swap;
  made.until = until;
  made.number =
      transaction.exec_params1("SELECT max(generation) + 1 FROM projection_generations WHERE projection = $1", projection)[0]
          .as<std::uint32_t>();
  made.schema = schema.empty() ? "projection_" + projection + "_" + std::to_string(made.number) : schema;
  transaction.exec("CREATE SCHEMA IF NOT EXISTS " + transaction.quote_name(made.schema));
  for (const Table& table : find(projection)->tables()) copy_table(transaction, table.name, made.schema);
  if (made.state == "replay") copy_views(transaction, projection, made.schema);
  transaction.exec_params0(
      "INSERT INTO projection_generations (projection, generation, version, state, schema_name, layout, phase, swap, until_time) "
      "SELECT $1, $2, $3, $4, $5, (SELECT max(number) FROM schema_migrations), $6, $7, timestamptz 'epoch' + $8 * interval '1 "
      "us'",
      projection, made.number, made.version, state, made.schema, made.phase, swap,
      until ? std::optional(std::to_string(until->time_since_epoch().count())) : std::nullopt);
  make_checkpoints(transaction, projection, made.number);
  return made;
}

// LIKE takes columns, defaults, checks and comments over, and would name the indexes anew: those, partitions, settings and
// grants are made from the catalog.
void Generations::copy_table(pqxx::transaction_base& transaction, const std::string& table, const std::string& schema) const {
  const std::string live = "public." + table, copy = transaction.quote_name(schema) + "." + table;
  const auto of = transaction.exec1(
      "SELECT coalesce(' PARTITION BY ' || pg_get_partkeydef(oid), ''), "
      "coalesce(' WITH (' || array_to_string(reloptions, ', ') || ')', '') FROM pg_class WHERE oid = '" +
      live + "'::regclass");
  transaction.exec("CREATE TABLE " + copy + " (LIKE " + live + " INCLUDING ALL EXCLUDING INDEXES)" + of[0].as<std::string>() +
                   of[1].as<std::string>());
  for (const auto& row : transaction.exec("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '" +
                                          live + "'::regclass AND contype IN ('p', 'u', 'x')")) {
    transaction.exec("ALTER TABLE " + copy + " ADD CONSTRAINT " + transaction.quote_name(row[0].as<std::string>()) + " " +
                     row[1].as<std::string>());
  }
  for (const auto& row : transaction.exec("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = '" + live +
                                          "'::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)")) {
    auto definition = row[0].as<std::string>();
    for (const std::string& on : {" ON ONLY " + live + " ", " ON " + live + " "}) {
      if (const auto at = definition.find(on); at != std::string::npos) definition.replace(at, on.size(), " ON " + copy + " ");
    }
    transaction.exec(definition);
  }
  for (const auto& row : transaction.exec("SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), "
                                          "coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') "
                                          "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '" +
                                          live + "'::regclass ORDER BY c.relname")) {
    transaction.exec("CREATE TABLE " + transaction.quote_name(schema) + "." + transaction.quote_name(row[0].as<std::string>()) +
                     " PARTITION OF " + copy + " " + row[1].as<std::string>() + row[2].as<std::string>());
  }
  copy_grants(transaction, live, copy);
  // Policies follow when it goes live; until then nobody but the owner reads what not everybody may.
  if (transaction.exec("SELECT relrowsecurity FROM pg_class WHERE oid = '" + live + "'::regclass")[0][0].as<bool>())
    transaction.exec("ALTER TABLE " + copy + " ENABLE ROW LEVEL SECURITY");
}

void Generations::copy_views(pqxx::transaction_base& transaction, const std::string& projection,
                             const std::string& schema) const {
  std::set<std::string> there;
  for (const Table& table : find(projection)->tables()) there.insert(table.name);
  // A definition names what is in the search path without its schema: read in one, and carried out in another.
  transaction.exec("SET LOCAL search_path = public");
  const auto views = transaction.exec(
      "SELECT v.relname, quote_ident(v.relname) || coalesce(' WITH (' || array_to_string(v.reloptions, ', ') || ')', '') || ' "
      "AS ' || pg_get_viewdef(v.oid), string_agg(DISTINCT CASE WHEN t.relnamespace = v.relnamespace THEN t.relname::text ELSE "
      "'?' END, ' ') FROM pg_class v JOIN pg_rewrite r ON r.ev_class = v.oid JOIN pg_depend d ON d.classid = "
      "'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid JOIN pg_class "
      "t ON t.oid = d.refobjid WHERE v.relkind = 'v' AND v.relnamespace = 'public'::regnamespace GROUP BY v.oid, v.relname, "
      "v.reloptions ORDER BY v.oid");
  transaction.exec("SET LOCAL search_path = " + transaction.quote_name(schema) + ", public");
  for (const auto& row : views) {
    std::istringstream of(row[2].as<std::string>());
    if (!std::all_of(std::istream_iterator<std::string>(of), {}, [&](const std::string& name) { return there.contains(name); }))
      continue;  // it shows more than this projection, which is not as of then
    transaction.exec("CREATE VIEW " + transaction.quote_name(schema) + "." + row[1].as<std::string>());
    there.insert(row[0].as<std::string>());
  }
  transaction.exec("SET LOCAL search_path = DEFAULT");
  for (const auto& row : views) {
    if (there.contains(row[0].as<std::string>()))
      copy_grants(transaction, "public." + transaction.quote_name(row[0].as<std::string>()),
                  transaction.quote_name(schema) + "." + transaction.quote_name(row[0].as<std::string>()));
  }
}

/// Qualified: the table itself, then its partitions.
std::vector<std::string> Generations::with_children(pqxx::transaction_base& transaction, const std::string& schema,
                                                    const std::string& table) const {
  const std::string parent = transaction.quote_name(schema) + "." + table;
  std::vector<std::string> all;
  if (transaction.exec_params1("SELECT to_regclass($1) IS NULL", parent)[0].as<bool>()) return all;
  all.push_back(parent);
  for (const auto& row :
       transaction.exec_params("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::regclass "
                               "ORDER BY 1",
                               parent)) {
    all.push_back(row[0].as<std::string>());
  }
  return all;
}

void Generations::give_up(pqxx::transaction_base& transaction, const GenerationRow& row, const std::string& detail) const {
  const std::string schema = transaction.quote_name(row.schema);
  std::string became = detail, drops, truncates, deletes, rows;
  if (const Projection* known = find(row.projection)) {
    for (const Table& table : known->tables()) {
      const std::string name = schema + "." + table.name;
      if (transaction.exec_params1("SELECT to_regclass($1) IS NULL", name)[0].as<bool>()) continue;
      drops += "DROP TABLE " + name + "; ";
      truncates += (truncates.empty() ? "TRUNCATE " : ", ") + name;
      deletes += "DELETE FROM " + name + "; ";
      rows += (rows.empty() ? "SELECT EXISTS (SELECT FROM " : ") OR EXISTS (SELECT FROM ") + name;
    }
  }
  if (!truncates.empty()) truncates += "; ";
  transaction.exec(short_patience);
  // What is not ours is never dropped; what it depends on is emptied: no erasure reaches it any more.
  transaction.exec("DO $do$ BEGIN " + drops + "DROP SCHEMA IF EXISTS " + schema +
                   "; EXCEPTION WHEN dependent_objects_still_exist THEN BEGIN " + truncates +
                   "EXCEPTION WHEN feature_not_supported THEN BEGIN " + deletes +
                   "SET CONSTRAINTS ALL IMMEDIATE; EXCEPTION WHEN foreign_key_violation THEN NULL; END; END; END $do$");
  if (!transaction.exec_params1("SELECT to_regnamespace(quote_ident($1)) IS NULL", row.schema)[0].as<bool>()) {
    if (!rows.empty() && transaction.exec1(rows + ")")[0].as<bool>()) {
      transaction.exec_params0(
          "UPDATE projection_generations SET state = 'replay', phase = '', detail = $3, changed_at = now() WHERE projection = $1 "
          "AND generation = $2",
          row.projection, row.number,
          detail + "; its schema " + row.schema + " stays with its rows: foreign keys that are not ours refer to them; drop it");
      return;
    }
    became += "; its schema " + row.schema + " stays, its tables are empty: what is not ours is in it or depends on it";
  }
  transaction.exec_params0(
      "UPDATE projection_generations SET state = 'gone', detail = $3, changed_at = now() WHERE projection = $1 AND generation = "
      "$2",
      row.projection, row.number, became);
  for (const char* table : {"projection_parked_keys", "projection_checkpoints"}) {
    transaction.exec_params0(std::string("DELETE FROM ") + table + " WHERE projection = $1 AND generation = $2", row.projection,
                             row.number);
  }
}

bool Generations::forget_dropped(pqxx::transaction_base& transaction) const {
  bool any = false;
  for (const GenerationRow& row : read(transaction)) {
    if (row.state != "replay" ||
        !transaction.exec_params1("SELECT to_regnamespace(quote_ident($1)) IS NULL", row.schema)[0].as<bool>())
      continue;
    give_up(transaction, row, "its schema was dropped");
    any = true;
  }
  return any;
}

void Generations::raise_fences(pqxx::transaction_base& transaction, const std::string& projection) const {
  transaction.exec_params(
      "SELECT FROM projection_checkpoints WHERE log_id = $1 AND projection = $2 ORDER BY generation, partition FOR UPDATE",
      log_id_, projection);
  transaction.exec_params0("UPDATE projection_checkpoints SET fence = fence + 1 WHERE log_id = $1 AND projection = $2", log_id_,
                           projection);
}

result<void> Generations::swap(pqxx::transaction_base& transaction, const GenerationRow& live,
                               const GenerationRow& incoming) const {
  std::string doing = "the tables cannot change places";
  try {
    return exchange(transaction, live, incoming, doing);
  } catch (const pqxx::sql_error& error) {
    if (!is_lasting(error)) throw;
    return failure(Errc::not_possible, doing + ": " + named_state(error));
  }
}

result<void> Generations::exchange(pqxx::transaction_base& transaction, const GenerationRow& live, const GenerationRow& incoming,
                                   std::string& doing) const {
  const std::string& name = live.projection;
  const auto& tables = find(name)->tables();
  raise_fences(transaction, name);
  const auto behind = transaction.exec_params1(
      "SELECT count(*) FROM projection_checkpoints a JOIN projection_checkpoints b USING (log_id, projection, partition) "
      "WHERE log_id = $1 AND projection = $2 AND a.generation = $3 AND b.generation = $4 AND b.sequence < a.sequence",
      log_id_, name, live.number, incoming.number);
  if (behind[0].as<int>() > 0)
    return failure(Errc::changed, "generation " + std::to_string(incoming.number) + " is behind the live one: try again");
  for (const Table& table : tables) {
    if (with_children(transaction, incoming.schema, table.name).empty())
      return failure(Errc::not_possible, "generation " + std::to_string(incoming.number) + " has no table " + table.name);
  }

  // What reads the tables is bound to them, not to their names. Readers lock a view before its tables: so do we.
  transaction.exec("SET LOCAL search_path = pg_catalog");
  std::vector<std::string> names, views, definitions;
  for (const Table& table : tables) names.push_back("'public." + table.name + "'::regclass");
  for (const auto& row : transaction.exec(
           "SELECT DISTINCT format('%I.%I', n.nspname, v.relname), format('CREATE OR REPLACE VIEW %I.%I%s AS %s', n.nspname, "
           "v.relname, ' WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid)) "
           "FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v' "
           "JOIN pg_namespace n ON n.oid = v.relnamespace "
           "WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid IN (" +
           joined(names) + ") ORDER BY 1")) {
    views.push_back(row[0].as<std::string>());
    definitions.push_back(row[1].as<std::string>());
  }
  if (auto why = bound_to(transaction, joined(names), incoming.schema); !why.empty()) return failure(Errc::not_possible, why);
  transaction.exec("SET LOCAL search_path = DEFAULT");
  transaction.exec(short_patience);
  for (const std::string& view : views) {
    doing = "view " + view + " cannot be locked";
    transaction.exec("LOCK TABLE " + view + " IN ACCESS EXCLUSIVE MODE");
  }
  doing = "the tables cannot change places";
  // Their partitions with them, and only then looked for: from here on nobody makes one.
  std::vector<std::string> parents, leaving, coming;
  for (const std::string& schema : {std::string("public"), transaction.quote_name(incoming.schema)}) {
    for (const Table& table : tables) parents.push_back(schema + "." + table.name);
  }
  transaction.exec("LOCK TABLE " + joined(parents) + " IN ACCESS EXCLUSIVE MODE");
  for (const Table& table : tables) {
    const auto move = [&](std::vector<std::string>&& from, std::vector<std::string>& to) {
      to.insert(to.end(), from.begin(), from.end());
    };
    move(with_children(transaction, "public", table.name), leaving);
    move(with_children(transaction, incoming.schema, table.name), coming);
  }
  transaction.exec("SET LOCAL search_path = pg_catalog");
  const Attached attached = attached_to(transaction, joined(names), incoming.schema);
  transaction.exec("SET LOCAL search_path = DEFAULT");
  if (in_swap.hit()) return failure(Errc::unavailable, "fault point");

  for (const GenerationRow& row : read(transaction)) {
    if (row.projection == name && row.state == "previous" && row.number != incoming.number) {
      give_up(transaction, row, "generation " + std::to_string(incoming.number) + " went live");
    }
  }
  for (const Table& table : tables)  // as they are now, not as they were when it was begun
    copy_grants(transaction, "public." + table.name, transaction.quote_name(incoming.schema) + "." + table.name);
  for (const std::string& statement : attached.gone) {
    doing = "\"" + statement + "\" is refused";
    transaction.exec(statement);
  }
  doing = "the tables cannot change places";
  transaction.exec("CREATE SCHEMA IF NOT EXISTS " + transaction.quote_name(live.schema));
  for (const std::string& table : leaving)
    transaction.exec("ALTER TABLE " + table + " SET SCHEMA " + transaction.quote_name(live.schema));
  for (const std::string& table : coming) transaction.exec("ALTER TABLE " + table + " SET SCHEMA public");
  for (std::size_t i = 0; i < views.size(); ++i) {
    doing = "view " + views[i] + " cannot be replaced";
    transaction.exec(definitions[i]);
  }
  for (const std::string& statement : attached.made) {
    doing = "\"" + statement.substr(0, statement.find(" IS ")) + "\" is refused";
    transaction.exec(statement);
  }

  const auto becomes = [&](std::uint32_t number, const char* state) {
    transaction.exec_params0(
        "UPDATE projection_generations SET state = $3, phase = '', detail = '', changed_at = now(), layout = (SELECT max(number) "
        "FROM "
        "schema_migrations) "
        "WHERE projection = $1 AND generation = $2",
        name, number, state);
  };
  becomes(incoming.number, "gone");  // there is one of each state at any time
  becomes(live.number, "previous");
  becomes(incoming.number, "live");
  return {};
}

std::string Generations::holders(pqxx::transaction_base& transaction, const GenerationRow& of) const {
  std::vector<std::string> names, all;
  for (const Table& table : find(of.projection)->tables())
    names.push_back("to_regclass(" + transaction.quote(transaction.quote_name(of.at()) + "." + table.name) + ")");
  for (const auto& row : transaction.exec(
           std::string("SELECT format('%s is held by ") + holder + ", min(l.relation::regclass::text), " + holder_values +
           ") FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.database = (SELECT oid FROM pg_database WHERE datname "
           "= "
           "current_database()) AND l.granted AND l.pid <> pg_backend_pid() AND (l.relation IN (" +
           joined(names) + ") OR l.relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent IN (" + joined(names) +
           "))) AND coalesce(a.xact_start < now() - interval '1 s', true) GROUP BY a.pid, a.application_name, a.usename, "
           "a.xact_start ORDER BY a.xact_start LIMIT 3"))
    all.push_back(row[0].as<std::string>());
  return joined(all, "; ");
}

std::string Generations::blockers(pqxx::transaction_base& transaction, std::int32_t of, std::int32_t worker) const {
  const auto rows = transaction.exec_params(
      std::string("SELECT format('waits for %s, held by ") + holder +
          ", coalesce(w.relation::regclass::text, 'a ' || w.locktype), " + holder_values +
          ") FROM pg_locks m JOIN pg_locks w ON w.pid = m.pid AND NOT w.granted CROSS JOIN LATERAL "
          "unnest(pg_blocking_pids(m.pid)) "
          "AS b JOIN pg_stat_activity a ON a.pid = b WHERE m.locktype = 'advisory' AND m.granted AND m.objsubid = 2 AND "
          "m.classid = "
          "$1::integer::oid AND m.objid = $2::integer::oid AND m.database = (SELECT oid FROM pg_database WHERE datname = "
          "current_database()) ORDER BY a.xact_start LIMIT 1",
      of, worker);
  return rows.empty() ? std::string() : rows[0][0].as<std::string>();
}

void Generations::reset(pqxx::transaction_base& transaction, const GenerationRow& live) const {
  raise_fences(transaction, live.projection);
  std::vector<std::string> tables;
  for (const Table& table : find(live.projection)->tables()) tables.push_back("public." + table.name);
  transaction.exec(short_patience);
  transaction.exec("TRUNCATE " + joined(tables));
  transaction.exec_params0("DELETE FROM projection_parked_keys WHERE log_id = $1 AND projection = $2 AND generation = $3",
                           log_id_, live.projection, live.number);
  transaction.exec_params0(
      "UPDATE projection_checkpoints SET sequence = 0, resume_token = '', erased_to = 0, erased_at = 0 "
      "WHERE log_id = $1 AND projection = $2 AND generation = $3",
      log_id_, live.projection, live.number);
  transaction.exec_params0("UPDATE projection_generations SET version = $3 WHERE projection = $1 AND generation = $2",
                           live.projection, live.number, find(live.projection)->version());
}

result<void> Generations::change(Pool& pool, const Wish& wish, const Change& what) const {
  if (find(wish.projection) == nullptr) return failure(Errc::not_found, "there is no projection " + wish.projection);
  for (int attempt = 1;; ++attempt) {
    auto lease = pool.acquire();
    if (!lease) return tl::unexpected(lease.error());
    auto outcome = guarded([&]() -> result<void> {
      try {
        pqxx::work transaction((*lease)->db);
        transaction.exec(patience);
        const auto seen =
            transaction
                .exec_params1("SELECT revision FROM projection_controls WHERE projection = $1 FOR UPDATE", wish.projection)[0]
                .as<std::uint64_t>();
        if (wish.revision && *wish.revision != seen)
          return failure(Errc::changed,
                         "revision " + std::to_string(*wish.revision) + " was seen, it is " + std::to_string(seen) + " now");
        std::string detail = "{}";
        if (auto done = what(transaction, detail); !done) return done;
        transaction.exec_params0("UPDATE projection_controls SET revision = revision + 1 WHERE projection = $1", wish.projection);
        transaction.exec_params0(
            "INSERT INTO projection_audit (projection, version, action, actor, reason, detail) VALUES ($1, $2, $3, $4, $5, "
            "$6::jsonb)",
            wish.projection, find(wish.projection)->version(), wish.action, wish.actor, wish.reason, detail);
        if (before_change.hit()) return failure(Errc::unavailable, "fault point");
        transaction.commit();
        if (after_change.hit()) return failure(Errc::unavailable, "fault point");
        return {};
      } catch (const std::exception& error) {
        if (!lost_patience(state_of(error))) throw;
        return failure(Errc::fenced, "others use the tables");
      }
    });
    if (!outcome) lease->broken();
    auto done = outcome ? std::move(*outcome) : result<void>(tl::unexpected(outcome.error()));
    if (done || done.error().code != Errc::fenced) return done;
    if (attempt == most_tries || (wish.deadline && std::chrono::steady_clock::now() >= *wish.deadline))
      return failure(Errc::unavailable, "others used the tables for too long; nothing was done, try again");
    std::this_thread::sleep_for(between_tries);
  }
}

result<void> Generations::analyze(Pool& pool, const GenerationRow& row) const {
  return pool.run([&](Connection& connection) {
    pqxx::work transaction(connection.db);
    transaction.exec("SET LOCAL statement_timeout = 0");
    for (const Table& table : find(row.projection)->tables())
      transaction.exec("ANALYZE " + transaction.quote_name(row.at()) + "." + table.name);
    transaction.commit();
  });
}

result<Generations::Comparison> Generations::compare(Pool& pool, const GenerationRow& live, const GenerationRow& other) const {
  auto lease = pool.acquire();
  if (!lease) return tl::unexpected(lease.error());
  auto compared = guarded([&] {
    Comparison comparison;
    pqxx::transaction<pqxx::repeatable_read, pqxx::readwrite_policy::read_only> snapshot((*lease)->db);
    snapshot.exec("SET LOCAL statement_timeout = 0");
    const auto apart = snapshot.exec_params1(
        "SELECT count(*) FROM projection_checkpoints a JOIN projection_checkpoints b USING (log_id, projection, partition) "
        "WHERE log_id = $1 AND projection = $2 AND a.generation = $3 AND b.generation = $4 AND a.sequence <> b.sequence",
        log_id_, live.projection, live.number, other.number);
    comparison.comparable = apart[0].as<int>() == 0;
    if (!comparison.comparable) return comparison;

    rapidjson::StringBuffer buffer;
    codec::JsonWriter w(buffer);
    comparison.equal = true;
    const auto table_report = [&](const std::string& name, const std::string& a, const std::string& b,
                                  const std::vector<Column>& columns) {
      std::vector<std::string> plain, in_a, in_b, keys, order;
      for (const Column& column : columns) {
        const std::string quoted = snapshot.quote_name(column.name);
        plain.push_back(quoted);
        in_a.push_back("a." + quoted);
        in_b.push_back("b." + quoted);
        if (column.combine != Combine::key) continue;
        keys.push_back("a." + quoted + " = b." + quoted);
        order.push_back("coalesce(a." + quoted + ", b." + quoted + ")");
      }
      const auto sum = [&](const std::string& table) {
        const auto row = snapshot.exec1("SELECT count(*), coalesce(sum(hash_record_extended(ROW(" + joined(plain) +
                                        "), 0)::numeric), 0) FROM " + table + " AS t");
        return std::pair(row[0].as<std::int64_t>(), row[1].as<std::string>());
      };
      const auto mine = sum(a), theirs = sum(b);
      w.StartObject();
      codec::write_key(w, "table");
      codec::write_string(w, name);
      codec::write_key(w, "live_rows");
      w.Int64(mine.first);
      codec::write_key(w, "rebuilt_rows");
      w.Int64(theirs.first);
      codec::write_key(w, "live_checksum");
      codec::write_string(w, mine.second);
      codec::write_key(w, "rebuilt_checksum");
      codec::write_string(w, theirs.second);
      codec::write_key(w, "differences");
      w.StartArray();
      if (mine != theirs) {
        comparison.equal = false;
        const std::string on = joined(keys, " AND ");
        for (const auto& row : snapshot.exec("SELECT " + joined(in_a) + ", " + joined(in_b) + ", a." + plain[0] + " IS NULL, b." +
                                             plain[0] + " IS NULL FROM " + a + " a FULL JOIN " + b + " b ON " + on + " WHERE (" +
                                             joined(in_a) + ") IS DISTINCT FROM (" + joined(in_b) + ") ORDER BY " +
                                             joined(order) + " LIMIT " + std::to_string(shown_differences))) {
          // Texts may be somebody's: that they differ is said, not what they are.
          const auto width = static_cast<int>(columns.size());
          const bool not_live = row[2 * width].as<bool>(), not_rebuilt = row[2 * width + 1].as<bool>();
          std::string line;
          for (int i = 0; i < width && columns[static_cast<std::size_t>(i)].combine == Combine::key; ++i) {
            line += (i > 0 ? ", " : "") + columns[static_cast<std::size_t>(i)].name + " " +
                    row[not_live ? width + i : i].as<std::string>("");
          }
          line += not_live ? ": only in the rebuilt table" : not_rebuilt ? ": only in the live table" : ":";
          for (int i = 0; i < width && !not_live && !not_rebuilt; ++i) {
            const auto mine_is = row[i].as<std::string>("NULL"), theirs_is = row[width + i].as<std::string>("NULL");
            const Column& column = columns[static_cast<std::size_t>(i)];
            if (mine_is == theirs_is) continue;
            line += " " + column.name +
                    (column.type == "text" || column.type == "jsonb" ? " differs;" : " " + mine_is + " → " + theirs_is + ";");
          }
          codec::write_string(w, line);
        }
      }
      w.EndArray();
      w.EndObject();
    };
    w.StartObject();
    codec::write_key(w, "tables");
    w.StartArray();
    for (const Table& table : find(live.projection)->tables()) {
      table_report(table.name, "public." + table.name, snapshot.quote_name(other.schema) + "." + table.name, table.columns);
    }
    const auto parked = [&](const GenerationRow& of) {
      return "(SELECT * FROM projection_parked_keys WHERE projection = " + snapshot.quote(of.projection) +
             " AND generation = " + std::to_string(of.number) + ")";
    };
    table_report("parked keys", parked(live), parked(other),
                 {{"partition", "integer", Combine::key},
                  {"parked_key", "text", Combine::key},
                  {"sequence", "bigint"},
                  {"error", "text"}});
    w.EndArray();
    codec::write_key(w, "equal");
    w.Bool(comparison.equal);
    w.EndObject();
    comparison.report = std::string(codec::written(buffer));
    return comparison;
  });
  if (!compared) lease->broken();
  return compared;
}

}  // namespace onboarding::projections

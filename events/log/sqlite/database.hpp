// As much of SQLite as the log needs: connections and prepared statements that close themselves, errors as values.
// One thread at a time per connection.
#pragma once

#include <sqlite3.h>

#include <cerrno>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "events/log/event_log.hpp"

namespace onboarding::log {

class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  // Bound bytes must live until the statement is reset. Parameters count from 1, columns from 0.
  void bind(int parameter, std::int64_t value) { sqlite3_bind_int64(statement_.get(), parameter, value); }
  void bind(int parameter, std::string_view bytes) {
    sqlite3_bind_blob(statement_.get(), parameter, bytes.empty() ? "" : bytes.data(), static_cast<int>(bytes.size()),
                      SQLITE_STATIC);
  }
  int step() { return sqlite3_step(statement_.get()); }
  void reset() { sqlite3_reset(statement_.get()); }
  /// For statements without rows: SQLITE_OK or the error; errno is what the system said, 0 when it was not asked.
  int run() {
    errno = 0;
    const int code = step();
    const int system = errno;
    reset();
    errno = system;
    return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code;
  }

  std::int64_t integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  std::uint64_t natural(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  /// Valid until the next step or reset.
  std::string_view bytes(int column) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
    return {data == nullptr ? "" : data, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// Resets when left: a statement that is not reset keeps its read transaction open, and the WAL grows.
class Using {
 public:
  explicit Using(Statement& statement) : statement_(statement) {}
  ~Using() { statement_.reset(); }
  Using(const Using&) = delete;

 private:
  Statement& statement_;
};

class Database {
 public:
  enum class Access { write, read };
  /// No memory mapping and no checkpoint at close for readers: SQLite 3.40's WAL-reset bug (ADR 0301).
  static result<Database> open(const std::string& path, Access);

  int execute(const char* sql) { return sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr); }
  result<void> require(const char* sql);
  result<Statement> prepare(std::string_view sql);
  /// The last error of this connection as a failure, and which file. SQLite's messages hold no values.
  Failure error(std::string_view doing) const;
  /// The error of the statement that was just run means that there is no room: the commit frame was not written whole.
  /// SQLite knows ENOSPC only; a quota and a limit on file sizes are told by errno, before any other call.
  static bool full(int code);
  sqlite3* handle() const { return database_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  };
  std::unique_ptr<sqlite3, Close> database_;
  std::string path_;
};

}  // namespace onboarding::log

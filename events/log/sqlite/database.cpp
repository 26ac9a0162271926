#include "events/log/sqlite/database.hpp"

#include <cerrno>

namespace onboarding::log {

result<Database> Database::open(const std::string& path, Access access) {
  Database database;
  database.path_ = path;
  sqlite3* handle = nullptr;
  const int flags = access == Access::write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, nullptr);
  database.database_.reset(handle);
  if (code != SQLITE_OK) return tl::unexpected(database.error("open"));
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, 5000);
  if (access == Access::read) sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  if (auto set = database.require("PRAGMA mmap_size=0; PRAGMA wal_autocheckpoint=0; PRAGMA trusted_schema=OFF"); !set)
    return tl::unexpected(set.error());
  return database;
}

result<void> Database::require(const char* sql) {
  if (execute(sql) != SQLITE_OK) return tl::unexpected(error("prepare"));
  return {};
}

result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                      &statement, nullptr);
  if (code != SQLITE_OK) return tl::unexpected(error("prepare"));
  return Statement(statement);
}

Failure Database::error(std::string_view doing) const {
  const int code = sqlite3_extended_errcode(database_.get());
  const bool damaged = (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
  std::string detail =
      path_ + ": " + std::string(doing) + ": " + sqlite3_errmsg(database_.get()) + " (SQLite " + std::to_string(code) + ")";
  if (damaged) detail += "; restore the log from a copy, `onboardctl events verify` shows what is left";
  return {damaged ? Errc::corrupt : Errc::unreadable, std::move(detail)};
}

bool Database::full(int code) {
  const int system = errno;
  return (code & 0xff) == SQLITE_FULL ||
         (code == SQLITE_IOERR_WRITE && (system == ENOSPC || system == EDQUOT || system == EFBIG));
}

}  // namespace onboarding::log

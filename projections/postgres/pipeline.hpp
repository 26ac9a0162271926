// One connection to PostgreSQL in libpq's pipeline mode, which libpqxx 6 does not have: all statements of a transaction go
// out without waiting for an answer, and PostgreSQL works on them while the caller does something else.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "projections/queries.hpp"

struct pg_conn;

namespace onboarding::projections {

/// For one thread. A transaction is add() …, commit(), finish(); errors of all of them show in finish().
class Pipeline {
 public:
  /// Blocking. `settings`: SQL that is carried out first. Errc::unavailable.
  static result<Pipeline> connect(const std::string& connection_string, const char* settings);

  /// One statement with parameters in binary form; prepared at the first use of its name.
  void add(const std::string& name, const std::string& sql, const std::vector<std::string>& parameters);
  /// One statement without parameters, not prepared.
  void run(const std::string& sql);
  std::string quoted(const std::string& text) const;  // as a literal
  void commit();
  /// Waits for the end of the transaction: Errc::poison when rows were refused, Errc::fenced when a statement raised
  /// `fenced_state`; nothing was written then. Errc::unavailable may mean that it was written all the same.
  result<void> finish();

  /// Between transactions: false when the server hung up, or said something while nobody asked (that it is shutting down).
  bool usable() const;
  std::chrono::steady_clock::time_point born() const { return born_; }

  /// libpq tells of each address that it tried on a line of its own.
  static std::string on_one_line(std::string_view message);

  static constexpr const char* fenced_state = "OB001";

 private:
  struct Close {
    void operator()(pg_conn*) const;
  };
  explicit Pipeline(std::unique_ptr<pg_conn, Close> connection)
      : connection_(std::move(connection)), born_(std::chrono::steady_clock::now()) {}

  std::unique_ptr<pg_conn, Close> connection_;
  std::chrono::steady_clock::time_point born_;
  std::unordered_set<std::string> prepared_;
  std::deque<std::string> sent_;  // one each statement in order: the name where it prepares, else empty
  bool send_failed_ = false;
};

}  // namespace onboarding::projections

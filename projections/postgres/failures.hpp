// What libpqxx throws and PostgreSQL refuses, as values. Private to projections/postgres.
#pragma once

#include <pqxx/pqxx>
#include <type_traits>

#include "projections/postgres/pipeline.hpp"

namespace onboarding::projections {

/// Rows that are refused whoever writes them (SQLSTATE class 22 or 23) are Errc::poison, all else Errc::unavailable.
/// Messages of the server may quote a person's data: only the SQLSTATE is kept of them.
inline Failure failure_of_state(const std::string& state) {
  const bool refused = state.rfind("22", 0) == 0 || state.rfind("23", 0) == 0;
  return {refused                           ? Errc::poison
          : state == Pipeline::fenced_state ? Errc::fenced
                                            : Errc::unavailable,
          "PostgreSQL says SQLSTATE " + (state.empty() ? "unknown" : state)};
}

/// Two met in a circle, and this one gave way: nothing was done, and at once it may work.
inline bool gave_way(const std::string& state) { return state == "40P01" || state == "40001"; }
/// That, or a lock's time-out: nothing was done, and soon it may work.
inline bool lost_patience(const std::string& state) { return state == "55P03" || gave_way(state); }

/// Empty: not PostgreSQL's, or not known. A deadlock is no sql_error in libpqxx 6.
inline std::string state_of(const std::exception& error) {
  if (const auto* sql = dynamic_cast<const pqxx::sql_error*>(&error)) return sql->sqlstate();
  if (dynamic_cast<const pqxx::deadlock_detected*>(&error) != nullptr) return "40P01";
  if (dynamic_cast<const pqxx::serialization_failure*>(&error) != nullptr) return "40001";
  return {};
}

/// It would fail again and again: neither a lock nor the server's state is the reason.
inline bool is_lasting(const std::string& state) {
  for (const char* passing : {"08", "25", "40", "53", "55", "57", "58", "XX"}) {
    if (state.rfind(passing, 0) == 0) return false;
  }
  return true;
}
/// libpqxx 6 throws some without their state: a missing privilege is lasting, of the others nobody knows.
inline bool is_lasting(const pqxx::sql_error& error) {
  return error.sqlstate().empty() ? dynamic_cast<const pqxx::insufficient_privilege*>(&error) != nullptr
                                  : is_lasting(error.sqlstate());
}

/// libpqxx 6 throws some without their state.
inline std::string named_state(const pqxx::sql_error& error) {
  if (!error.sqlstate().empty()) return "SQLSTATE " + error.sqlstate();
  return dynamic_cast<const pqxx::insufficient_privilege*>(&error) != nullptr ? "SQLSTATE 42501" : "SQLSTATE unknown";
}

inline Failure failure_of(const std::exception& error) {
  if (dynamic_cast<const pqxx::sql_error*>(&error) != nullptr || gave_way(state_of(error)))
    return failure_of_state(state_of(error));
  if (dynamic_cast<const pqxx::in_doubt_error*>(&error) != nullptr) {
    return {Errc::unavailable, "the connection broke while committing"};
  }
  if (dynamic_cast<const pqxx::broken_connection*>(&error) != nullptr) {
    return {Errc::unavailable, Pipeline::on_one_line(error.what())};
  }
  return {Errc::unavailable, "the connection cannot be used"};
}

/// Calls and catches: the only way libpqxx is called.
template <class Function>
auto guarded(Function&& function) -> result<std::invoke_result_t<Function>> {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Function>>) {
      function();
      return {};
    } else {
      return function();
    }
  } catch (const std::exception& error) { return tl::unexpected(failure_of(error)); }
}

}  // namespace onboarding::projections

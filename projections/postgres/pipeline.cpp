#include "projections/postgres/pipeline.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <string_view>

#include "projections/postgres/failures.hpp"

namespace onboarding::projections {

namespace {

struct Clear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Clear>;

Failure lost(const PGconn* connection) { return {Errc::unavailable, Pipeline::on_one_line(PQerrorMessage(connection))}; }

}  // namespace

void Pipeline::Close::operator()(pg_conn* connection) const { PQfinish(connection); }

result<Pipeline> Pipeline::connect(const std::string& connection_string, const char* settings) {
  std::unique_ptr<pg_conn, Close> connection(PQconnectdb(connection_string.c_str()));
  if (PQstatus(connection.get()) != CONNECTION_OK) return tl::unexpected(lost(connection.get()));
  const Result set(PQexec(connection.get(), settings));
  if (PQresultStatus(set.get()) != PGRES_COMMAND_OK || PQenterPipelineMode(connection.get()) != 1) {
    return tl::unexpected(lost(connection.get()));
  }
  return Pipeline(std::move(connection));
}

bool Pipeline::usable() const {
  if (send_failed_ || PQstatus(connection_.get()) != CONNECTION_OK) return false;
  pollfd descriptor{PQsocket(connection_.get()), POLLIN, 0};
  return poll(&descriptor, 1, 0) == 0;
}

void Pipeline::add(const std::string& name, const std::string& sql, const std::vector<std::string>& parameters) {
  if (prepared_.insert(name).second) {
    send_failed_ |= PQsendPrepare(connection_.get(), name.c_str(), sql.c_str(), 0, nullptr) != 1;
    sent_.push_back(name);
  }
  std::vector<const char*> values;
  std::vector<int> lengths, formats(parameters.size(), 1);
  for (const std::string& parameter : parameters) {
    values.push_back(parameter.data());
    lengths.push_back(static_cast<int>(parameter.size()));
  }
  send_failed_ |= PQsendQueryPrepared(connection_.get(), name.c_str(), static_cast<int>(parameters.size()), values.data(),
                                      lengths.data(), formats.data(), 1) != 1;
  sent_.emplace_back();
}

void Pipeline::run(const std::string& sql) {
  send_failed_ |= PQsendQueryParams(connection_.get(), sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 1) != 1;
  sent_.emplace_back();
}

std::string Pipeline::quoted(const std::string& text) const {
  const std::unique_ptr<char, decltype(&PQfreemem)> literal(PQescapeLiteral(connection_.get(), text.data(), text.size()),
                                                            &PQfreemem);
  return literal == nullptr ? "NULL" : std::string(literal.get());
}

std::string Pipeline::on_one_line(std::string_view message) {
  std::string line;
  for (const char c : message) {
    const bool blank = c == '\n' || c == '\t' || c == ' ';
    if (!blank) line.push_back(c);
    else if (!line.empty() && line.back() != ' ') line.push_back(' ');
  }
  if (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

void Pipeline::commit() { send_failed_ |= PQpipelineSync(connection_.get()) != 1; }

result<void> Pipeline::finish() {
  result<void> ended;
  // Each statement answers with a result and a null; the commit with one result, and no null.
  for (bool answered = false; !send_failed_;) {
    const Result result(PQgetResult(connection_.get()));
    if (result == nullptr) {
      if (!answered || PQstatus(connection_.get()) != CONNECTION_OK) return tl::unexpected(lost(connection_.get()));
      answered = false;
      if (!sent_.empty()) sent_.pop_front();
      continue;
    }
    answered = true;
    switch (PQresultStatus(result.get())) {
      case PGRES_PIPELINE_SYNC: sent_.clear(); return ended;
      case PGRES_COMMAND_OK:
      case PGRES_TUPLES_OK: break;
      default:  // failed, or skipped because another one failed: what it was to prepare is not there
        if (!sent_.empty()) prepared_.erase(sent_.front());
        if (ended && PQresultStatus(result.get()) != PGRES_PIPELINE_ABORTED) {
          const char* state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
          ended = tl::unexpected(state == nullptr ? lost(connection_.get()) : failure_of_state(state));
          if (state != nullptr && gave_way(state)) ended.error().code = Errc::fenced;  // read anew, and again at once
        }
    }
  }
  return tl::unexpected(lost(connection_.get()));
}

}  // namespace onboarding::projections

// A database of its own for a test, on the server that ONBOARD_TEST_POSTGRES_URL names; dropped at the end.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "events/domain/assertion.hpp"

namespace onboarding::testing {

class Database {
 public:
  explicit Database(std::string server = server_url()) : server_(std::move(server)) {
    static std::atomic<int> next{0};
    name_ = "onboarding_test_" + std::to_string(getpid()) + "_" + std::to_string(++next);
    on_server("CREATE DATABASE " + name_);
  }
  ~Database() { on_server("DROP DATABASE IF EXISTS " + name_ + " WITH (FORCE)"); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  static std::string server_url() {
    const char* url = std::getenv("ONBOARD_TEST_POSTGRES_URL");
    ONBOARDING_ASSERT(url != nullptr, "ONBOARD_TEST_POSTGRES_URL names a server where databases may be made");
    return url;
  }

  const std::string& name() const { return name_; }
  std::string url() const {
    const auto authority_end = server_.find('/', server_.find("//") + 2);
    const auto query = server_.find('?');
    return server_.substr(0, authority_end + 1) + name_ + (query == std::string::npos ? "" : server_.substr(query));
  }

  /// Each row as text, its columns joined by '|', NULL as "~".
  std::vector<std::string> rows(const std::string& sql) const {
    pqxx::connection connection(url());
    pqxx::work transaction(connection);
    std::vector<std::string> lines;
    for (const auto& row : transaction.exec(sql)) {
      std::string line;
      for (const auto& field : row) line.append(line.empty() ? "" : "|").append(field.is_null() ? "~" : field.c_str());
      lines.push_back(std::move(line));
    }
    transaction.commit();
    return lines;
  }
  std::string value(const std::string& sql) const { return rows(sql).at(0); }

  void on_server(const std::string& sql) const {
    pqxx::connection connection(server_);
    pqxx::nontransaction(connection).exec(sql);
  }

 private:
  std::string server_, name_;
};

}  // namespace onboarding::testing

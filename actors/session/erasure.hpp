// Forgetting a person. First each of their sessions writes UserErased, so that whatever follows the log forgets, too; then their sealing
// keys go, and with them every copy of the log; only then it is answered. While it goes on none of their sessions begins.
//
//   note ─▶ host: who is in memory? ─▶ log: who else? ─▶ session after session ─▶ key after key ─▶ note away ─▶ answer
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "actors/session/environment.hpp"

namespace onboarding::session {

struct PersonStreams {
  std::vector<std::string> sessions;  // in the order of their first records
  std::set<std::string> user_keys;
  std::vector<log::Record> first_records;
};
/// Reads the person's partition. Blocking.
result<PersonStreams> streams_of(log::EventLog&, const Person&);

/// `host`: of the person's partition. The answer: how many of the person's sessions were told; 0: there was none left.
void begin_erasure(const EnvironmentPtr&, const caf::actor& host, RequestContext, Person, Reply<std::uint32_t>);

/// Erasures that were noted in the folder and not finished.
std::vector<Person> erasures_begun(const std::filesystem::path& folder);

}  // namespace onboarding::session

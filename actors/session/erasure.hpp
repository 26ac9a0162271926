// Forgetting a person. First each of their sessions writes UserErased, so that whatever follows the log forgets, too; then their sealing
// keys go, and with them every copy of the log; only then it is answered. While it goes on none of their sessions begins.
//
//   note ─▶ host: who is in memory? ─▶ log: who else? ─▶ session after session ─▶ key after key ─▶ note away ─▶ answer
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "actors/session/environment.hpp"

namespace onboarding::session {

struct PersonStream {
  std::string id;
  std::string user_key;  // empty: not in the log yet
  log::Record first;
};
/// The person's streams, in the order of their first records. Each page of their partition is an `offload` of its own: whoever else
/// looks something up comes in between. Answers there.
void find_streams(const EnvironmentPtr&, Person, std::function<void(result<std::vector<PersonStream>>)>);

/// How many of them may be asked for at once; beyond that, callers are refused.
constexpr std::uint32_t most_erasures = 64, most_searches = 16;

/// `host`: of the person's partition; `counted` is let go of when it ends. The answer: how many of the person's sessions were told; 0: there was none left.
void begin_erasure(const EnvironmentPtr&, const caf::actor& host, RequestContext, Person, Reply<std::uint32_t>,
                   std::shared_ptr<void> counted);

/// Erasures that were noted in the folder and not finished.
std::vector<Person> erasures_begun(const std::filesystem::path& folder);

}  // namespace onboarding::session

// The seam between a session and whatever reads its message: what is asked, what comes back. No CAF type in it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "events/domain/session.hpp"

namespace onboarding::model {

/// Who waits: decides the order when a budget is short. Lower is sooner.
enum class Priority : std::uint8_t { waiting_client = 0, queued_turn = 1, background = 2 };

struct HistoryLine {
  bool from_user = false;
  std::string text;
};

/// Who may look on while a reply is written. Any thread; must not block.
class ReplyWatch {
 public:
  virtual ~ReplyWatch() = default;
  /// Whether anybody looks on: asked when a call begins, which is asked for as a stream only then.
  virtual bool watched() const = 0;
  /// A piece of the reply, checked for nothing but the canary. `restart`: what came before is void, another attempt writes.
  virtual void write(std::string_view text, bool restart) = 0;
};

/// All that a model may know about a turn. Immutable and shared once built.
struct ExtractionRequest {
  std::string session_id, turn_id, plan, locale;
  std::string user_key;  // hashed before it leaves as a safety identifier
  Priority priority = Priority::waiting_client;
  domain::Timestamp deadline;  // the answer is of no use afterwards
  domain::Timestamp arrived;   // when the session came: who came first is served first, where a budget is short
  std::shared_ptr<const domain::Flow> flow;
  std::map<std::string, std::string, std::less<>> collected;  // field → stored value
  std::vector<std::string> missing;                           // open fields, in order
  std::vector<std::string> asked;                             // what the last reply asked for
  std::vector<HistoryLine> history;                           // newest last, without the message itself; bounded by the session
  std::string message;                                        // byte for byte what the user wrote
  bool completed = false;                                     // the session is complete: this may be a correction
  std::shared_ptr<ReplyWatch> watch;                          // null: nobody ever looks on
};

/// What came of it. Either an answer, or the reason why there is none.
struct ExtractionOutcome {
  std::optional<domain::ModelAnswer> answer;
  std::string source = "none";  // provider that answered, or "offline"
  std::string failure;          // "no_provider", "deadline", "queue_full", "plan_limit"; empty when there is an answer
  std::vector<domain::LlmCall> calls;
  std::string fallback_reason = {};  // of an offline answer: why no provider gave one; empty where none is configured
};

/// The offline extractor: pure, no network, no key, thread-safe, microseconds. nullopt when it is not sure.
/// Implemented in actors/model/offline.
std::optional<domain::ModelAnswer> extract_offline(const ExtractionRequest&);

}  // namespace onboarding::model

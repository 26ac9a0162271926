#include "projections/models/models.hpp"
#include "projections/models/rows.hpp"

namespace onboarding::projections {

namespace {

using namespace rows;

enum ModelTable : std::size_t { conversation_messages };
namespace message {
enum Column : std::size_t { session_id, version, user_key, timestamp, role, turn_id, text, source, error };
}

std::vector<Table> conversation_tables() {
  return {{.name = "conversation_messages",
           .columns = {{"session_id", "text", Combine::key},
                       {"version", "bigint", Combine::key},
                       {"user_key", "text", Combine::key},  // of the partition by its hash
                       {"timestamp", "timestamptz"},
                       {"role", "text"},
                       {"turn_id", "text"},
                       {"text", "text"},
                       {"source", "text"},
                       {"error", "boolean"}},
           .written_once = true}};
}

class ConversationProjection : public NamedProjection {
 public:
  ConversationProjection() : NamedProjection("conversation", 2, conversation_tables()) {}

  result<void> apply(const codec::DecodedEvent& event, RowOperations& out) const override {
    return std::visit(
        Overloaded{[&](const domain::SessionStarted& started) {
                     return said(event, "assistant", null_cell, started.greeting, null_cell, false, out);
                   },
                   [&](const domain::MessageReceived& received) {
                     return said(event, "user", received.turn_id, received.text, null_cell, false, out);
                   },
                   [&](const domain::AssistantReplied& replied) {
                     return said(event, "assistant", replied.turn_id, replied.text, replied.source, replied.error, out);
                   },
                   [&](const domain::UserErased&) -> result<void> {
                     if (auto person = check_person(event); !person) return person;
                     out.emplace_back(Erase{conversation_messages,
                                            {{message::session_id, event.stream}, {message::user_key, event.meta->user}}});
                     return {};
                   },
                   [](const auto&) -> result<void> { return {}; }},
        event.recorded.event);
  }

 private:
  /// What can no longer be read is not written: the UserErased that follows would delete it.
  static result<void> said(const codec::DecodedEvent& event, const char* role, Cell turn_id, const domain::Personal& text,
                           Cell source, bool error, RowOperations& out) {
    if (auto person = check_person(event); !person) return person;
    if (text.erased) return {};
    Row(conversation_messages, event.stream, static_cast<std::int64_t>(event.recorded.version), event.meta->user)
        .set(message::timestamp, event.recorded.time)
        .set(message::role, role)
        .set(message::turn_id, std::move(turn_id))
        .set(message::text, text.text)
        .set(message::source, std::move(source))
        .set(message::error, error)
        .into(out);
    return {};
  }
};

}  // namespace

std::unique_ptr<Projection> make_conversation_projection() { return std::make_unique<ConversationProjection>(); }

}  // namespace onboarding::projections

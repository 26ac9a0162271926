#include "projections/models/models.hpp"
#include "projections/models/rows.hpp"

namespace onboarding::projections {

namespace {

using namespace rows;

enum ModelTable : std::size_t { conversation_messages };
namespace message {
enum Column : std::size_t { session_id, version, timestamp, role, turn_id, text, source, error };
}

std::vector<Table> conversation_tables() {
  return {{.name = "conversation_messages",
           .columns = {{"session_id", "text", Combine::key},
                       {"version", "bigint", Combine::key},
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
  ConversationProjection() : NamedProjection("conversation", 1, conversation_tables()) {}

  result<void> apply(const codec::DecodedEvent& event, RowOperations& out) const override {
    std::visit(Overloaded{[&](const domain::SessionStarted& started) {
                            said(event, "assistant", null_cell, started.greeting, null_cell, false, out);
                          },
                          [&](const domain::MessageReceived& received) {
                            said(event, "user", received.turn_id, received.text, null_cell, false, out);
                          },
                          [&](const domain::AssistantReplied& replied) {
                            said(event, "assistant", replied.turn_id, replied.text, replied.source, replied.error, out);
                          },
                          [&](const domain::UserErased&) {
                            out.emplace_back(Erase{conversation_messages, {{message::session_id, event.stream}}});
                          },
                          [](const auto&) {}},
               event.recorded.event);
    return {};
  }

 private:
  /// What can no longer be read is not written: the UserErased that follows would delete it.
  static void said(const codec::DecodedEvent& event, const char* role, Cell turn_id, const domain::Personal& text, Cell source,
                   bool error, RowOperations& out) {
    if (text.erased) return;
    Row(conversation_messages, event.stream, static_cast<std::int64_t>(event.recorded.version))
        .set(message::timestamp, event.recorded.time)
        .set(message::role, role)
        .set(message::turn_id, std::move(turn_id))
        .set(message::text, text.text)
        .set(message::source, std::move(source))
        .set(message::error, error)
        .into(out);
  }
};

}  // namespace

std::unique_ptr<Projection> make_conversation_projection() { return std::make_unique<ConversationProjection>(); }

}  // namespace onboarding::projections

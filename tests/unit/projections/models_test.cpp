// Given events, then row operations.
#include "projections/models/models.hpp"

#include <gtest/gtest.h>

#include "projections/core/fold.hpp"

namespace onboarding::projections {
namespace {

class Models : public ::testing::Test {
 protected:
  /// The rows of one table after these events of one session, as column → cell.
  std::vector<std::map<std::string, Cell>> rows(const Projection& projection, const std::string& table,
                                                std::vector<domain::Event> events) {
    Fold fold(projection);
    for (domain::Event& event : events) {
      codec::DecodedEvent decoded;
      ++version_;
      decoded.recorded = {version_, version_, time_, std::move(event)};
      decoded.partition = 3;
      decoded.stream = "ses_1";
      decoded.meta = meta_;
      decoded.erased = erased_;
      RowOperations operations;
      EXPECT_TRUE(projection.apply(decoded, operations));
      fold.add(std::move(operations));
    }
    std::vector<std::map<std::string, Cell>> found;
    for (const FoldedTable& folded : fold.tables()) {
      if (folded.table().name != table) continue;
      for (const FoldedRow& row : folded.rows()) {
        if (row.mask == 0) continue;
        auto& named = found.emplace_back();
        for (std::size_t i = 0; i < row.cells.size(); ++i) {
          if (row.has(i)) named[folded.table().columns[i].name] = row.cells[i];
        }
      }
    }
    return found;
  }
  domain::SessionStarted started() {
    domain::SessionStarted event;
    event.user_id = "zoe";
    event.flow = "default";
    event.plan = "pro";
    event.asks = {"full_name"};
    event.greeting = "Hello";
    return event;
  }
  domain::AssistantReplied replied(std::vector<std::string> asks = {}) {
    return {"t", "Thanks", std::move(asks), "openai", false};
  }
  static Cell count(std::int64_t n) { return n; }

  std::uint64_t version_ = 0;
  domain::Timestamp time_{std::chrono::hours(24 * 365 * 56) + std::chrono::seconds(61)};
  std::shared_ptr<codec::RecordMeta> meta_ = [] {
    auto meta = std::make_shared<codec::RecordMeta>();
    meta->user = "key-of-zoe";
    meta->plan = "pro";
    return meta;
  }();
  bool erased_ = false;
};

TEST_F(Models, messages_count_up_to_and_including_the_completing_reply) {
  const auto row =
      rows(*make_sessions_projection(), "onboarding_sessions",
           {started(), domain::MessageReceived{"t", "hi", {}, {}}, replied(), domain::MessageReceived{"u", "done", {}, {}},
            replied(), domain::SessionCompleted{"u"}, domain::MessageReceived{"v", "oh", {}, {}}, replied()})
          .at(0);
  EXPECT_EQ(row.at("total_messages_count"), count(4));
  EXPECT_EQ(row.at("status"), Cell{std::string("completed")});
}

TEST_F(Models, a_resumed_session_is_active_again_and_no_longer_abandoned_anywhere) {
  const std::vector<domain::Event> events = {started(), domain::SessionAbandoned{"email"}, domain::SessionResumed{}};
  const auto session = rows(*make_sessions_projection(), "onboarding_sessions", events).at(0);
  EXPECT_EQ(session.at("status"), Cell{std::string("active")});
  EXPECT_EQ(session.at("abandoned_at"), Cell{});
  const auto analytics = rows(*make_sessions_projection(), "session_analytics", events).at(0);
  EXPECT_EQ(analytics.at("abandonment_at_field"), Cell{});
  EXPECT_EQ(analytics.at("abandonments"), count(1));
}

TEST_F(Models, every_field_that_was_asked_is_remembered_once) {
  const auto row =
      rows(*make_sessions_projection(), "session_analytics", {started(), replied({"email"}), replied({"email", "goal"})}).at(0);
  EXPECT_EQ(row.at("asked_fields"), Cell(Members{{"email", true}, {"full_name", true}, {"goal", true}}));
}

TEST_F(Models, a_corrected_value_replaces_the_extracted_one) {
  const auto row = rows(*make_profile_projection(), "user_profiles",
                        {started(), domain::FieldExtracted{"t", "email", {domain::FieldType::email, "a@b.org"}, true},
                         domain::FieldCorrected{"t", "email", {domain::FieldType::email, "c@d.org"}, true}})
                       .at(0);
  EXPECT_EQ(row.at("fields"), Cell(Members{{"email", std::string("c@d.org")}}));
  EXPECT_EQ(row.at("user_key"), Cell{std::string("key-of-zoe")});
  EXPECT_EQ(row.at("position"), Cell{std::string("3:3")});
}

TEST_F(Models, a_declined_fields_value_is_withdrawn) {
  const std::vector<domain::Event> events = {started(),
                                             domain::FieldExtracted{"t", "email", {domain::FieldType::email, "a@b.org"}, true},
                                             domain::FieldDeclined{"u", "email"}};
  EXPECT_EQ(rows(*make_profile_projection(), "user_profiles", events).at(0).at("fields"),
            Cell(Members{{"email", std::monostate()}}));
  EXPECT_EQ(rows(*make_sessions_projection(), "session_analytics", events).at(0).at("filled_fields"),
            Cell(Members{{"email", false}}));
}

TEST_F(Models, what_can_no_longer_be_read_is_written_nowhere) {
  erased_ = true;
  domain::SessionStarted forgotten = started();
  forgotten.user_id = forgotten.greeting = domain::Personal::forgotten();
  const std::vector<domain::Event> events = {forgotten, domain::MessageReceived{"t", domain::Personal::forgotten(), {}, {}},
                                             domain::FieldExtracted{"t", "email", {domain::FieldType::email, ""}, true}};
  EXPECT_TRUE(rows(*make_conversation_projection(), "conversation_messages", events).empty());
  const auto profile = rows(*make_profile_projection(), "user_profiles", events).at(0);
  EXPECT_FALSE(profile.contains("fields"));
  EXPECT_EQ(profile.at("user_id"), Cell{});
}

TEST_F(Models, usage_counts_what_providers_reported_by_day_and_plan) {
  domain::Usage usage;
  usage.input_tokens = 10;
  usage.output_tokens = 2;
  const auto found = rows(*make_usage_projection(), "token_usage",
                          {domain::LlmCallSucceeded{"t", 1, "openai", "m", "p", "2026", usage, 100, {}},
                           domain::LlmCallFailed{"t", 2, "openai", "m", "p", "2026", {}, 50, "timeout", "provider", {}}});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].at("plan"), Cell{std::string("pro")});
  EXPECT_EQ(found[0].at("calls"), count(2));
  EXPECT_EQ(found[0].at("failed_calls"), count(1));
  EXPECT_EQ(found[0].at("unreported_calls"), count(1));
  EXPECT_EQ(found[0].at("input_tokens"), count(10));
  EXPECT_EQ(found[0].at("latency_ms"), count(150));
  EXPECT_EQ(found[0].at("unpriced_calls"), count(2));  // nobody knows what "m" costs
}

TEST_F(Models, a_calls_cost_is_its_sessions_and_its_days) {
  domain::Usage usage;
  usage.input_tokens = 1000;
  usage.output_tokens = 100;
  const std::vector<domain::Event> events = {
      started(), domain::LlmCallSucceeded{"t", 1, "openai", "gpt-6-luna", "p", "2026", usage, 100, {}}};
  EXPECT_EQ(rows(*make_usage_projection(), "token_usage", events).at(0).at("cost_nanodollars"), count(1000 * 100 + 100 * 500));
  EXPECT_EQ(rows(*make_sessions_projection(), "session_analytics", events).at(0).at("cost_nanodollars"),
            count(1000 * 100 + 100 * 500));
}

TEST_F(Models, a_session_event_without_a_person_is_poison) {
  meta_->user.clear();
  codec::DecodedEvent event;
  event.recorded.event = started();
  event.meta = meta_;
  RowOperations operations;
  EXPECT_FALSE(make_profile_projection()->apply(event, operations));
}

}  // namespace
}  // namespace onboarding::projections

#include "events/ids.hpp"
#include "projections/models/models.hpp"
#include "projections/models/rows.hpp"

namespace onboarding::projections {

namespace {

using namespace rows;

enum ModelTable : std::size_t { users, user_profiles };
namespace user {
enum Column : std::size_t { key, user_id, vouched, sessions_started, created_at, last_started_at };
}
namespace profile {
enum Column : std::size_t { key, user_id, vouched, fields, field_types, created_at, updated_at, position };
}

std::vector<Table> profile_tables() {
  return {{.name = "users",
           .columns = {{"user_key", "text", Combine::key},
                       {"user_id", "text"},
                       {"vouched", "boolean"},
                       {"sessions_started", "bigint", Combine::add},
                       {"created_at", "timestamptz", Combine::least},
                       {"last_started_at", "timestamptz", Combine::greatest}}},
          {.name = "user_profiles",
           .columns = {{"user_key", "text", Combine::key},
                       {"user_id", "text"},
                       {"vouched", "boolean"},
                       {"fields", "jsonb", Combine::merge},
                       {"field_types", "jsonb", Combine::merge},
                       {"created_at", "timestamptz", Combine::least},
                       {"updated_at", "timestamptz", Combine::greatest},
                       {"position", "text"}}}};
}

class ProfileProjection : public NamedProjection {
 public:
  ProfileProjection() : NamedProjection("profile", 2, profile_tables()) {}

  result<void> apply(const codec::DecodedEvent& event, RowOperations& out) const override {
    const auto& recorded = event.recorded;
    return std::visit(Overloaded{[&](const domain::SessionStarted& started) -> result<void> {
                                   if (auto person = check_person(event); !person) return person;
                                   Row(users, event.meta->user)
                                       .set(user::user_id, cell_of(started.user_id))
                                       .set(user::vouched, started.vouched)
                                       .set(user::sessions_started, one())
                                       .set(user::created_at, recorded.time)
                                       .set(user::last_started_at, recorded.time)
                                       .into(out);
                                   Row(user_profiles, event.meta->user)
                                       .set(profile::user_id, cell_of(started.user_id))
                                       .set(profile::vouched, started.vouched)
                                       .set(profile::created_at, recorded.time)
                                       .set(profile::updated_at, recorded.time)
                                       .set(profile::position, to_string(event.position()))
                                       .into(out);
                                   return {};
                                 },
                                 [&](const domain::FieldExtracted& extracted) {
                                   return value(event, extracted.field, extracted.value, extracted.sensitive, out);
                                 },
                                 [&](const domain::FieldCorrected& corrected) {
                                   return value(event, corrected.field, corrected.value, corrected.sensitive, out);
                                 },
                                 [&](const domain::FieldDeclined& declined) -> result<void> {
                                   if (auto person = check_person(event); !person) return person;
                                   changed(event, declined.field, std::monostate(), std::monostate(), out);
                                   return {};
                                 },
                                 [&](const domain::UserErased&) -> result<void> {
                                   if (auto person = check_person(event); !person) return person;
                                   out.emplace_back(Erase{users, {{user::key, event.meta->user}}});
                                   out.emplace_back(Erase{user_profiles, {{profile::key, event.meta->user}}});
                                   return {};
                                 },
                                 [](const auto&) -> result<void> { return {}; }},
                      recorded.event);
  }

 private:
  static result<void> value(const codec::DecodedEvent& event, const std::string& field, const domain::FieldValue& value,
                            bool sensitive, RowOperations& out) {
    if (auto person = check_person(event); !person) return person;
    if (event.erased && sensitive) return {};  // the value is gone; the row goes with the UserErased that follows
    changed(event, field, value.canonical, std::string(domain::to_string(value.type)), out);
    return {};
  }
  static void changed(const codec::DecodedEvent& event, const std::string& field, Members::mapped_type value,
                      Members::mapped_type type, RowOperations& out) {
    Row(user_profiles, event.meta->user)
        .set(profile::fields, Members{{field, std::move(value)}})
        .set(profile::field_types, Members{{field, std::move(type)}})
        .set(profile::updated_at, event.recorded.time)
        .set(profile::position, to_string(event.position()))
        .into(out);
  }
};

}  // namespace

std::unique_ptr<Projection> make_profile_projection() { return std::make_unique<ProfileProjection>(); }

}  // namespace onboarding::projections

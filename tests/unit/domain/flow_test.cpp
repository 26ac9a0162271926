#include "events/domain/flow.hpp"

#include "events/domain/errc.hpp"
#include "events/domain/text.hpp"
#include "tests/unit/domain/harness.hpp"

namespace onboarding::domain::testing {
namespace {

TEST(DefaultFlow, is_the_contracts_six_fields_and_makes_sense) {
  const Flow& flow = default_flow();
  EXPECT_TRUE(check(flow)) << check(flow).error().message();
  std::vector<std::pair<std::string, std::string_view>> fields;
  for (const FieldSpec& field : flow.fields) {
    fields.emplace_back(field.name, to_string(field.type));
    EXPECT_TRUE(field.required && field.sensitive);
  }
  EXPECT_EQ(fields, (std::vector<std::pair<std::string, std::string_view>>{{"full_name", "person_name"},
                                                                           {"email", "email"},
                                                                           {"company", "company"},
                                                                           {"role", "text"},
                                                                           {"team_size", "integer"},
                                                                           {"goal", "text"}}));
  EXPECT_EQ(flow.find("team_size")->min, 1);
  EXPECT_EQ(flow.find("team_size")->max, 1'000'000);
  EXPECT_EQ(flow.find("nothing"), nullptr);
}

TEST(FieldTypes, have_names_that_lead_back_to_them) {
  for (int i = 0; i <= static_cast<int>(FieldType::company); ++i)
    EXPECT_EQ(field_type(to_string(static_cast<FieldType>(i))), static_cast<FieldType>(i));
  EXPECT_EQ(field_type("emial"), std::nullopt);
}

Flow sound() {
  Flow flow;
  flow.name = "flow";
  FieldSpec role = spec("role", FieldType::choice);
  role.options = {{"student", {"a student"}}, {"employee", {}}};
  FieldSpec school = spec("school", FieldType::text);
  school.when = Condition{"role", Condition::Operator::is, "student"};
  flow.fields = {role, school, spec("size", FieldType::integer), spec("phone", FieldType::phone)};
  return flow;
}

template <class Change>
std::string complaint(Change change) {
  Flow flow = sound();
  change(flow);
  const auto checked = check(flow);
  if (checked) return "";
  EXPECT_EQ(checked.error().code, Errc::bad_flow);
  return checked.error().detail;
}

TEST(CheckFlow, accepts_a_sound_one) {
  EXPECT_EQ(complaint([](Flow&) {}), "");
}
TEST(CheckFlow, names_the_field_and_the_rule) {
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].name = "Size"; }), "field 'Size': the name must be [a-z][a-z0-9_]{0,62}");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].name = "role"; }), "field 'role': the name is used twice");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].name = "\xFF"; }), "field 2: the name must be [a-z][a-z0-9_]{0,62}");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].prompt = " "; }), "field 'size': the prompt is blank, too long or not text");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].min = 5, f.fields[2].max = 4; }), "field 'size': min is above max");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].min = std::numeric_limits<double>::quiet_NaN(); }),
            "field 'size': min and max must be finite");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].min = 5; }), "field 'school': min and max are for integer and number only");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].min_length = 5, f.fields[1].max_length = 4; }),
            "field 'school': min_length is above max_length");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].max_length = 0; }), "field 'school': max_length must be 1 to 4096");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].max_length = 3; }),
            "field 'size': lengths are for text, company and person_name only");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].pattern = "("; }), "field 'school': the pattern is not a regular expression");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].pattern = "a"; }), "field 'size': a pattern is for text only");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[3].region = "de"; }), "field 'phone': the region is not an ISO 3166-1 alpha-2 code");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].region = "DE"; }), "field 'school': a region is for phone and postal_code only");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[0].options.clear(); }), "field 'role': a choice needs 1 to 500 options");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[0].options[1].value = "student"; }),
            "field 'role': two options have the same value");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[0].options[1].labels = {"a student"}; }), "field 'role': two options share a label");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[2].options = {{"a", {}}}; }), "field 'size': options are for choice only");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].when->field = "phone"; }),
            "field 'school': the condition names no earlier field");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].when->field = "school"; }),
            "field 'school': the condition names no earlier field");
  EXPECT_EQ(complaint([](Flow& f) { f.fields[1].when->value = "Student"; }),
            "field 'school': the condition's field can never have that value");
}
TEST(CheckFlow, bounds_the_whole) {
  EXPECT_EQ(complaint([](Flow& f) { f.name = "Flow"; }), "the flow's name must be [a-z][a-z0-9_-]{0,62}");
  EXPECT_EQ(complaint([](Flow& f) { f.version = 0; }), "the flow's version must be 1 or more");
  EXPECT_EQ(complaint([](Flow& f) { f.locale = "en us"; }), "the flow's locale is not a language tag");
  EXPECT_EQ(complaint([](Flow& f) { f.greeting = "\xFF"; }), "the flow's greeting is blank, too long or not text");
  EXPECT_EQ(complaint([](Flow& f) { f.fields.clear(); }), "a flow needs 1 to 200 fields");
  EXPECT_EQ(complaint([](Flow& f) {
              for (int i = 0; i < 200; ++i) f.fields.push_back(spec("f" + std::to_string(i), FieldType::text));
            }),
            "a flow needs 1 to 200 fields");
}

TEST(FixedFlowCatalog, finds_versions_and_the_newest) {
  Flow first = sound();
  Flow second = sound();
  second.version = 2;
  const FixedFlowCatalog catalog({second, first});
  EXPECT_EQ(catalog.find("flow", 1)->version, 1U);
  EXPECT_EQ(catalog.newest("flow")->version, 2U);
  EXPECT_EQ(catalog.find("flow", 3), nullptr);
  EXPECT_EQ(catalog.newest("none"), nullptr);
}

TEST(Text, is_mended_between_code_points) {
  EXPECT_EQ(to_text("a\xFFz", 10), "a\uFFFDz");
  EXPECT_EQ(to_text("h\u00e9h\u00e9", 4), "h\u00e9h");
  EXPECT_EQ(to_text("h\u00e9h\u00e9", 5), "h\u00e9h");
  EXPECT_EQ(to_text(std::string("a\0b", 3), 10), "a\uFFFDb");
  EXPECT_EQ(enumerate({"a", "b", "c"}), "a, b and c");
}

}  // namespace
}  // namespace onboarding::domain::testing

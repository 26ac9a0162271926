// Every error code of every folder that a request can meet has a line of its own in the problem table, or is meant to be
// an internal error: a code that somebody adds and forgets here fails this test.
#include "http/problem.hpp"

#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <set>

#include "actors/gateway.hpp"
#include "events/codec/codec.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/queries.hpp"

namespace onboarding::http {
namespace {

/// How many codes the enum has: a category answers an unknown one like any other unknown one.
template <class Code>
int codes_of() {
  const auto& category = make_error_code(static_cast<Code>(1)).category();
  const auto unknown = category.message(9'999);
  int code = 1;
  while (category.message(code) != unknown) ++code;
  return code - 1;
}

template <class Code>
void expect_complete(int least, const std::set<Code>& internal) {
  const int codes = codes_of<Code>();
  EXPECT_GE(codes, least);
  for (int value = 1; value <= codes; ++value) {
    const auto code = make_error_code(static_cast<Code>(value));
    const auto kind = problem_kind(code);
    EXPECT_FALSE(kind.slug.empty() || kind.title.empty()) << code.message();
    EXPECT_EQ(kind.status == 500, internal.count(static_cast<Code>(value)) == 1)
        << code.category().name() << ": " << code.message() << " is " << kind.status;
    if (kind.status == 503 || kind.status == 429) { EXPECT_GT(kind.retry_after_seconds, 0u) << code.message(); }
  }
}

TEST(ProblemTable, has_a_line_for_every_code) {
  expect_complete<GatewayErrc>(16, {});
  expect_complete<projections::Errc>(6, {});
  expect_complete<log::Errc>(7, {log::Errc::corrupt, log::Errc::shorter_than_head, log::Errc::wrong_layout, log::Errc::locked,
                                 log::Errc::out_of_bounds});
  expect_complete<codec::Errc>(5, {codec::Errc::unknown_type, codec::Errc::unknown_schema});
  expect_complete<privacy::Errc>(4, {privacy::Errc::forged, privacy::Errc::bad_secret_file});
  for (int value = 1; value <= static_cast<int>(last_errc); ++value) {
    const auto code = static_cast<Errc>(value);
    EXPECT_EQ(problem_of(code).kind.status == 500, code == Errc::internal);
  }
}

TEST(ProblemTable, an_unknown_code_is_internal_and_shows_no_detail) {
  const auto problem = problem_of(Failure{std::make_error_code(std::errc::io_error), "a path on our disk"});
  EXPECT_EQ(problem.kind.status, 500);
  EXPECT_TRUE(problem.detail.empty());
}

TEST(Problem, is_written_as_rfc_9457_with_pointers) {
  const auto text = to_json(problem_of(Errc::invalid, "why", {{"/message", "is \"required\""}}), "/a", "req_1");
  rapidjson::Document json;
  json.Parse(text.c_str());
  ASSERT_FALSE(json.HasParseError());
  EXPECT_STREQ(json["type"].GetString(), "urn:onboarding:problem:invalid");
  EXPECT_EQ(json["status"].GetInt(), 422);
  EXPECT_STREQ(json["instance"].GetString(), "/a");
  EXPECT_STREQ(json["request_id"].GetString(), "req_1");
  EXPECT_STREQ(json["errors"][0]["pointer"].GetString(), "/message");
  EXPECT_EQ(to_json(problem_of(Errc::request_timeout), "", "req_1").find("instance"), std::string::npos);
}

}  // namespace
}  // namespace onboarding::http

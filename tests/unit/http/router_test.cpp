#include "http/router.hpp"

#include <gtest/gtest.h>

#include "http/openapi.hpp"
#include "http/throttle.hpp"

namespace onboarding::http {
namespace {

Router router() {
  Router router;
  router.add({.method = Method::get, .path = "/", .handler = {}});
  router.add({.method = Method::get, .path = "/a/{x}/b", .handler = {}});
  router.add({.method = Method::post, .path = "/a/{x}/b", .handler = {}});
  router.add({.method = Method::get, .path = "/a/{x}/{y}", .handler = {}});
  return router;
}

TEST(Router, finds_the_route_and_decodes_its_parameters) {
  const auto table = router();
  EXPECT_EQ(table.match(Method::get, "/").route->path, "/");
  const auto match = table.match(Method::get, "/a/%C3%A9%2Fz/b");
  EXPECT_EQ(match.route->path, "/a/{x}/b");
  EXPECT_EQ(match.parameters, std::vector<std::string>{"é/z"});
  EXPECT_EQ(table.match(Method::head, "/a/1/2").parameters, (std::vector<std::string>{"1", "2"}));
}

TEST(Router, tells_a_wrong_method_from_a_wrong_path) {
  const auto table = router();
  EXPECT_EQ(table.match(Method::delete_, "/a/1/b").allowed, "GET, POST, GET, HEAD, OPTIONS");
  for (const auto* path : {"/a", "/a/", "/a//b", "/a/1/b/", "//", "/a/../b/c/d", "*"}) {
    const auto match = table.match(Method::get, path);
    EXPECT_TRUE(match.route == nullptr && match.allowed.empty() && !match.malformed) << path;
  }
}

TEST(Router, refuses_paths_that_cannot_be_decoded) {
  const auto table = router();
  for (const auto* path : {"/a/%/b", "/a/%4/b", "/a/%zz/b", "/a/%00/b", "/a/%ff/b", "/a/%C0%AF/b"})
    EXPECT_TRUE(table.match(Method::get, path).malformed) << path;
}

TEST(Query, is_decoded_and_names_nothing_twice) {
  const auto query = parse_query("a=1&b=x+y%26&c&&d=");
  ASSERT_TRUE(query.has_value());
  EXPECT_EQ(*query, (std::vector<std::pair<std::string, std::string>>{{"a", "1"}, {"b", "x y&"}, {"c", ""}, {"d", ""}}));
  EXPECT_FALSE(parse_query("a=1&a=2").has_value());
  EXPECT_FALSE(parse_query("a=%").has_value());
  EXPECT_FALSE(parse_query("a=%00").has_value());
  EXPECT_EQ(percent_decode(percent_encode("ü /?#%")), "ü /?#%");
}

TEST(Throttle, gives_a_minute_s_worth_and_refills_steadily) {
  Throttle throttle(30, 100);
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(throttle.take("a", 1'000).admitted);
  const auto refused = throttle.take("a", 1'000);
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.reset_seconds, 2u);
  EXPECT_TRUE(throttle.take("b", 1'000).admitted) << "another client";
  EXPECT_TRUE(throttle.take("a", 3'001).admitted);
  EXPECT_FALSE(throttle.take("a", 3'001).admitted);
  EXPECT_FALSE(throttle.take("a", 0).admitted) << "a clock that goes back gives nothing";
}

TEST(Throttle, zero_switches_it_off_and_the_table_is_bounded) {
  Throttle off(0, 1);
  for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(off.take("a", 0).admitted);
  Throttle small(1, 10);
  for (int i = 0; i < 1'000; ++i) small.take(std::to_string(i), 0);
  EXPECT_EQ(small.clients(), 10u);
}

TEST(ClientAddress, forwarded_addresses_are_believed_from_trusted_proxies_only) {
  const std::vector<AddressBlock> trusted{*AddressBlock::parse("10.0.0.0/8"), *AddressBlock::parse("::1")};
  EXPECT_EQ(client_behind(trusted, "10.1.2.3", "1.1.1.1, 2.2.2.2, 10.9.9.9"), "2.2.2.2");
  EXPECT_EQ(client_behind(trusted, "3.3.3.3", "1.1.1.1"), "3.3.3.3");
  EXPECT_EQ(client_behind(trusted, "::1", "nonsense"), "::1");
  EXPECT_EQ(client_behind(trusted, "10.1.2.3", ""), "10.1.2.3");
  EXPECT_EQ(client_behind({}, "10.1.2.3", "1.1.1.1"), "10.1.2.3");
  for (const auto* text : {"", "10.0.0.0/33", "10.0.0.0/", "x", "::/129", "1.2.3"})
    EXPECT_FALSE(AddressBlock::parse(text).has_value()) << text;
  EXPECT_EQ(throttle_key("2001:db8::1"), throttle_key("2001:db8::2")) << "a /64 is one client";
  EXPECT_NE(throttle_key("1.1.1.1"), throttle_key("1.1.1.2"));
}

TEST(Yaml, reads_the_part_that_the_contract_is_written_in) {
  const auto document = parse_yaml(
      "a: 1 # one\nb:\n  - x: \"q: #\\n\"\n    y: [1, two, {z: true}]\n  -\n    w\nc: {d: {e: 1.5}, f: null}\n\"g h\":\n- i\n");
  ASSERT_TRUE(document.has_value()) << document.error().message();
  EXPECT_EQ((*document)["a"].GetInt(), 1);
  EXPECT_STREQ((*document)["b"][0]["x"].GetString(), "q: #\n");
  EXPECT_TRUE((*document)["b"][0]["y"][2]["z"].GetBool());
  EXPECT_STREQ((*document)["b"][1].GetString(), "w");
  EXPECT_EQ((*document)["c"]["d"]["e"].GetDouble(), 1.5);
  EXPECT_STREQ((*document)["g h"][0].GetString(), "i");
  for (const auto* text : {"a: [1", "a: 1\n   b: 2", "a: 1\na: 2", "a: &x 1", "a: \"b", "a: |\n  b"})
    EXPECT_FALSE(parse_yaml(text).has_value()) << text;
}

}  // namespace
}  // namespace onboarding::http

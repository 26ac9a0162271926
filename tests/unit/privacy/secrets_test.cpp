#include "events/privacy/secrets.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "events/fault_point.hpp"
#include "events/privacy/key_store.hpp"
#include "tests/unit/privacy/temporary_folder.hpp"

namespace onboarding::privacy {
namespace {

Secrets fixed(std::uint8_t fill = 1) {
  std::array<std::uint8_t, 32> master;
  master.fill(fill);
  return Secrets::from_bytes(master);
}

// ---- tokens

TEST(SessionTokens, are_the_same_for_the_same_session_and_generation) {
  EXPECT_EQ(fixed().session_token("ses_003_A", 1), fixed().session_token("ses_003_A", 1));
  EXPECT_NE(fixed().session_token("ses_003_A", 1), fixed().session_token("ses_003_A", 2));
  EXPECT_NE(fixed().session_token("ses_003_A", 1), fixed().session_token("ses_003_B", 1));
  EXPECT_NE(fixed().session_token("ses_003_A", 1), fixed(2).session_token("ses_003_A", 1));
}

TEST(SessionTokens, verify_to_what_they_were_made_from) {
  const auto token = fixed().verify_session_token(fixed().session_token("ses_003_A", 4294967295)).value();
  EXPECT_EQ(token.session_id, "ses_003_A");
  EXPECT_EQ(token.generation, 4294967295U);
}

TEST(SessionTokens, do_not_verify_when_any_byte_is_changed_added_or_lost) {
  const auto secrets = fixed();
  const auto good = secrets.session_token("ses_003_A", 12);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const char c : {'A', '0', '.', '\0', '\xff'}) {
      auto bad = good;
      if (bad[i] == c) continue;
      bad[i] = c;
      EXPECT_FALSE(secrets.verify_session_token(bad)) << i;
    }
    EXPECT_FALSE(secrets.verify_session_token(good.substr(0, i)));
  }
  EXPECT_FALSE(secrets.verify_session_token(good + "="));
  EXPECT_FALSE(fixed(2).verify_session_token(good)) << "another installation's";
}

TEST(SessionTokens, have_one_spelling) {
  const auto secrets = fixed();
  auto padded = secrets.session_token("ses_003_A", 7);
  padded.replace(padded.find(".7."), 3, ".07.");
  EXPECT_FALSE(secrets.verify_session_token(padded));
  EXPECT_FALSE(secrets.verify_session_token(""));
  EXPECT_FALSE(secrets.verify_session_token("ot1."));
  EXPECT_FALSE(secrets.verify_session_token("ot1.ses.99999999999.x"));
  EXPECT_FALSE(secrets.verify_session_token(std::string(100'000, '.')));
}

// ---- derived ids

TEST(DerivedIds, keep_their_values_for_ever) {
  // Logs, tokens and read models stand on these: a change here is a change of the format.
  const auto secrets = fixed();
  EXPECT_EQ(secrets.session_token("ses_003_A", 1), "ot1.ses_003_A.1.mZn-flAP68ceBXQpDMuMF9QdnCYyhKQqk8WNNWDBy08");
  EXPECT_EQ(secrets.blinded_user_id("zoe"), "aa151eb58af8a464856b6fb5c456347b");
  EXPECT_EQ(secrets.user_key("zoe", true, "ses_003_A"), "1dcc7f3a46b4461909bdc22144d8b712");
  EXPECT_EQ(secrets.user_key("zoe", false, "ses_003_A"), "13a12ac9e0844d3076e15d8e7c2c3408");
  EXPECT_EQ(secrets.key_hash("key-1"), "9770be9fd91d0b0f5c79c252d7433ca3");
}

TEST(DerivedIds, make_a_vouched_user_one_over_all_sessions_and_any_other_one_per_session) {
  const auto secrets = fixed();
  EXPECT_EQ(secrets.user_key("zoe", true, "s1"), secrets.user_key("zoe", true, "s2"));
  EXPECT_NE(secrets.user_key("zoe", false, "s1"), secrets.user_key("zoe", false, "s2"));
  EXPECT_NE(secrets.user_key("zoe", false, "s1"), secrets.user_key("zoe", true, "s1"));
  EXPECT_NE(secrets.user_key("zo", false, "es1"), secrets.user_key("zoe", false, "s1")) << "parts do not run together";
}

TEST(DerivedIds, are_apart_by_purpose) {
  const auto secrets = fixed();
  EXPECT_EQ(secrets.derived16("session", "k").size(), 16U);
  EXPECT_NE(secrets.derived16("session", "k"), secrets.derived16("user", "k"));
  EXPECT_NE(secrets.derived16("ab", "c"), secrets.derived16("a", "bc"));
  EXPECT_NE(secrets.blinded_user_id("x"), secrets.key_hash("x"));
  EXPECT_NE(secrets.wrapping_key(), secrets.cursor_key());
}

TEST(DerivedIds, hash_by_the_standard) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2
  EXPECT_TRUE(equal_secret("abc", "abc"));
  EXPECT_FALSE(equal_secret("abc", "abd"));
  EXPECT_FALSE(equal_secret("abc", "abcd"));
}

// ---- files

struct ASecretFile : testing::Test {
  TemporaryFolder folder;
  std::filesystem::path file = folder.path / "deep" / "master.key";

  std::string content() const {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::error_code refusal() const {
    const auto loaded = Secrets::load_or_create(file.parent_path());
    return loaded ? std::error_code{} : loaded.error().code;
  }
  void write(const std::string& text, mode_t mode = 0600) const {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
    ::chmod(file.c_str(), mode);
  }
};

TEST_F(ASecretFile, is_made_once_and_read_ever_after) {
  const auto first = Secrets::load_or_create(file.parent_path()).value();
  EXPECT_EQ(content().size(), 65U);
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(Secrets::load_or_create(file.parent_path()).value().wrapping_key(), first.wrapping_key());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file.parent_path()), {}), 1) << "nothing is left beside it";
}

TEST_F(ASecretFile, is_refused_when_others_may_read_it) {
  for (const mode_t mode : {0640U, 0604U, 0660U, 0620U}) {
    write(std::string(64, 'a') + "\n", mode);
    EXPECT_EQ(refusal(), Errc::bad_secret_file) << std::oct << mode;
  }
  write(std::string(64, 'a') + "\n");
  EXPECT_EQ(refusal(), std::error_code{});
}

TEST_F(ASecretFile, is_refused_when_it_is_not_what_it_should_be) {
  for (const auto& text : {std::string(), std::string("\n"), std::string(63, 'a'), std::string(66, 'a'), std::string(64, 'g'),
                           std::string(64, 'a') + "\nx"}) {
    write(text);
    EXPECT_EQ(refusal(), Errc::bad_secret_file) << text;
  }
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  EXPECT_EQ(refusal(), Errc::bad_secret_file);
  std::filesystem::remove(file);
  std::filesystem::create_symlink("/etc/hostname", file);
  EXPECT_EQ(refusal(), Errc::bad_secret_file);
}

TEST_F(ASecretFile, is_the_same_for_all_who_make_it_at_once) {
  std::vector<std::array<std::uint8_t, 32>> keys(8);
  std::vector<std::thread> threads;
  for (auto& key : keys) threads.emplace_back([&] { key = Secrets::load_or_create(file.parent_path()).value().wrapping_key(); });
  for (auto& thread : threads) thread.join();
  for (const auto& key : keys) EXPECT_EQ(key, keys[0]);
}

TEST_F(ASecretFile, is_whole_or_missing_when_making_it_fails) {
  FaultPoint::arm("secrets.before_link=error");
  EXPECT_EQ(refusal(), Errc::bad_secret_file);
  EXPECT_TRUE(std::filesystem::is_empty(file.parent_path()));
  FaultPoint::arm("secrets.after_link=error");
  EXPECT_EQ(refusal(), Errc::bad_secret_file);
  EXPECT_EQ(content().size(), 65U);
  FaultPoint::arm("");
  EXPECT_EQ(refusal(), std::error_code{});
}

TEST_F(ASecretFile, of_the_operator_is_one_line_that_can_be_typed) {
  const auto key = Secrets::load_or_create_operator_key(folder.path).value();
  EXPECT_EQ(key.size(), 43U);
  EXPECT_EQ(key.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), key.npos);
  EXPECT_EQ(Secrets::load_or_create_operator_key(folder.path).value(), key);
}

TEST(PrivacyErrors, each_have_a_sentence) {
  for (int code = 1; code <= static_cast<int>(Errc::bad_secret_file); ++code)
    EXPECT_NE(make_error_code(static_cast<Errc>(code)).message(), make_error_code(static_cast<Errc>(0)).message());
}

}  // namespace
}  // namespace onboarding::privacy

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <sstream>

#include "infra/app/config/config.hpp"

namespace onboarding::app {
namespace {

using ::testing::HasSubstr;

class ConfigurationFile : public ::testing::Test {
 protected:
  ConfigurationFile() {
    std::string pattern = ::testing::TempDir() + "config.XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  ~ConfigurationFile() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& content) {
    std::ofstream(folder_ / "onboard.toml") << content;
    return folder_ / "onboard.toml";
  }
  result<Configuration> load(const std::string& content, Pairs environment = {}, Pairs flags = {}) {
    Sources sources;
    sources.file = write(content);
    sources.environment = std::move(environment);
    sources.flags = std::move(flags);
    return Configuration::load(sources);
  }
  std::string complaint(const std::string& content, Pairs environment = {}, Pairs flags = {}) {
    const auto loaded = load(content, std::move(environment), std::move(flags));
    return loaded ? "" : loaded.error().detail;
  }

  std::filesystem::path folder_;
};

TEST_F(ConfigurationFile, says_file_line_and_key_of_an_unknown_key_and_what_was_probably_meant) {
  EXPECT_THAT(complaint("[http]\n\nlisten_on = \"127.0.0.1:1\"\n"),
              HasSubstr("onboard.toml:3: unknown key http.listen_on; did you mean http.listen?"));
  EXPECT_THAT(complaint("[model.opanai]\nweight = 1\n"),
              HasSubstr("onboard.toml:2: unknown key model.opanai.weight; did you mean model.openai.weight?"));
  EXPECT_THAT(complaint("[htp]\n"), HasSubstr("onboard.toml:1: unknown key htp"));
}

TEST_F(ConfigurationFile, says_file_line_and_key_of_a_bad_value) {
  EXPECT_THAT(complaint("[postgres]\npool_size = \"ten\"\n"),
              HasSubstr("onboard.toml:2: postgres.pool_size: the value is not a whole number"));
  EXPECT_THAT(complaint("[postgres]\npool_size = 0\n"),
              HasSubstr("onboard.toml:2: postgres.pool_size: \"0\" is not between 1 and 1000"));
  EXPECT_THAT(complaint("[postgres]\npool_size = 1.5\n"), HasSubstr("is not a whole number"));
  EXPECT_THAT(complaint("[postgres]\npre_ping = 1\n"), HasSubstr("postgres.pre_ping: the value is not a true or false"));
  EXPECT_THAT(complaint("[log]\nkind = \"mysql\"\n"), HasSubstr("log.kind: \"mysql\" is none of sqlite, kafka, memory"));
  EXPECT_THAT(complaint("[http]\nlisten = \"8080\"\n"), HasSubstr("http.listen: \"8080\" is not host:port"));
  EXPECT_THAT(complaint("[http]\nlisten = \"::1:8080\"\n"), HasSubstr("brackets"));
  EXPECT_THAT(complaint("[http]\nlisten = \"127.0.0.1:70000\"\n"), HasSubstr("no port"));
  EXPECT_THAT(complaint("[model.openai]\nbase_url = \"ftp://x\"\n"), HasSubstr("http://"));
  EXPECT_THAT(complaint("[http\n"), HasSubstr("onboard.toml:1"));
  EXPECT_THAT(complaint("[http]\nlisten = 1979-05-27\n"), HasSubstr("http.listen"));
}

TEST_F(ConfigurationFile, a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default) {
  const std::string file = "[sessions]\nmax_messages = 1\n";
  EXPECT_EQ(load("")->integer("sessions.max_messages"), 200);
  EXPECT_EQ(load(file)->integer("sessions.max_messages"), 1);
  EXPECT_EQ(load(file, {{"ONBOARD_SESSIONS_MAX_MESSAGES", "2"}})->integer("sessions.max_messages"), 2);
  const auto all = load(file, {{"ONBOARD_SESSIONS_MAX_MESSAGES", "2"}}, {{"sessions.max_messages", "3"}});
  EXPECT_EQ(all->integer("sessions.max_messages"), 3);
  EXPECT_EQ(all->source("sessions.max_messages"), "flag");
  EXPECT_EQ(load(file, {{"ONBOARD_SESSIONS_MAX_MESSAGES", "2"}})->source("sessions.max_messages"),
            "environment ONBOARD_SESSIONS_MAX_MESSAGES");
}

TEST_F(ConfigurationFile, the_providers_usual_variables_work_and_ours_are_more_precise) {
  auto c = load("", {{"OPENAI_API_KEY", "usual"}, {"OPENAI_BASE_URL", "http://127.0.0.1:9/v1/"}});
  EXPECT_EQ(c->text("model.openai.api_key"), "usual");
  EXPECT_EQ(c->text("model.openai.base_url"), "http://127.0.0.1:9/v1");
  c = load("", {{"ONBOARD_MODEL_OPENAI_API_KEY", "ours"}, {"OPENAI_API_KEY", "usual"}});
  EXPECT_EQ(c->text("model.openai.api_key"), "ours");
  for (const char* name : {"GEMINI", "DEEPSEEK", "ANTHROPIC"}) {
    const std::string lower = name == std::string("GEMINI")     ? "gemini"
                              : name == std::string("DEEPSEEK") ? "deepseek"
                                                                : "anthropic";
    c = load("", {{std::string(name) + "_API_KEY", "k"}, {std::string(name) + "_BASE_URL", "https://h"}});
    EXPECT_EQ(c->text("model." + lower + ".api_key"), "k");
    EXPECT_EQ(c->text("model." + lower + ".base_url"), "https://h");
  }
}

TEST_F(ConfigurationFile, a_bad_variable_and_a_bad_flag_are_named) {
  EXPECT_THAT(complaint("", {{"ONBOARD_MODEL_OPENAI_WEIGHT", "heavy"}}),
              HasSubstr("environment ONBOARD_MODEL_OPENAI_WEIGHT: model.openai.weight"));
  EXPECT_THAT(complaint("", {}, {{"http.lisen", "x"}}), HasSubstr("did you mean http.listen?"));
}

TEST_F(ConfigurationFile, a_misspelt_variable_is_an_error_that_names_the_nearest_setting) {
  EXPECT_THAT(complaint("", {{"ONBOARD_HTTP_LISEN", "x"}}),
              HasSubstr("environment ONBOARD_HTTP_LISEN: no such setting; did you mean ONBOARD_HTTP_LISTEN?"));
  EXPECT_THAT(complaint("", {{"ONBOARD_POSGRES_URL", "x"}}), HasSubstr("did you mean ONBOARD_POSTGRES_URL?"));
  EXPECT_THAT(complaint("", {{"ONBOARD_SESSIONS_WHATEVER", "x"}}), HasSubstr("ONBOARD_SESSIONS_WHATEVER: no such setting"));
  EXPECT_THAT(complaint("", {{"ONBOARD_DATADIR", "x"}}), HasSubstr("did you mean ONBOARD_DATA_DIR?"));
  EXPECT_THAT(complaint("", {{"ONBOARD_DATA_DRI", "x"}}), HasSubstr("did you mean ONBOARD_DATA_DIR?"));
  EXPECT_THAT(complaint("", {{"ONBOARD_CONFIGS", "x"}}), HasSubstr("did you mean ONBOARD_CONFIG?"));
  EXPECT_THAT(complaint("", {{"ONBOARD_FAULTS", "x"}}), HasSubstr("did you mean ONBOARD_FAULT?"));
}

TEST_F(ConfigurationFile, what_a_cluster_injects_for_a_service_is_not_ours_and_is_never_taken_for_a_setting) {
  for (const auto& [name, value] : std::map<std::string, std::string>{{"ONBOARD_HTTP_NAME", "/web/onboard-http"},
                                                                      {"ONBOARD_HTTP_ENV_PATH", "/usr/bin"},
                                                                      {"ONBOARD_HTTP_PORT_1_SCTP", "sctp://10.0.0.1:1"},
                                                                      {"ONBOARD_HTTP_PORT_1_SCTP_PROTO", "sctp"},
                                                                      {"ONBOARD_HTTP_PORT_1_SCTP_PORT", "1"},
                                                                      {"ONBOARD_HTTP_PORT_80_TCP_ADDR", "10.0.0.1"},
                                                                      {"ONBOARD_HTTP_PORT", "sctp://10.0.0.1:1"}})
    EXPECT_EQ(complaint("", {{name, value}}), "") << name;
  EXPECT_THAT(complaint("", {{"ONBOARD_HTTP_NAME", "x"}}), HasSubstr("no such setting")) << "a link's name is a path";
  for (const char* value : {"tcp://10.0.0.1:80", "udp://10.0.0.1:80", "sctp://10.0.0.1:80"})
    EXPECT_THAT(complaint("", {{"ONBOARD_HTTP_LISTEN", value}}),
                HasSubstr("environment ONBOARD_HTTP_LISTEN: looks like what a cluster injected for a service of that name"));
}

TEST_F(ConfigurationFile, a_variable_that_resembles_no_setting_is_told_and_somebody_elses_is_not) {
  const auto c = load("", {{"ONBOARD_TEST_POSTGRES_URL", "x"},
                           {"ONBOARD_HTTP_SERVICE_HOST", "10.0.0.1"},
                           {"ONBOARD_HTTP_PORT", "tcp://10.0.0.1:80"},
                           {"ONBOARD_DATA_DIR", "y"},
                           {"HOME", "z"}});
  EXPECT_THAT(c->strange_variables(),
              ::testing::ElementsAre("ONBOARD_TEST_POSTGRES_URL", "ONBOARD_HTTP_SERVICE_HOST", "ONBOARD_HTTP_PORT"));
}

TEST_F(ConfigurationFile, secrets_are_never_printed_and_never_complained_about_by_value) {
  const auto c = load("[model.openai]\napi_key = \"sk-very-hidden\"\n[postgres]\nurl = \"postgresql://u:pw-hidden@h/d\"\n");
  EXPECT_THAT(c->print(), ::testing::Not(HasSubstr("hidden")));
  EXPECT_THAT(c->print(), HasSubstr("api_key = \"(set)\""));
}

TEST_F(ConfigurationFile, what_is_printed_can_be_read_again_and_says_the_same) {
  const auto first = load(
      "[http]\ncors_origins = [\"https://a.example\", \"https://b.example\"]\n[sessions]\npassivate_after_seconds = "
      "0.5\n[flows]\npath = 'a\"b\\c'\n");
  ASSERT_TRUE(first);
  const auto second = load(first->print(true));
  ASSERT_TRUE(second) << second.error().message();
  for (const Key& key : keys()) EXPECT_EQ(first->text(key.name), second->text(key.name)) << key.name;
  EXPECT_EQ(second->list("http.cors_origins"), (std::vector<std::string>{"https://a.example", "https://b.example"}));
  EXPECT_DOUBLE_EQ(second->number("sessions.passivate_after_seconds"), 0.5);
}

TEST_F(ConfigurationFile, a_provider_is_on_when_it_has_a_key_and_is_not_switched_off) {
  EXPECT_TRUE(configured_providers(*load(""))->empty());
  const auto on = configured_providers(*load(
      "[model.openai]\ntokens_per_minute = 7\ntimeout_seconds = 1.5\nidle_timeout_seconds = 0.25\nspend_per_day_dollars = 1.25\n",
      {{"OPENAI_API_KEY", "k"}}));
  ASSERT_EQ(on->size(), 1u);
  EXPECT_EQ(on->front().name, "openai");
  EXPECT_EQ(on->front().tokens_per_minute, 7u);
  EXPECT_EQ(on->front().requests_per_minute, 500u);
  EXPECT_EQ(on->front().timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(on->front().idle_timeout, std::chrono::milliseconds(250));
  EXPECT_EQ(on->front().first_token_timeout, std::chrono::seconds(10));
  EXPECT_EQ(on->front().spend_per_day_nanodollars, 1'250'000'000u);
  EXPECT_EQ(
      configured_providers(*load("", {{"GEMINI_API_KEY", "k"}, {"DEEPSEEK_API_KEY", "k"}, {"ANTHROPIC_API_KEY", "k"}}))->size(),
      3u);
  EXPECT_TRUE(on->front().enabled);
  EXPECT_FALSE(configured_providers(*load("[model.openai]\nenabled = false\n", {{"OPENAI_API_KEY", "k"}}))->front().enabled);
  EXPECT_FALSE(configured_providers(*load("[model.openai]\nenabled = true\n")));
}

TEST_F(ConfigurationFile, plans_have_a_share_tokens_a_day_and_models) {
  EXPECT_TRUE(configured_plans(*load(""))->empty());
  const auto plans =
      configured_plans(*load("[model]\nplans = [\"free tokens_per_day=200000 openai=gpt-6-luna\", \"pro share=4\"]\n"));
  ASSERT_TRUE(plans) << plans.error().message();
  ASSERT_EQ(plans->size(), 2u);
  EXPECT_EQ(plans->at(0).name, "free");
  EXPECT_EQ(plans->at(0).share, 1u);
  EXPECT_EQ(plans->at(0).tokens_per_day, 200'000u);
  EXPECT_EQ(plans->at(0).models.at("openai"), "gpt-6-luna");
  EXPECT_EQ(plans->at(1).share, 4u);
  for (const char* wrong :
       {"share=1", "free share=0", "free share=x", "free colour=red", "free openai=", "free tokens_per_day=-1"})
    EXPECT_FALSE(configured_plans(*load("[model]\nplans = [\"" + std::string(wrong) + "\"]\n"))) << wrong;
  EXPECT_FALSE(configured_plans(*load("[model]\nplans = [\"a\", \"a\"]\n")));
}

TEST(ConfigurationKeys, are_all_those_that_clients_were_promised) {
  std::vector<std::string> promised = {"http.listen",
                                       "http.admin_listen",
                                       "log.kind",
                                       "log.path",
                                       "log.partitions",
                                       "log.brokers",
                                       "log.topic",
                                       "postgres.url",
                                       "postgres.replica_url",
                                       "postgres.pool_size",
                                       "postgres.max_overflow",
                                       "postgres.pool_timeout_seconds",
                                       "postgres.recycle_seconds",
                                       "postgres.pre_ping",
                                       "flows.path",
                                       "sessions.abandon_after_minutes",
                                       "sessions.close_after_minutes",
                                       "sessions.passivate_after_seconds",
                                       "sessions.max_messages",
                                       "throttle.requests_per_minute_per_ip",
                                       "queue_mode.auto",
                                       "queue_mode.active_sessions_above",
                                       "queue_mode.rate_limit_errors_5m_above",
                                       "model.offline.enabled"};
  for (const char* provider : {"openai", "gemini", "deepseek", "anthropic"}) {
    for (const char* name : {"enabled", "weight", "base_url", "model", "api_key", "requests_per_minute", "tokens_per_minute",
                             "input_tokens_per_minute", "output_tokens_per_minute", "requests_per_day", "max_concurrent",
                             "burst_seconds", "timeout_seconds"})
      promised.push_back(std::string("model.") + provider + "." + name);
  }
  for (const std::string& name : promised) EXPECT_NE(find_key(name), nullptr) << name;
  EXPECT_EQ(find_key("model.openai.weight")->variable(), "ONBOARD_MODEL_OPENAI_WEIGHT");
  EXPECT_EQ(find_key("http.admin_listen")->variable(), "ONBOARD_HTTP_ADMIN_LISTEN");
}

TEST(ConfigurationKeys, have_the_defaults_that_clients_were_promised) {
  const auto c = *Configuration::load({});
  const std::vector<std::pair<const char*, const char*>> promised = {{"http.listen", "127.0.0.1:8080"},
                                                                     {"http.admin_listen", "127.0.0.1:8081"},
                                                                     {"log.kind", "sqlite"},
                                                                     {"log.partitions", "24"},
                                                                     {"postgres.pool_size", "10"},
                                                                     {"postgres.max_overflow", "20"},
                                                                     {"postgres.pool_timeout_seconds", "30"},
                                                                     {"postgres.recycle_seconds", "3600"},
                                                                     {"postgres.pre_ping", "true"},
                                                                     {"sessions.abandon_after_minutes", "30"},
                                                                     {"sessions.close_after_minutes", "60"},
                                                                     {"throttle.requests_per_minute_per_ip", "30"},
                                                                     {"queue_mode.auto", "true"},
                                                                     {"queue_mode.active_sessions_above", "50"},
                                                                     {"queue_mode.rate_limit_errors_5m_above", "10"},
                                                                     {"model.offline.enabled", "true"},
                                                                     {"model.openai.burst_seconds", "1"},
                                                                     {"model.openai.weight", "40"},
                                                                     {"model.gemini.weight", "40"},
                                                                     {"model.deepseek.weight", "20"},
                                                                     {"model.anthropic.weight", "0"},
                                                                     {"model.openai.requests_per_minute", "500"},
                                                                     {"model.openai.tokens_per_minute", "30000"},
                                                                     {"model.gemini.requests_per_minute", "1000"},
                                                                     {"model.deepseek.requests_per_minute", "500"}};
  for (const auto& [key, value] : promised) EXPECT_EQ(c.text(key), value) << key;
  for (const Key& key : keys())
    EXPECT_TRUE(check_value(key, key.default_value).good) << key.name << " has a default that is refused";
}

TEST(ConfigurationKeys, stand_in_the_example_file_as_it_is_committed) {
  std::ifstream in("infra/docs/onboard.example.toml");
  std::stringstream committed;
  committed << in.rdbuf();
  EXPECT_EQ(committed.str(), example_file()) << "write it anew: build/onboardctl config example >infra/docs/onboard.example.toml";
}

TEST_F(ConfigurationFile, a_running_server_is_found_by_its_file_only_while_it_runs) {
  const auto c = load("[model.openai]\napi_key = \"sk-secret\"\n[postgres]\nurl = \"postgresql:///d\"\n");
  ASSERT_TRUE(write_running(folder_, ::getpid(), *c, "127.0.0.1:4242", "127.0.0.1:4243"));
  struct stat status {};
  ASSERT_EQ(::stat((folder_ / "running.toml").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  std::ifstream in(folder_ / "running.toml");
  std::stringstream content;
  content << in.rdbuf();
  EXPECT_THAT(content.str(), ::testing::Not(HasSubstr("sk-secret")));
  EXPECT_THAT(content.str(), HasSubstr("listen = \"127.0.0.1:4242\""));
  EXPECT_FALSE(read_running(folder_)) << "this process is no onboardd";
}

TEST_F(ConfigurationFile, of_a_server_that_was_killed_is_not_believed_also_before_its_parent_has_reaped_it) {
  const pid_t server = ::fork();
  if (server == 0) {
    ::execl("/bin/sleep", "/somewhere/onboardd", "60", nullptr);
    ::_exit(1);
  }
  ASSERT_TRUE(write_running(folder_, server, *load(""), "127.0.0.1:4242", "127.0.0.1:4243"));
  const auto becomes = [&](bool believed) {
    for (int i = 0; i < 2000 && read_running(folder_).has_value() != believed; ++i) ::usleep(5000);
    return read_running(folder_).has_value() == believed;
  };
  EXPECT_TRUE(becomes(true));
  ::kill(server, SIGKILL);
  EXPECT_TRUE(becomes(false));
  ASSERT_EQ(::waitpid(server, nullptr, 0), server);
}

}  // namespace
}  // namespace onboarding::app

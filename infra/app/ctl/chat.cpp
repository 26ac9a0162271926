// A conversation in the terminal. Every request carries an Idempotency-Key and is written down before it is sent, so that
// neither a server that dies nor this program's own end loses a message or says it twice.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "events/codec/json.hpp"
#include "events/ids.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/http_client.hpp"

namespace onboarding::app {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds first_pause{100}, longest_pause{5'000}, request_timeout{40'000};

/// What must survive the end of this program.
struct Saved {
  std::string url, session_id, token;
  std::string pending_key, pending_text;  // sent, perhaps, and not yet answered
};

std::filesystem::path state_file(const Context& context) {
  std::error_code ignored;
  if (std::filesystem::exists(context.data(), ignored)) return context.data() / "chat.json";
  const char* xdg = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path base =
      xdg && *xdg ? std::filesystem::path(xdg) : std::filesystem::path(home ? home : ".") / ".local/state";
  return base / "onboarding" / "chat.json";
}

void save(const std::filesystem::path& file, const Saved& saved) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  const std::pair<const char*, const std::string*> members[] = {{"url", &saved.url},
                                                                {"session_id", &saved.session_id},
                                                                {"token", &saved.token},
                                                                {"pending_key", &saved.pending_key},
                                                                {"pending_text", &saved.pending_text}};
  for (const auto& [name, value] : members) {
    codec::write_key(w, name);
    codec::write_string(w, *value);
  }
  w.EndObject();
  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  const std::string fresh = file.string() + ".new";
  ::unlink(fresh.c_str());
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool whole = fd >= 0 && ::write(fd, buffer.GetString(), buffer.GetSize()) == static_cast<ssize_t>(buffer.GetSize());
  if (fd >= 0) ::close(fd);
  if (!whole || ::rename(fresh.c_str(), file.c_str()) != 0)
    note("(cannot write " + file.string() + ": --resume will not find this conversation)");
}

std::optional<Saved> load(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::stringstream content;
  content << in.rdbuf();
  const auto parsed = codec::parse_json(content.str());
  if (!parsed || !parsed->IsObject()) return std::nullopt;
  Saved saved;
  saved.url = codec::string_member(*parsed, "url");
  saved.session_id = codec::string_member(*parsed, "session_id");
  saved.token = codec::string_member(*parsed, "token");
  saved.pending_key = codec::string_member(*parsed, "pending_key");
  saved.pending_text = codec::string_member(*parsed, "pending_text");
  if (saved.session_id.empty() || saved.token.empty()) return std::nullopt;
  return saved;
}

std::string object(std::initializer_list<std::pair<std::string_view, std::string_view>> members) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  w.StartObject();
  for (const auto& [name, value] : members) {
    if (value.empty()) continue;
    codec::write_key(w, name);
    codec::write_string(w, value);
  }
  w.EndObject();
  return std::string(codec::written(buffer));
}

/// Another text, or another flow, would do.
bool is_the_callers(int status) { return status == 400 || status == 413 || status == 422; }

class Conversation {
 public:
  Conversation(const Context& context, const ChatOptions& options)
      : context_(context), options_(options), file_(state_file(context)) {}

  int run();

 private:
  result<void> begin();
  result<void> go_on(Saved);
  result<void> say(const std::string& text);
  /// Repeats the request until the server has answered it for good, or patience is over.
  result<HttpAnswer> insist(const std::string& path, const std::string& key, const std::string& body);
  /// --url, else where the server of the data folder listens now: a restarted one may listen elsewhere.
  std::string base() const;
  result<void> show(const HttpAnswer&);
  result<void> refused(const HttpAnswer&) const;

  const Context& context_;
  const ChatOptions& options_;
  const std::filesystem::path file_;
  const bool at_terminal_ = ::isatty(STDIN_FILENO);
  HttpClient client_;
  Saved saved_;
  bool some_refused_ = false;    // a script must not take its messages for said
  std::string last_shown_turn_;  // whose reply stood last in a conversation gone on with
};

std::string Conversation::base() const {
  if (!options_.url.empty()) return options_.url;
  if (const auto running = read_running(context_.data())) return "http://" + running->configuration.text("http.listen");
  return saved_.url;
}

result<HttpAnswer> Conversation::insist(const std::string& path, const std::string& key, const std::string& body) {
  const auto deadline =
      std::chrono::steady_clock::now() + milliseconds(static_cast<std::int64_t>(options_.patience_seconds * 1000));
  std::vector<std::string> headers;
  if (!saved_.token.empty()) headers.push_back("Authorization: Bearer " + saved_.token);
  if (!key.empty()) headers.push_back("Idempotency-Key: " + key);
  milliseconds pause = first_pause;
  bool told = false;
  std::string target = path, content = body;
  for (;;) {
    const std::string at = base();
    if (at.empty())
      return failure(Errc::not_running, "no server runs in " + context_.data().string() + "; --url says where one is");
    auto answer = client_.send(at + target, headers, content, request_timeout);
    milliseconds wait = pause;
    if (answer && answer->status == 202) {  // queued: ask for the turn until it is done
      const auto parsed = codec::parse_json(answer->body);
      const std::string url = parsed ? std::string(codec::string_member(*parsed, "status_url")) : answer->location;
      if (!url.empty()) {
        target = url.starts_with("http") ? url.substr(url.find('/', 8)) : url;
        content.clear();
      }
      wait = std::max(milliseconds(500), answer->retry_after);
    } else if (answer && answer->status < 500 && answer->status != 429 && answer->status != 408 &&
               !(answer->status == 409 && answer->retry_after.count() > 0)) {
      if (told) note("(… it answers again)");
      return answer;
    } else {
      if (answer && answer->retry_after > pause) wait = answer->retry_after;
      if (!told) note(answer ? "(the server is busy; trying again …)" : "(no answer; trying again …)");
      told = true;
      pause = std::min(longest_pause, pause * 2);
    }
    if (std::chrono::steady_clock::now() + wait > deadline)
      return answer ? failure(Errc::not_running, "the server said " + std::to_string(answer->status) + " until patience was over")
                    : tl::unexpected(answer.error());
    std::this_thread::sleep_for(wait);  // the back-off of a client: nothing to wait for but time
  }
}

result<void> Conversation::refused(const HttpAnswer& answer) const {
  std::string why = "HTTP " + std::to_string(answer.status);
  if (const auto parsed = codec::parse_json(answer.body)) {
    why += " " + std::string(codec::string_member(*parsed, "title"));
    if (const auto detail = codec::string_member(*parsed, "detail"); !detail.empty()) why += ": " + std::string(detail);
  }
  if (answer.status == 404) return failure(Errc::not_found, why);
  if (is_the_callers(answer.status)) return failure(Errc::wrong_use, why);
  return failure(std::make_error_code(std::errc::operation_not_permitted), why);
}

result<void> Conversation::show(const HttpAnswer& answer) {
  const auto parsed = codec::parse_json(answer.body);
  if (!parsed || !parsed->IsObject()) return failure(Errc::not_running, "the answer is not JSON");
  if (options_.json) {
    std::cout << answer.body << std::endl;
    return {};
  }
  const std::string_view turn = codec::string_member(*parsed, "turn_id");
  if (!turn.empty() && turn == last_shown_turn_) return {};  // the message had been answered: its reply stands above
  if (const auto* extracted = codec::find_member(*parsed, "extracted"); extracted && extracted->IsObject())
    for (const auto& field : extracted->GetObject())
      std::cout << "  + " << field.name.GetString() << ": "
                << (field.value.IsString() ? field.value.GetString() : codec::canonical_json(field.value)) << '\n';
  if (const auto* rejected = codec::find_member(*parsed, "rejected"); rejected && rejected->IsArray())
    for (const auto& field : rejected->GetArray())
      std::cout << "  - " << codec::string_member(field, "field") << ": " << codec::string_member(field, "value") << " ("
                << codec::string_member(field, "reason") << ")\n";
  std::cout << codec::string_member(*parsed, "response") << std::endl;
  if (codec::bool_member(*parsed, "is_complete") && at_terminal_)
    note("(complete; you may still correct something, or end with Ctrl-D)");
  return {};
}

result<void> Conversation::begin() {
  const std::string key = make_id("chat", system_clock(), system_random());
  const auto answer = insist("/api/onboarding/sessions", key, object({{"flow", options_.flow}, {"locale", options_.locale}}));
  if (!answer) return tl::unexpected(answer.error());
  if (answer->status != 201 && answer->status != 200) return refused(*answer);
  const auto parsed = codec::parse_json(answer->body);
  if (!parsed) return failure(Errc::not_running, "the answer is not JSON");
  saved_ = {base(),
            std::string(codec::string_member(*parsed, "session_id")),
            std::string(codec::string_member(*parsed, "token")),
            {},
            {}};
  save(file_, saved_);
  note("(session " + saved_.session_id + ")");
  return show(*answer);
}

result<void> Conversation::go_on(Saved saved) {
  saved_ = std::move(saved);
  bool told = false;
  for (std::string page = "/api/onboarding/sessions/" + saved_.session_id + "/messages"; !page.empty();) {
    const auto answer = insist(page, {}, {});
    if (!answer) return tl::unexpected(answer.error());
    if (answer->status != 200) return refused(*answer);
    if (!std::exchange(told, true)) note("(session " + saved_.session_id + ", gone on with)");
    if (options_.json) break;
    const auto parsed = codec::parse_json(answer->body, {.max_bytes = 16 << 20});
    if (!parsed) return failure(Errc::not_running, "the answer is not JSON");
    if (const auto* lines = codec::find_member(*parsed, "messages"); lines && lines->IsArray())
      for (const auto& line : lines->GetArray()) {
        const bool user = codec::string_member(line, "role") == "user";
        std::cout << (user ? "> " : "") << codec::string_member(line, "text") << '\n';
        if (!user) last_shown_turn_ = codec::string_member(line, "turn_id");
      }
    std::cout.flush();
    page = codec::string_member(*parsed, "next");
  }
  if (saved_.pending_key.empty()) return {};
  note("(the last message is sent again, in case it was not heard)");
  return say(saved_.pending_text);
}

result<void> Conversation::say(const std::string& text) {
  if (saved_.pending_key.empty()) {
    saved_.pending_key = make_id("msg", system_clock(), system_random());
    saved_.pending_text = text;
    save(file_, saved_);
  }
  const auto answer =
      insist("/api/onboarding/sessions/" + saved_.session_id + "/messages", saved_.pending_key, object({{"message", text}}));
  if (!answer) return tl::unexpected(answer.error());
  saved_.pending_key.clear();
  saved_.pending_text.clear();
  save(file_, saved_);
  if (answer->status == 200) return show(*answer);
  // A message that is refused is the person's to change; only what ends the conversation ends us.
  auto why = refused(*answer);
  if (!is_the_callers(answer->status)) return why;
  some_refused_ = true;
  note("(" + why.error().detail + ")");
  return {};
}

int Conversation::run() {
  auto begun = result<void>{};
  if (options_.resume) {
    auto saved = load(file_);
    if (!saved) return complain({Errc::not_found, "there is no conversation to go on with in " + file_.string()});
    begun = go_on(std::move(*saved));
  } else {
    begun = begin();
  }
  if (!begun) return complain(begun.error());
  for (std::string line;;) {
    if (at_terminal_) std::cerr << "> " << std::flush;
    if (!std::getline(std::cin, line)) break;
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.pop_back();
    if (line.empty()) continue;
    if (line == "/quit") break;
    if (auto said = say(line); !said) return complain(said.error());
  }
  if (at_terminal_) note("\n(onboardctl chat --resume goes on)");
  return some_refused_ && !at_terminal_ ? exit_failed : exit_good;
}

}  // namespace

int chat(const Context& context, const ChatOptions& options) { return Conversation(context, options).run(); }

}  // namespace onboarding::app

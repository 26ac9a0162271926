#include "http/forwarder.hpp"

#include <curl/curl.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>
#include <pthread.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "actors/gateway.hpp"

namespace onboarding::http {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds patience{2'000};  // for an owner to be known and to be reached
constexpr milliseconds look_again{20};   // while requests wait for that
constexpr milliseconds look_after{250};  // whether owners were replaced, clients have gone
constexpr long connect_timeout_ms = 1'000;
constexpr long silence_seconds = 40;  // no answer takes longer; streams say something every 15 s
constexpr milliseconds stream_idle{25'000};
constexpr std::size_t max_answer_bytes = 64 << 20;

/// As literals: a Response's names live for ever.
constexpr std::string_view passed_in[] = {"authorization", "content-type",  "idempotency-key",
                                          "if-none-match", "last-event-id", "prefer"};
constexpr std::pair<std::string_view, std::string_view> passed_back[] = {{"location", "Location"},
                                                                         {"retry-after", "Retry-After"},
                                                                         {"etag", "ETag"},
                                                                         {"preference-applied", "Preference-Applied"},
                                                                         {"www-authenticate", "WWW-Authenticate"},
                                                                         {"content-disposition", "Content-Disposition"},
                                                                         {"x-accel-buffering", "X-Accel-Buffering"}};
constexpr std::string_view content_types[] = {media::json, media::problem, media::text, "text/event-stream; charset=utf-8"};
constexpr std::string_view cache_controls[] = {"no-store", "private, no-cache", "no-cache"};
/// In the body of a 503: it was asked for a partition that it does not have any more.
constexpr std::string_view not_there = "urn:onboarding:problem:owner-unreachable";

/// What is known of the text, as a literal.
template <class Literals>
std::string_view literal_of(const Literals& literals, std::string_view text, std::string_view otherwise) {
  const auto found = std::find(std::begin(literals), std::end(literals), text);
  return found == std::end(literals) ? otherwise : *found;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(white), text.size()));
  return text.substr(0, text.find_last_not_of(white) + 1);
}

std::string line_of(std::string_view name, std::string_view value) {
  std::string line(name);
  line.append(": ").append(value);
  return line;
}

/// Carried out twice it does what it does once.
bool is_repeatable(const Request& request) {
  return request.method == Method::get || request.method == Method::head || request.header("idempotency-key").has_value();
}

}  // namespace

class Forwarder::Loop {
 public:
  Loop(const Peers& peers, const std::string& key, prometheus::Registry& metrics)
      : peers_(peers),
        credential_(line_of(credential_header, key)),
        forwarded_(prometheus::BuildCounter()
                       .Name("http_forwarded_total")
                       .Help("Requests that another server answers for")
                       .Register(metrics)),
        multi_(curl_multi_init()),
        thread_([this] { run(); }) {
    ::pthread_setname_np(thread_.native_handle(), "http-forward");
  }
  ~Loop() {
    stop();
    curl_multi_cleanup(multi_);
  }

  void forward(const Responder& responder, std::uint32_t partition) {
    if (responder->pass_on_until == SteadyClock::time_point{}) responder->pass_on_until = SteadyClock::now() + patience;
    {
      const std::lock_guard lock(mutex_);
      if (!stopping_) {
        arrived_.push_back({responder, partition});
        curl_multi_wakeup(multi_);
        return;
      }
    }
    responder->fail(problem_of(Errc::draining));
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      curl_multi_wakeup(multi_);
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Waiting {
    Responder responder;
    std::uint32_t partition = 0;
    std::string not_at{};                                // who could not be reached
    SteadyClock::time_point since = SteadyClock::now();  // it waits again
    bool in_vain = false;                                // for one who has said that it is not there
  };
  struct Transfer {
    Responder responder;
    std::uint32_t partition = 0;
    std::string address;
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    std::list<Transfer>::iterator self;
    Response response;
    std::shared_ptr<BodyStream> stream;
    bool streamed = false, events = false, has_length = false, replaced = false, head_only = false;

    ~Transfer() {
      curl_easy_cleanup(easy);
      curl_slist_free_all(headers);
    }
  };

  // ---- the thread

  void run() {
    auto looked_at = SteadyClock::now();
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        waiting_.splice(waiting_.end(), arrived_);
        if (stopping_) break;
      }
      look_at_waiting();
      int running = 0, left = 0;
      curl_multi_perform(multi_, &running);
      while (const CURLMsg* const message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        char* transfer = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        finish(*reinterpret_cast<Transfer*>(transfer), message->data.result);
      }
      if (const auto now = SteadyClock::now(); now >= looked_at + look_after) {
        looked_at = now;
        look_at_transfers();
      }
      const auto wait = !waiting_.empty() ? look_again : !transfers_.empty() ? look_after : milliseconds(5'000);
      curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait.count()), nullptr);
    }
    for (const Waiting& each : waiting_) each.responder->fail(problem_of(Errc::draining));
    waiting_.clear();
    while (!transfers_.empty()) {
      Transfer& transfer = transfers_.front();
      if (transfer.stream) transfer.stream->end();
      else if (!transfer.streamed) transfer.responder->fail(problem_of(Errc::draining));
      remove(transfer);
    }
  }

  void look_at_waiting() {
    const auto now = SteadyClock::now();
    std::list<Waiting> still;
    waiting_.swap(still);
    for (auto each = still.begin(); each != still.end();) {
      const auto place = peers_.place_of(each->partition);
      const bool late = now >= each->responder->pass_on_until;
      // Whoever has it by all accounts, but not any more, or not yet, is asked again after a moment; ourselves, too.
      if ((place.here || each->in_vain) && !late && now < each->since + look_again) {
        ++each;
        continue;
      }
      if (place.here && !late) {
        count("came_here");
        try {
          each->responder->request().route->handler(each->responder);
        } catch (const std::exception&) {
          // As in the server: letting go of the exchange answers 500.
        }
      } else if (!place.address.empty() && place.address != each->not_at && !(late && each->in_vain)) {
        start(*each, place.address);
      } else if (late) {
        count(place.address.empty() ? "unknown_owner" : "unreachable");
        each->responder->fail(problem_of(Failure{make_error_code(GatewayErrc::owned_elsewhere), {}}));
      } else {
        ++each;
        continue;
      }
      each = still.erase(each);
    }
    waiting_.splice(waiting_.end(), still);
  }

  void start(Waiting& waiting, const std::string& address) {
    transfers_.emplace_front();
    Transfer& t = transfers_.front();
    t.self = transfers_.begin();
    t.responder = waiting.responder;
    t.partition = waiting.partition;
    t.address = address;
    t.easy = curl_easy_init();
    const Request& request = t.responder->request();
    t.head_only = request.method == Method::head;
    const auto header = [&](const std::string& line) { t.headers = curl_slist_append(t.headers, line.c_str()); };
    header(credential_);
    header(line_of("X-Request-Id", request.request_id));
    header(line_of("X-Forwarded-For", request.client));
    header("Expect:");
    if (!request.traceparent.empty()) header(line_of("Traceparent", request.traceparent));
    for (const auto name : passed_in)
      if (const auto value = request.header(name)) header(line_of(name, *value));
    const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(t.easy, option, value); };
    std::string url = "http://";
    url.append(address).append(request.raw.target());
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http");
    set(CURLOPT_NOPROXY, "*");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_CONNECTTIMEOUT_MS, connect_timeout_ms);
    // On a connection that was used before, libcurl sends a request again by itself when it is closed without an answer.
    if (!is_repeatable(request)) set(CURLOPT_FRESH_CONNECT, 1L);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, silence_seconds);
    if (t.head_only) set(CURLOPT_NOBODY, 1L);
    else if (request.method != Method::get) {
      set(CURLOPT_POSTFIELDSIZE, static_cast<long>(request.raw.body.size()));
      set(CURLOPT_POSTFIELDS, request.raw.body.c_str());
      set(CURLOPT_CUSTOMREQUEST, std::string(to_string(request.method)).c_str());
      if (request.raw.body.empty() && !request.header("content-type")) header("Content-Type:");
    }
    set(CURLOPT_HTTPHEADER, t.headers);
    set(CURLOPT_PRIVATE, &t);
    set(CURLOPT_HEADERFUNCTION, on_header);
    set(CURLOPT_HEADERDATA, &t);
    set(CURLOPT_WRITEFUNCTION, on_piece);
    set(CURLOPT_WRITEDATA, &t);
    curl_multi_add_handle(multi_, t.easy);
  }

  static std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* self) {
    auto& t = *static_cast<Transfer*>(self);
    const std::string_view line(bytes, size);
    const auto colon = line.find(':');
    if (line.starts_with("HTTP/")) {
      t.response = {};
      t.response.content_type = {};
      t.has_length = false;
    }
    if (colon == line.npos) return size;
    std::string name(line.substr(0, colon));
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (name == "content-length") t.has_length = true;
    if (name == "content-type") t.response.content_type = literal_of(content_types, value, media::json);
    if (name == "cache-control") t.response.cache_control = literal_of(cache_controls, value, "no-store");
    for (const auto& [known, as] : passed_back)
      if (name == known) t.response.with(as, std::string(value));
    return size;
  }

  static std::size_t on_piece(char* bytes, std::size_t, std::size_t size, void* self) {
    auto& t = *static_cast<Transfer*>(self);
    const std::string_view piece(bytes, size);
    if (!t.has_length && !t.streamed) {
      t.response.status = static_cast<int>(status_of(t));
      t.streamed = true;
      t.events = t.response.content_type == content_types[3];
      t.stream = t.responder->begin_stream(std::move(t.response), t.events ? ": alive\n\n" : " ", stream_idle);
    }
    if (t.streamed) return t.stream && t.stream->write(piece) ? size : 0;
    if (t.response.body.size() + size > max_answer_bytes) return 0;
    t.response.body.append(piece);
    return size;
  }

  static long status_of(const Transfer& t) {
    long status = 0;
    curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
  }

  void finish(Transfer& t, CURLcode code) {
    if (t.streamed) {
      // Whoever watches a session comes again and goes on where it was cut; of an export the end must not look like one.
      if (t.stream) t.stream->end(code == CURLE_OK || t.events);
      count("answered");
      return remove(t);
    }
    const Request& request = t.responder->request();
    const bool moved = code == CURLE_OK && status_of(t) == 503 && t.response.body.find(not_there) != std::string::npos;
    if (code == CURLE_OK && !moved) {
      t.response.status = static_cast<int>(status_of(t));
      t.responder->send(std::move(t.response));
      count("answered");
      return remove(t);
    }
    const bool not_sent = code == CURLE_COULDNT_CONNECT || (code == CURLE_OPERATION_TIMEDOUT && !was_sent(t));
    if (moved || not_sent || is_repeatable(request)) {
      // An owner that has died is replaced once the others have noticed: that takes longer than a client should wait.
      if (t.replaced) t.responder->pass_on_until = SteadyClock::now() + patience;
      waiting_.push_back(
          {std::move(t.responder), t.partition, t.replaced || moved ? std::string() : t.address, SteadyClock::now(), moved});
    } else {
      count("unreachable");
      t.responder->fail(problem_of(Failure{make_error_code(GatewayErrc::in_doubt), {}}));
    }
    remove(t);
  }

  static bool was_sent(const Transfer& t) {
    long sent = 0;
    curl_easy_getinfo(t.easy, CURLINFO_REQUEST_SIZE, &sent);
    return sent > 0;
  }

  /// Who asks an owner that was replaced would wait for what never counts; who asks for a client that is gone, for nothing.
  void look_at_transfers() {
    for (auto next = transfers_.begin(); next != transfers_.end();) {
      Transfer& t = *next++;
      if (t.stream && t.stream->over()) {
        finish(t, CURLE_ABORTED_BY_CALLBACK);
        continue;
      }
      const auto place = peers_.place_of(t.partition);
      t.replaced = place.here || (!place.address.empty() && place.address != t.address);
      if (t.replaced) finish(t, CURLE_ABORTED_BY_CALLBACK);
    }
  }

  void remove(Transfer& t) {
    curl_multi_remove_handle(multi_, t.easy);
    transfers_.erase(t.self);
  }

  void count(const char* outcome) { forwarded_.Add({{"outcome", outcome}}).Increment(); }

  const Peers& peers_;
  const std::string credential_;
  prometheus::Family<prometheus::Counter>& forwarded_;
  CURLM* const multi_;
  std::list<Waiting> waiting_;
  std::list<Transfer> transfers_;

  std::mutex mutex_;  // of the two below
  std::list<Waiting> arrived_;
  bool stopping_ = false;
  std::thread thread_;
};

Forwarder::Forwarder(const Peers& peers, const std::string& instance_key, prometheus::Registry& metrics)
    : loop_(std::make_unique<Loop>(peers, instance_key, metrics)) {}
Forwarder::~Forwarder() = default;
void Forwarder::forward(const Responder& responder, std::uint32_t partition) { loop_->forward(responder, partition); }
void Forwarder::stop() { loop_->stop(); }

}  // namespace onboarding::http

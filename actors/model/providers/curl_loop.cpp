#include "actors/model/providers/curl_loop.hpp"

#include <curl/curl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kMaxHeaders = 64;
constexpr std::size_t kMaxHeaderBytes = 1'024;
constexpr std::size_t kIdleHandles = 256;
constexpr std::chrono::milliseconds kConnectTimeout{5'000};

struct Transfer {
  HttpCall call;
  std::function<void(HttpReply)> done;
  HttpReply reply;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  SteadyClock::time_point started;
  std::array<char, CURL_ERROR_SIZE> error{};
  bool too_large = false;

  ~Transfer() { curl_slist_free_all(headers); }
};

bool is_loopback(const std::string& url) {
  auto* parts = curl_url();
  char* host = nullptr;
  bool loopback = false;
  if (curl_url_set(parts, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK && curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
    const std::string_view name(host);
    loopback = name == "localhost" || name == "[::1]" || name.substr(0, 4) == "127.";
  }
  curl_free(host);
  curl_url_cleanup(parts);
  return loopback;
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.front()))) s.remove_prefix(1);
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.back()))) s.remove_suffix(1);
  return s;
}

std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* user) {
  auto& reply = static_cast<Transfer*>(user)->reply;
  const std::string_view line(bytes, size);
  if (line.substr(0, 5) == "HTTP/") reply.headers.clear();  // those of a 1xx before it
  const auto colon = line.find(':');
  if (colon == line.npos || size > kMaxHeaderBytes || reply.headers.size() >= kMaxHeaders) return size;
  std::string name(trimmed(line.substr(0, colon)));
  for (auto& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  reply.headers.emplace_back(std::move(name), trimmed(line.substr(colon + 1)));
  return size;
}

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* user) {
  auto& t = *static_cast<Transfer*>(user);
  if (t.reply.body.size() + size > t.call.max_response_bytes) {
    t.too_large = true;
    return 0;  // ends the transfer
  }
  t.reply.body.append(bytes, size);
  return size;
}

Transport outcome(const Transfer& t, CURLcode code) {
  if (t.too_large) return Transport::too_large;
  switch (code) {
    case CURLE_OK: return Transport::ok;
    case CURLE_OPERATION_TIMEDOUT: return Transport::timeout;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT: return Transport::refused;
    default: return Transport::connection;
  }
}

}  // namespace

std::string_view HttpReply::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

class CurlLoop::Impl {
 public:
  explicit Impl(std::size_t max_transfers) : max_transfers_(max_transfers) {
    static const auto initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_ = curl_multi_init();
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ONBOARDING_ASSERT(initialised == CURLE_OK && multi_ && epoll_ >= 0 && wake_ >= 0, "libcurl, epoll and eventfd are there");
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = wake_;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Impl::on_socket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Impl::on_timer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "curl");
      run();
    });
  }

  ~Impl() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake();
    thread_.join();
    for (auto* easy : idle_) curl_easy_cleanup(easy);
    curl_multi_cleanup(multi_);
    close(epoll_);
    close(wake_);
  }

  void submit(HttpCall call, std::function<void(HttpReply)> done) {
    auto transfer = std::make_unique<Transfer>();
    transfer->call = std::move(call);
    transfer->done = std::move(done);
    bool first = false;
    {
      std::lock_guard lock(mutex_);
      first = submitted_.empty();
      submitted_.push_back(std::move(transfer));
    }
    if (first) wake();
  }

 private:
  void run() {
    std::array<epoll_event, 128> events;
    std::vector<std::unique_ptr<Transfer>> taken;
    for (;;) {
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout_ms());
      int running = 0;
      for (int i = 0; i < n; ++i) {
        if (events[i].data.fd == wake_) {
          std::uint64_t count;
          [[maybe_unused]] const auto read_bytes = read(wake_, &count, sizeof count);
          continue;
        }
        const auto e = events[i].events;
        const int flags = (e & EPOLLIN ? CURL_CSELECT_IN : 0) | (e & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                          (e & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(multi_, events[i].data.fd, flags, &running);
      }
      if (SteadyClock::now() >= timer_at_) {
        timer_at_ = SteadyClock::time_point::max();
        curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
      }
      finish_completed();
      bool stopping = false;
      {
        std::lock_guard lock(mutex_);
        taken.swap(submitted_);
        stopping = stopping_;
      }
      if (stopping) break;
      for (auto& t : taken) start(std::move(t));
      taken.clear();
    }
    for (auto& t : taken) cancel(*t);
    for (auto& [easy, t] : running_) {
      curl_multi_remove_handle(multi_, easy);
      curl_easy_cleanup(easy);
      cancel(*t);
    }
    running_.clear();
  }

  static void cancel(Transfer& t) {
    t.reply.transport = Transport::cancelled;
    t.done(std::move(t.reply));
  }

  void start(std::unique_ptr<Transfer> owned) {
    auto& t = *owned;
    t.started = SteadyClock::now();
    if (running_.size() >= max_transfers_) return refuse(t, "too many calls in flight");
    CURL* easy = nullptr;
    if (idle_.empty()) {
      easy = curl_easy_init();
    } else {
      easy = idle_.back();
      idle_.pop_back();
    }
    if (!easy) return refuse(t, "no handle");
    configure(t, easy);
    running_.emplace(easy, std::move(owned));
    if (curl_multi_add_handle(multi_, easy) != CURLM_OK) finish(easy, CURLE_FAILED_INIT);
  }

  static void refuse(Transfer& t, const char* why) {
    t.reply.transport = Transport::refused;
    t.reply.detail = why;
    t.done(std::move(t.reply));
  }

  static void configure(Transfer& t, CURL* easy) {
    const auto set = [easy](CURLoption option, auto value) { curl_easy_setopt(easy, option, value); };
    for (const auto& h : t.call.headers) t.headers = curl_slist_append(t.headers, h.c_str());
    t.headers = curl_slist_append(t.headers, "Expect:");  // a 100-continue round trip buys nothing for bodies this small
    set(CURLOPT_URL, t.call.url.c_str());
    set(CURLOPT_HTTPHEADER, t.headers);
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDS, t.call.body.c_str());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.call.body.size()));
    set(CURLOPT_USERAGENT, "onboarding/0.1");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<std::int64_t>(1, t.call.timeout.count())));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(kConnectTimeout, t.call.timeout).count()));
    if (is_loopback(t.call.url)) set(CURLOPT_PROXY, "");
    set(CURLOPT_ERRORBUFFER, t.error.data());
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, &t);
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, &t);
  }

  void finish_completed() {
    int left = 0;
    while (const auto* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      auto* easy = message->easy_handle;
      const auto code = message->data.result;
      curl_multi_remove_handle(multi_, easy);
      finish(easy, code);
    }
  }

  void finish(CURL* easy, CURLcode code) {
    auto owned = std::move(running_.extract(easy).mapped());
    auto& t = *owned;
    auto& r = t.reply;
    long status = 0, sent = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &sent);
    r.status = static_cast<int>(status);
    r.was_sent = sent > 0;
    r.transport = outcome(t, code);
    if (code != CURLE_OK) r.detail = t.error[0] ? t.error.data() : curl_easy_strerror(code);
    r.latency_ms = std::chrono::duration_cast<std::chrono::milliseconds>(SteadyClock::now() - t.started).count();
    if (idle_.size() < kIdleHandles) {
      curl_easy_reset(easy);
      idle_.push_back(easy);
    } else {
      curl_easy_cleanup(easy);
    }
    t.done(std::move(r));
  }

  static int on_socket(CURL*, curl_socket_t fd, int what, void* user, void* known) {
    auto& self = *static_cast<Impl*>(user);
    if (what == CURL_POLL_REMOVE) {
      epoll_ctl(self.epoll_, EPOLL_CTL_DEL, fd, nullptr);
      return 0;
    }
    epoll_event event{};
    event.data.fd = fd;
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    epoll_ctl(self.epoll_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (!known) curl_multi_assign(self.multi_, fd, &self);
    return 0;
  }

  static int on_timer(CURLM*, long ms, void* user) {
    auto& self = *static_cast<Impl*>(user);
    self.timer_at_ = ms < 0 ? SteadyClock::time_point::max() : SteadyClock::now() + std::chrono::milliseconds(ms);
    return 0;
  }

  int timeout_ms() const {
    if (timer_at_ == SteadyClock::time_point::max()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(timer_at_ - SteadyClock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
  }

  void wake() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(wake_, &one, sizeof one);
  }

  const std::size_t max_transfers_;
  CURLM* multi_ = nullptr;
  int epoll_ = -1, wake_ = -1;
  // The loop's thread only:
  SteadyClock::time_point timer_at_ = SteadyClock::time_point::max();
  std::unordered_map<CURL*, std::unique_ptr<Transfer>> running_;
  std::vector<CURL*> idle_;
  // Shared:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Transfer>> submitted_;
  bool stopping_ = false;
  std::thread thread_;
};

CurlLoop::CurlLoop(std::size_t max_transfers) : impl_(std::make_unique<Impl>(max_transfers)) {}
CurlLoop::~CurlLoop() = default;

void CurlLoop::submit(HttpCall call, std::function<void(HttpReply)> done) { impl_->submit(std::move(call), std::move(done)); }

}  // namespace onboarding::model

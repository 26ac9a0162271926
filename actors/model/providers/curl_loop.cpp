#include "actors/model/providers/curl_loop.hpp"

#include <curl/curl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <mutex>
#include <thread>

#include "events/domain/assertion.hpp"

namespace onboarding::model {
namespace {

using SteadyClock = std::chrono::steady_clock;
using TimePoint = SteadyClock::time_point;

constexpr TimePoint kNever = TimePoint::max();
constexpr std::size_t kThreads = 2;
constexpr std::size_t kTransfersPerMulti = 128;
constexpr std::size_t kMaxHeaders = 64;
constexpr std::size_t kMaxHeaderBytes = 1'024;
constexpr std::chrono::milliseconds kConnectTimeout{5'000};
constexpr std::chrono::milliseconds kTailTimeout{500};  // after Piece::finished
constexpr std::chrono::milliseconds kDeadlineStep{10};  // how exact a stream's time-outs are

class Multi;

// One easy handle and the call it runs. Kept for the next call.
struct Transfer {
  Multi* multi = nullptr;
  CURL* easy = nullptr;
  std::string url;  // the last call's, of which is known:
  bool loopback = false;
  HttpCall call;
  std::function<void(HttpReply)> done;
  HttpReply reply;
  curl_slist* headers = nullptr;
  TimePoint started, deadline = kNever;
  std::size_t received = 0, slot = 0;  // slot: in the multi's list of running ones
  std::array<char, CURL_ERROR_SIZE> error{};
  enum { going, too_large, stopped, finished } state = going;

  ~Transfer() {
    curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
  }
};

bool is_loopback(const std::string& url) {
  auto* parts = curl_url();
  char* host = nullptr;
  bool loopback = false;
  if (curl_url_set(parts, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK &&
      curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
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

std::int64_t ms_since(TimePoint from) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(SteadyClock::now() - from).count();
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

Transport outcome(const Transfer& t, CURLcode code) {
  if (t.state == Transfer::too_large) return Transport::too_large;
  if (t.state == Transfer::stopped) return Transport::stopped;
  if (t.state == Transfer::finished) return Transport::ok;
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

// The sockets of a thread's multi handles in its epoll. libcurl takes a socket out after each response and puts it back for
// the next request: what it no longer watches stays registered until it speaks, which saves both system calls.
class Sockets {
 public:
  Sockets() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}
  ~Sockets() { close(epoll_); }

  int descriptor() const { return epoll_; }

  void watch(int fd, std::uint32_t wanted, Multi* multi) {
    if (static_cast<std::size_t>(fd) >= watched_.size()) watched_.resize(static_cast<std::size_t>(fd) + 64);
    auto& w = watched_[static_cast<std::size_t>(fd)];
    w.multi = wanted ? multi : nullptr;
    if (!wanted || w.registered == wanted) return;
    epoll_event event{.events = wanted, .data = {.fd = fd}};
    epoll_ctl(epoll_, w.registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    w.registered = wanted;
  }

  /// Who wants to know of an event there; nullptr: nobody any more, and none will come again.
  Multi* watcher(int fd) {
    auto& w = watched_[static_cast<std::size_t>(fd)];
    if (!w.multi && w.registered) {
      epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
      w.registered = 0;
    }
    return w.multi;
  }

  /// The kernel forgets a closed socket by itself; its number will be somebody else's.
  static int on_close(void* user, curl_socket_t fd) {
    auto& watched = static_cast<Sockets*>(user)->watched_;
    if (static_cast<std::size_t>(fd) < watched.size()) watched[static_cast<std::size_t>(fd)] = {};
    return close(fd);
  }

 private:
  struct Watched {
    Multi* multi = nullptr;
    std::uint32_t registered = 0;
  };
  int epoll_;
  std::vector<Watched> watched_;  // by descriptor
};

// One curl multi handle with its connections. Lives on one thread.
class Multi {
 public:
  Multi(Sockets& sockets, CURLSH* share) : sockets_(sockets), share_(share), multi_(curl_multi_init()) {
    ONBOARDING_ASSERT(multi_, "libcurl makes a multi handle");
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Multi::on_socket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Multi::on_timer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(2 * kTransfersPerMulti));
  }
  ~Multi() {
    for (auto& t : running_) {
      curl_multi_remove_handle(multi_, t->easy);
      t->reply.transport = Transport::cancelled;
      t->done(std::move(t->reply));
    }
    running_.clear();
    idle_.clear();
    curl_multi_cleanup(multi_);
  }
  Multi(const Multi&) = delete;
  Multi& operator=(const Multi&) = delete;

  bool has_room() const { return running_.size() < kTransfersPerMulti; }

  void start(HttpCall call, std::function<void(HttpReply)> done) {
    auto owned = take_transfer();
    auto& t = *owned;
    t.call = std::move(call);
    t.done = std::move(done);
    t.started = SteadyClock::now();
    configure(t);
    t.slot = running_.size();
    running_.push_back(std::move(owned));
    if (t.deadline < check_at_) check_at_ = t.deadline;
    if (!t.easy || curl_multi_add_handle(multi_, t.easy) != CURLM_OK) finish(t, CURLE_FAILED_INIT);
  }

  void socket_ready(int fd, std::uint32_t events) {
    const int flags = (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                      (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    int running = 0;
    curl_multi_socket_action(multi_, fd, flags, &running);
    touched_ = true;
  }

  /// What is due: libcurl's timer, streams that said nothing for too long, calls that are done.
  void turn(TimePoint now) {
    if (now >= timer_at_) {
      timer_at_ = kNever;
      int running = 0;
      curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
      touched_ = true;
    }
    if (now >= check_at_) check_deadlines(now);
    if (!std::exchange(touched_, false)) return;
    int left = 0;
    while (const auto* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      Transfer* t = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
      const auto code = message->data.result;
      curl_multi_remove_handle(multi_, t->easy);
      finish(*t, code);
    }
  }

  TimePoint due() const { return std::min(timer_at_, check_at_); }

 private:
  std::unique_ptr<Transfer> take_transfer() {
    if (!idle_.empty()) {
      auto t = std::move(idle_.back());
      idle_.pop_back();
      return t;
    }
    auto t = std::make_unique<Transfer>();
    t->multi = this;
    t->easy = curl_easy_init();
    if (t->easy) curl_easy_setopt(t->easy, CURLOPT_SHARE, share_);
    return t;
  }

  void configure(Transfer& t) {
    if (!t.easy) return;
    curl_easy_reset(t.easy);  // else it counts the retries of all its calls together, and gives up at the fifth
    const auto set = [easy = t.easy](CURLoption option, auto value) { curl_easy_setopt(easy, option, value); };
    set(CURLOPT_PRIVATE, &t);
    set(CURLOPT_POST, 1L);
    set(CURLOPT_USERAGENT, "onboarding/0.1");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_TCP_NODELAY, 1L);
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_ERRORBUFFER, t.error.data());
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, &t);
    set(CURLOPT_WRITEFUNCTION, &Multi::on_body);
    set(CURLOPT_WRITEDATA, &t);
    set(CURLOPT_CLOSESOCKETFUNCTION, &Sockets::on_close);
    set(CURLOPT_CLOSESOCKETDATA, &sockets_);
    t.reply = {};
    t.received = 0;
    t.state = Transfer::going;
    t.error[0] = 0;
    curl_slist_free_all(std::exchange(t.headers, nullptr));
    for (const auto& h : t.call.headers) t.headers = curl_slist_append(t.headers, h.c_str());
    t.headers = curl_slist_append(t.headers, "Expect:");  // a 100-continue round trip buys nothing for bodies this small
    if (t.url != t.call.url) {
      t.url = t.call.url;
      t.loopback = is_loopback(t.url);
    }
    set(CURLOPT_URL, t.url.c_str());
    if (t.loopback) set(CURLOPT_PROXY, "");
    // Rather another stream of a connection than another connection; plain HTTP would wait a whole answer to learn that it cannot.
    const bool tls = t.url.compare(0, 8, "https://") == 0;
    set(CURLOPT_HTTP_VERSION, static_cast<long>(tls ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    set(CURLOPT_PIPEWAIT, tls ? 1L : 0L);
    set(CURLOPT_HTTPHEADER, t.headers);
    set(CURLOPT_POSTFIELDS, t.call.body.c_str());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.call.body.size()));
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<std::int64_t>(1, t.call.timeout.count())));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(kConnectTimeout, t.call.timeout).count()));
    t.deadline = t.call.on_piece && t.call.first_text_timeout.count() > 0 ? t.started + t.call.first_text_timeout : kNever;
  }

  static std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* user) {
    auto& t = *static_cast<Transfer*>(user);
    t.received += size;
    if (t.received > t.call.max_response_bytes) {
      t.state = Transfer::too_large;
      return 0;  // ends the transfer
    }
    long status = 0;
    if (t.call.on_piece) curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
      t.reply.body.append(bytes, size);
      return size;
    }
    return t.multi->on_piece(t, {bytes, size}) ? size : 0;
  }

  /// Whether the transfer goes on.
  bool on_piece(Transfer& t, std::string_view piece) {
    if (t.state == Transfer::finished) return true;
    const bool had_text = t.reply.first_text_ms >= 0;
    switch (t.call.on_piece(piece)) {
      case Piece::idle: return true;
      case Piece::stop: t.state = Transfer::stopped; return false;
      case Piece::finished:
        t.state = Transfer::finished;
        t.deadline = SteadyClock::now() + kTailTimeout;
        break;
      case Piece::text:
        if (!had_text) t.reply.first_text_ms = ms_since(t.started);
        [[fallthrough]];
      case Piece::alive:
        if (t.reply.first_text_ms < 0) return true;
        t.deadline = t.call.idle_timeout.count() > 0 ? SteadyClock::now() + t.call.idle_timeout : kNever;
    }
    if (t.deadline < check_at_) check_at_ = t.deadline;
    return true;
  }

  void check_deadlines(TimePoint now) {
    check_at_ = kNever;
    for (std::size_t i = running_.size(); i-- > 0;) {  // finish() moves the last one into the gap
      auto& t = *running_[i];
      if (t.deadline <= now) {
        curl_multi_remove_handle(multi_, t.easy);
        finish(t, CURLE_OPERATION_TIMEDOUT);
      } else if (t.deadline < check_at_) {
        check_at_ = t.deadline;
      }
    }
    if (check_at_ != kNever) check_at_ = std::max(check_at_, now + kDeadlineStep);
  }

  void finish(Transfer& t, CURLcode code) {
    auto& r = t.reply;
    long status = 0, sent = 0;
    curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t.easy, CURLINFO_REQUEST_SIZE, &sent);
    r.status = static_cast<int>(status);
    r.was_sent = sent > 0;
    r.transport = outcome(t, code);
    if (r.transport != Transport::ok) r.detail = t.error[0] ? t.error.data() : curl_easy_strerror(code);
    r.latency_ms = ms_since(t.started);
    auto owned = std::move(running_[t.slot]);
    if (t.slot + 1 < running_.size()) {
      running_[t.slot] = std::move(running_.back());
      running_[t.slot]->slot = t.slot;
    }
    running_.pop_back();
    auto done = std::move(t.done);
    auto reply = std::move(r);
    t.call = {};
    if (t.easy) idle_.push_back(std::move(owned));
    done(std::move(reply));
  }

  static int on_socket(CURL*, curl_socket_t fd, int what, void* user, void*) {
    auto& self = *static_cast<Multi*>(user);
    const bool remove = what == CURL_POLL_REMOVE;
    self.sockets_.watch(fd, remove ? 0u : (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u), &self);
    return 0;
  }

  static int on_timer(CURLM*, long ms, void* user) {
    auto& self = *static_cast<Multi*>(user);
    self.timer_at_ = ms < 0 ? kNever : ms == 0 ? TimePoint::min() : SteadyClock::now() + std::chrono::milliseconds(ms);
    return 0;
  }

  Sockets& sockets_;
  CURLSH* share_;
  CURLM* multi_;
  TimePoint timer_at_ = kNever, check_at_ = kNever;
  bool touched_ = false;
  std::vector<std::unique_ptr<Transfer>> running_, idle_;
};

// One thread with its epoll and as many multi handles as its transfers need.
class Loop {
 public:
  explicit Loop(std::size_t number) : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    share_ = curl_share_init();
    ONBOARDING_ASSERT(share_ && wake_ >= 0 && sockets_.descriptor() >= 0, "libcurl, epoll and eventfd are there");
    // Names and TLS sessions are looked up once a thread, not once a multi handle; one thread needs no lock for that.
    curl_share_setopt(share_, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    curl_share_setopt(share_, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    epoll_event event{.events = EPOLLIN, .data = {.fd = wake_}};
    epoll_ctl(sockets_.descriptor(), EPOLL_CTL_ADD, wake_, &event);
    thread_ = std::thread([this, name = "curl-" + std::to_string(number)] {
      pthread_setname_np(pthread_self(), name.c_str());
      run();
    });
  }
  ~Loop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake();
    thread_.join();
    curl_share_cleanup(share_);
    close(wake_);
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void submit(HttpCall call, std::function<void(HttpReply)> done) {
    {
      std::lock_guard lock(mutex_);
      submitted_.emplace_back(std::move(call), std::move(done));
      if (!std::exchange(asleep_, false)) return;  // it looks before it sleeps
    }
    wake();
  }

 private:
  using Submitted = std::pair<HttpCall, std::function<void(HttpReply)>>;

  void run() {
    std::vector<Submitted> taken;
    while (take(taken)) {
      for (auto& [call, done] : taken) multi_with_room().start(std::move(call), std::move(done));
      taken.clear();
      const auto now = SteadyClock::now();
      for (auto& multi : multis_) multi->turn(now);
      wait();
    }
    for (auto& [call, done] : taken) {
      HttpReply reply;
      reply.transport = Transport::cancelled;
      done(std::move(reply));
    }
    multis_.clear();
  }

  /// False: the loop ends.
  bool take(std::vector<Submitted>& taken) {
    std::lock_guard lock(mutex_);
    taken.swap(submitted_);
    return !stopping_;
  }

  void wait() {
    auto due = kNever;
    for (const auto& multi : multis_) due = std::min(due, multi->due());
    int timeout_ms = 0;
    if (due != TimePoint::min()) {
      std::lock_guard lock(mutex_);
      asleep_ = submitted_.empty() && !stopping_;
      if (asleep_) {
        const auto left =
            due == kNever ? kDeadlineStep * 6'000 : std::chrono::ceil<std::chrono::milliseconds>(due - SteadyClock::now());
        timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
      }
    }
    std::array<epoll_event, 128> events;
    const int n = epoll_wait(sockets_.descriptor(), events.data(), static_cast<int>(events.size()), timeout_ms);
    {
      std::lock_guard lock(mutex_);
      asleep_ = false;
    }
    for (int i = 0; i < n; ++i) {
      if (events[i].data.fd == wake_) {
        std::uint64_t count;
        [[maybe_unused]] const auto read_bytes = read(wake_, &count, sizeof count);
      } else if (auto* multi = sockets_.watcher(events[i].data.fd)) {
        multi->socket_ready(events[i].data.fd, events[i].events);
      }
    }
  }

  // The first with room: few calls share few connections.
  Multi& multi_with_room() {
    for (auto& multi : multis_)
      if (multi->has_room()) return *multi;
    return *multis_.emplace_back(std::make_unique<Multi>(sockets_, share_));
  }

  void wake() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(wake_, &one, sizeof one);
  }

  const int wake_;
  CURLSH* share_ = nullptr;
  Sockets sockets_;                             // outlives the multi handles
  std::vector<std::unique_ptr<Multi>> multis_;  // the loop's thread only
  std::mutex mutex_;
  std::vector<Submitted> submitted_;
  bool stopping_ = false, asleep_ = false;
  std::thread thread_;
};

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
    ONBOARDING_ASSERT(initialised == CURLE_OK, "libcurl is there");
    for (std::size_t i = 0; i < kThreads; ++i) loops_.push_back(std::make_unique<Place>(i));
  }

  void submit(HttpCall call, std::function<void(HttpReply)> done) {
    if (in_flight_.fetch_add(1) >= max_transfers_) {
      in_flight_.fetch_sub(1);
      HttpReply reply;
      reply.transport = Transport::refused;
      reply.detail = "too many calls in flight";
      return done(std::move(reply));
    }
    // The first thread alone, while it has few: its wake-ups then serve several calls at once.
    auto* place = loops_.front().get();
    for (const auto& p : loops_) {
      if (p->in_flight < place->in_flight) place = p.get();
      if (place->in_flight < kTransfersPerMulti) break;
    }
    ++place->in_flight;
    place->loop.submit(std::move(call), [this, place, done = std::move(done)](HttpReply reply) {
      --place->in_flight;
      --in_flight_;
      done(std::move(reply));
    });
  }

 private:
  struct Place {
    explicit Place(std::size_t number) : loop(number) {}
    std::atomic<std::size_t> in_flight{0};
    Loop loop;
  };
  const std::size_t max_transfers_;
  std::atomic<std::size_t> in_flight_{0};
  std::vector<std::unique_ptr<Place>> loops_;
};

CurlLoop::CurlLoop(std::size_t max_transfers) : impl_(std::make_unique<Impl>(max_transfers)) {}
CurlLoop::~CurlLoop() = default;

void CurlLoop::submit(HttpCall call, std::function<void(HttpReply)> done) { impl_->submit(std::move(call), std::move(done)); }

}  // namespace onboarding::model

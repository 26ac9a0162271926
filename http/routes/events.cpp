// /api/events: the log as NDJSON, for analysts. Personal texts stay sealed.
#include <pthread.h>

#include <algorithm>

#include "events/export/event_export.hpp"
#include "events/privacy/no_keys.hpp"
#include "http/routes/api.hpp"
#include "http/routes/exports.hpp"
#include "http/routes/write.hpp"

namespace onboarding::http {
namespace {

constexpr std::size_t enough_unsent = 1 << 20;
constexpr std::chrono::milliseconds reader_pause{20}, idle_look{1'000};
constexpr std::chrono::seconds stream_idle{15};

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    if (comma > 0) out.emplace_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return out;
}

/// RFC 9110 12.5.3, of the one coding that we have: named, and not with a weight of 0.
bool accepts_zstd(const Request& request) {
  const auto header = request.header("accept-encoding");
  if (!header) return false;
  for (std::string item : split(*header)) {
    std::erase_if(item, [](char c) { return c == ' ' || c == '\t'; });
    std::transform(item.begin(), item.end(), item.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const std::string_view weight = item.starts_with("zstd;q=") ? std::string_view(item).substr(7) : "";
    if (item == "zstd" || weight.find_first_of("123456789") != weight.npos) return true;
  }
  return false;
}

/// Feeds one client until it has all, goes, or the server ends. On a thread of its own: reading the log blocks.
void feed(exporting::EventExport& events, BodyStream& body, log::EventLog& log, bool follow, bool zstd, Exports& exports) {
  std::unique_ptr<log::Subscription> subscription;
  if (follow) subscription = log.subscribe([&exports](std::uint32_t) { exports.wake(); });
  std::string lines;
  while (!exports.ending() && !body.over()) {
    if (body.unsent() > enough_unsent) {
      exports.wait(reader_pause);
      continue;
    }
    lines.clear();
    const auto more = events.page(lines);
    if (!more) {
      subscription.reset();
      return body.end(false);
    }
    if (!lines.empty() && !body.write(zstd ? exporting::zstd_frame(lines) : lines)) break;
    if (*more) continue;
    if (!follow) break;
    exports.wait(idle_look);
  }
  subscription.reset();
  body.end();
}

void get_events(Api& api, Exports& exports, const Responder& responder) {
  if (!api.authority.operator_only(responder)) return;
  const auto& request = responder->request();
  static constexpr std::string_view known[] = {"type", "session", "flow", "user", "since", "before", "after", "follow"};
  std::string unknown_names;
  for (const auto& [name, text] : request.query)
    if (std::find(std::begin(known), std::end(known), name) == std::end(known))
      unknown_names += (unknown_names.empty() ? "" : ", ") + name;
  if (!unknown_names.empty())
    return responder->fail(Errc::invalid, "There is no parameter " + unknown_names +
                                              "; there are type, session, flow, user, since, before, after and follow.");
  const auto value = [&](std::string_view name) {
    const auto* text = request.query_value(name);
    return text == nullptr ? std::string() : *text;
  };
  exporting::Filter filter;
  filter.types = split(value("type"));
  filter.session = value("session");
  filter.flow = value("flow");
  if (const auto user = value("user"); !user.empty()) filter.blinded_user = api.ports.secrets.blinded_user_id(user);
  if (!query_time(responder, "since", filter.since) || !query_time(responder, "before", filter.before)) return;
  if (const auto unknown = exporting::unknown_type(filter))
    return responder->fail(Errc::invalid, "type: \"" + *unknown + "\" is no event type.");
  const auto follow = value("follow");
  if (!follow.empty() && follow != "true" && follow != "false")
    return responder->fail(Errc::invalid, "follow must be true or false.");
  auto cursor = exporting::Cursor::parse(value("after"), api.ports.log);
  if (!cursor) return responder->fail(Errc::invalid, "after: " + cursor.error().detail + ".");
  if (!exports.room()) return responder->fail(Errc::overloaded);
  Response head;
  head.content_type = "application/x-ndjson";
  const bool zstd = accepts_zstd(request);
  head.with("Vary", "Accept-Encoding");
  if (zstd) head.with("Content-Encoding", "zstd");
  static const std::string idle_frame = exporting::zstd_frame("\n");
  auto body = responder->begin_stream(std::move(head), zstd ? std::string_view(idle_frame) : "\n", stream_idle);
  if (!body) return exports.leave();
  exports.start([&api, &exports, body, filter = std::move(filter), cursor = std::move(*cursor), follow = follow == "true", zstd] {
    privacy::NoKeys no_keys;
    exporting::EventExport events(api.ports.log, no_keys, filter, cursor, codec::Reveal::sealed);
    feed(events, *body, api.ports.log, follow, zstd, exports);
  });
}

}  // namespace

void add_event_routes(Router& router, Api& api, Exports& exports) {
  router.add({.method = Method::get, .path = "/api/events", .handler = [&](const Responder& r) { get_events(api, exports, r); }});
}

bool Exports::room() {
  const std::lock_guard lock(mutex_);
  std::erase_if(threads_, [](Thread& t) { return t.done->load(); });  // joins what has ended
  if (ending_ || running_ >= most) return false;
  ++running_;
  return true;
}

void Exports::leave() {
  const std::lock_guard lock(mutex_);
  --running_;
}

void Exports::start(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  auto done = std::make_shared<std::atomic<bool>>(false);
  threads_.push_back({done, std::jthread([this, done, work = std::move(work)] {
                        ::pthread_setname_np(::pthread_self(), "http-export");
                        work();
                        leave();
                        *done = true;
                      })});
}

void Exports::wait(std::chrono::milliseconds most_time) {
  std::unique_lock lock(mutex_);
  const auto seen = wakes_;
  woken_.wait_for(lock, most_time, [&] { return ending_ || wakes_ != seen; });
}

void Exports::wake() {
  {
    const std::lock_guard lock(mutex_);
    ++wakes_;
  }
  woken_.notify_all();
}

bool Exports::ending() {
  const std::lock_guard lock(mutex_);
  return ending_;
}

void Exports::stop() {
  std::vector<Thread> last;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    last.swap(threads_);
  }
  woken_.notify_all();
  last.clear();  // joins
}

}  // namespace onboarding::http

#include "actors/session/flow_registry.hpp"

#include <future>

#include "actors/gateway.hpp"
#include "events/codec/codec.hpp"
#include "events/codec/json.hpp"
#include "events/fault_point.hpp"
#include "events/privacy/secrets.hpp"

namespace onboarding::session {

namespace {

FaultPoint before_publish("flow.before_publish");
FaultPoint after_publish("flow.after_publish");

constexpr std::uint32_t flow_partition = 0;
constexpr const char* flow_stream = "flows";
constexpr std::size_t page_records = 256;
// An append that ends in doubt is read again and, where it is not there, tried again.
constexpr int max_attempts = 5;

/// Of the definition without its version: the same content is the same flow.
result<std::string> content_hash(const std::string& definition) {
  auto document = codec::parse_json(definition);
  if (!document) return tl::make_unexpected(document.error());
  if (document->IsObject()) document->RemoveMember("version");
  return privacy::sha256_hex(codec::canonical_json(*document));
}

result<std::vector<log::Record>> read_page(log::EventLog& log, std::uint64_t after) {
  // Shared: the thread that keeps a promise may still be inside it when the one that waited is gone.
  const auto promise = std::make_shared<std::promise<result<std::vector<log::Record>>>>();
  log.read_stream(flow_partition, flow_stream, after, page_records,
                  [promise](result<std::vector<log::Record>> records) { promise->set_value(std::move(records)); });
  return promise->get_future().get();
}

log::AppendOutcome append_and_wait(log::EventLog& log, log::Append record) {
  const auto promise = std::make_shared<std::promise<log::AppendOutcome>>();
  log.append(std::move(record), [promise](log::AppendOutcome outcome) { promise->set_value(std::move(outcome)); });
  return promise->get_future().get();
}

}  // namespace

FlowRegistry::FlowRegistry(log::EventLog& log, privacy::KeyStore& keys, const Clock& clock, RandomSource& random)
    : log_(log), keys_(keys), clock_(clock), random_(random), snapshot_(std::make_shared<const Snapshot>()) {}

result<std::unique_ptr<FlowRegistry>> FlowRegistry::open(log::EventLog& log, privacy::KeyStore& keys, const Clock& clock,
                                                         RandomSource& random, const std::vector<domain::Flow>& flows) {
  std::unique_ptr<FlowRegistry> registry(new FlowRegistry(log, keys, clock, random));
  if (const auto read = registry->read_on(); !read) return tl::make_unexpected(read.error());
  if (const auto published = registry->publish_new(flows); !published) return tl::make_unexpected(published.error());
  return registry;
}

std::shared_ptr<const domain::Flow> FlowRegistry::find(std::string_view name, std::uint32_t version) const {
  const SnapshotPtr now = snapshot();
  const auto found = now->flows.find(name);
  if (found == now->flows.end() || version == 0 || version > found->second.size()) return nullptr;
  return found->second[version - 1].flow;
}

std::shared_ptr<const domain::Flow> FlowRegistry::newest(std::string_view name) const {
  const SnapshotPtr now = snapshot();
  const auto found = now->flows.find(name);
  return found == now->flows.end() ? nullptr : found->second.back().flow;
}

result<void> FlowRegistry::publish_new(const std::vector<domain::Flow>& flows) {
  for (const domain::Flow& flow : flows)
    if (const auto published = publish(flow, true); !published) return tl::make_unexpected(published.error());
  return {};
}

result<std::uint32_t> FlowRegistry::publish(domain::Flow flow) { return publish(std::move(flow), false); }

result<std::uint32_t> FlowRegistry::publish(domain::Flow flow, bool any_version_will_do) {
  const std::lock_guard lock(publishing_);
  if (const auto sound = domain::check(flow); !sound) return tl::make_unexpected(sound.error());
  flow.version = 1;  // of the definition; the event says which version it became
  const std::string definition = codec::write_flow(flow);
  const auto hash = content_hash(definition);
  if (!hash) return tl::make_unexpected(hash.error());

  Failure last{make_error_code(log::Errc::not_writable), "the flow could not be published"};
  for (int attempt = 0; attempt < max_attempts; ++attempt) {
    const SnapshotPtr now = snapshot();
    const auto known = now->flows.find(flow.name);
    const auto versions = static_cast<std::uint32_t>(known == now->flows.end() ? 0 : known->second.size());
    for (std::uint32_t version = versions; version > 0; version = any_version_will_do ? version - 1 : 0)
      if (known->second[version - 1].content_hash == *hash) return version;

    auto record = record_of({flow.name, versions + 1, definition, *hash}, *now);
    if (!record) return tl::make_unexpected(record.error());
    if (before_publish.hit()) return failure(make_error_code(log::Errc::not_writable), "fault point");
    const log::AppendOutcome outcome = append_and_wait(log_, std::move(*record));
    (void)after_publish.hit();
    if (const auto* refused = std::get_if<log::Refused>(&outcome)) return tl::make_unexpected(refused->error);
    if (std::holds_alternative<log::Fenced>(outcome))
      return failure(make_error_code(GatewayErrc::owned_elsewhere), std::to_string(flow_partition));
    if (const auto* in_doubt = std::get_if<log::InDoubt>(&outcome)) last = in_doubt->error;
    // Durable, in conflict or in doubt: what the log has is what counts, and the next round finds it there.
    if (const auto read = read_on(); !read) return tl::make_unexpected(read.error());
  }
  return tl::make_unexpected(last);
}

result<void> FlowRegistry::refresh() {
  const std::lock_guard lock(publishing_);
  return read_on();
}

result<log::Append> FlowRegistry::record_of(const domain::FlowPublished& event, const Snapshot& now) const {
  log::Append record;
  record.partition = flow_partition;
  record.stream = flow_stream;
  record.expected_version = now.stream_version;
  record.record_id.resize(16);
  random_.fill({reinterpret_cast<std::uint8_t*>(record.record_id.data()), record.record_id.size()});
  record.count = 1;
  record.time = std::max(clock_.now(), now.time);
  const std::vector<domain::Event> events = {event};
  auto payload = codec::encode({}, flow_stream, now.stream_version + 1, record.time, events, nullptr);
  if (!payload) return tl::make_unexpected(payload.error());
  record.payload = std::move(*payload);
  return record;
}

result<void> FlowRegistry::read_on() {
  auto next = std::make_shared<Snapshot>(*snapshot());
  for (bool more = true; more;) {
    const auto records = read_page(log_, next->stream_version);
    if (!records) return tl::make_unexpected(records.error());
    for (const log::Record& record : *records)
      if (const auto folded = fold(record, *next); !folded) return folded;
    more = records->size() == page_records;
  }
  std::atomic_store(&snapshot_, SnapshotPtr(std::move(next)));
  return {};
}

result<void> FlowRegistry::fold(const log::Record& record, Snapshot& next) const {
  const auto events = codec::decode(record, keys_);
  if (!events) return tl::make_unexpected(events.error());
  for (const codec::DecodedEvent& decoded : *events) {
    next.stream_version = decoded.recorded.version;
    next.time = decoded.recorded.time;
    const auto* published = std::get_if<domain::FlowPublished>(&decoded.recorded.event);
    if (!published) continue;
    auto flow = codec::parse_flow(published->definition);
    if (!flow) return tl::make_unexpected(flow.error());
    flow->version = published->version;
    auto& versions = next.flows[published->name];
    if (published->version != versions.size() + 1)
      return failure(make_error_code(log::Errc::corrupt), "the versions of flow " + published->name + " have a gap");
    versions.push_back({std::make_shared<const domain::Flow>(std::move(*flow)), published->content_hash});
  }
  return {};
}

FlowDesk::~FlowDesk() {
  if (putting_.joinable()) putting_.join();
}

result<PublishedFlow> FlowDesk::find(std::string_view name, std::uint32_t version) const {
  const auto flow = version == 0 ? registry_.newest(name) : registry_.find(name, version);
  if (!flow) return failure(make_error_code(GatewayErrc::unknown_flow));
  return PublishedFlow{flow->version, codec::write_flow(*flow)};
}

void FlowDesk::put(std::string name, std::string definition, std::function<void(result<PublishedFlow>)> done) {
  const auto wrong = [](const std::string& what) { return failure(std::make_error_code(std::errc::invalid_argument), what); };
  auto flow = codec::parse_flow(definition);
  if (!flow) return done(wrong(flow.error().detail));
  if (flow->name != name) return done(wrong("/name: must be \"" + name + "\", as in the path"));
  if (const auto sound = domain::check(*flow); !sound) return done(wrong(sound.error().detail));
  if (busy_.exchange(true)) return done(failure(make_error_code(GatewayErrc::overloaded), "another flow is being put"));
  if (putting_.joinable()) putting_.join();
  putting_ = std::thread([this, flow = std::move(*flow), done = std::move(done)]() mutable {
    const auto newest = registry_.newest(flow.name);
    const std::string name = flow.name;
    const auto version = registry_.publish(std::move(flow));
    auto published = version ? find(name, *version) : tl::make_unexpected(version.error());
    if (published) published->is_new = !newest || newest->version != *version;
    busy_.store(false);
    done(std::move(published));
  });
}

}  // namespace onboarding::session

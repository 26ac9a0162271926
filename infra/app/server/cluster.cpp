#include "infra/app/server/cluster.hpp"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <spdlog/spdlog.h>

namespace onboarding::app {
namespace {

constexpr std::uint32_t flow_partition = 0;
constexpr std::chrono::milliseconds metrics_period{500};

}  // namespace

struct Cluster::Metrics {
  explicit Metrics(prometheus::Registry& registry)
      : partitions(gauge(registry, "onboarding_kafka_partitions_owned", "Partitions of the log that are served here")),
        waiting(gauge(registry, "onboarding_kafka_waiting", "Appends and reads that wait for the log")),
        waiting_bytes(gauge(registry, "onboarding_kafka_waiting_bytes", "Payloads of the appends that wait")),
        unsent(gauge(registry, "onboarding_kafka_producer_queue", "Messages that Kafka has not confirmed yet")),
        cache_bytes(gauge(registry, "onboarding_kafka_cache_bytes", "Of the file that holds what was read from Kafka")),
        in_doubt(
            counter(registry, "onboarding_kafka_in_doubt_total", "Messages of which it is not known whether Kafka has them")),
        lost(counter(registry, "onboarding_kafka_partitions_lost_total", "Partitions that another server took")),
        claims(prometheus::BuildCounter()
                   .Name("onboarding_kafka_claims_total")
                   .Help("Claims of this server that counted, and why they were made")
                   .Register(registry)),
        first_claims(claims.Add({{"why", "proposed"}})),
        claims_again(claims.Add({{"why", "in_doubt"}})),
        messages(prometheus::BuildCounter()
                     .Name("onboarding_kafka_messages_read_total")
                     .Help("Messages of the log that were read, whoever wrote them; void ones count for nobody")
                     .Register(registry)),
        counted(messages.Add({{"verdict", "counted"}})),
        voided(messages.Add({{"verdict", "void"}})) {}

  static prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  static prometheus::Counter& counter(prometheus::Registry& registry, const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
  }
  static void reach(prometheus::Counter& counter, std::uint64_t value) {
    counter.Increment(std::max(0.0, static_cast<double>(value) - counter.Value()));
  }

  prometheus::Gauge &partitions, &waiting, &waiting_bytes, &unsent, &cache_bytes;
  prometheus::Counter &in_doubt, &lost;
  prometheus::Family<prometheus::Counter>& claims;
  prometheus::Counter &first_claims, &claims_again;
  prometheus::Family<prometheus::Counter>& messages;
  prometheus::Counter &counted, &voided;
};

Cluster::Cluster(log::KafkaLog& log, privacy::KafkaKeyStore& keys, session::FlowRegistry& registry,
                 std::vector<domain::Flow> flows, Runtime& runtime, prometheus::Registry& metrics,
                 std::shared_ptr<spdlog::logger> logger)
    : log_(log),
      keys_(keys),
      registry_(registry),
      flows_(std::move(flows)),
      hosting_(std::make_shared<Hosting>(runtime, log.partitions())),
      logger_(std::move(logger)),
      metrics_(std::make_unique<Metrics>(metrics)) {
  keys_.on_erased([hosting = hosting_](const std::string& user) {
    const std::lock_guard lock(hosting->mutex);
    if (hosting->runtime != nullptr) hosting->runtime->forget(user);
  });
}

Cluster::~Cluster() {
  leave();
  const std::lock_guard lock(hosting_->mutex);
  hosting_->runtime = nullptr;
}

result<void> Cluster::join(log::MembershipOptions options) {
  options.gained = [this](std::uint32_t partition) { gain(partition); };
  options.lost = [this](std::uint32_t partition) { lose(partition); };
  options.tick = [this] {
    begin_hosting();
    look_after_flows();
    look_for_owners();
    tell_metrics();
  };
  auto joined = log::Membership::join(log_, std::move(options));
  if (!joined) return tl::unexpected(joined.error());
  membership_ = std::move(*joined);
  joining_ = false;
  return {};
}

void Cluster::leave() {
  leaving_ = true;
  if (membership_) membership_->leave();
  for (std::uint32_t partition = 0; partition < hosting_->here.size(); ++partition) lose(partition);
}

void Cluster::gain(std::uint32_t partition) {
  if (partition == flow_partition) flows_due_ = true;
  look_after_flows();  // what the partition's sessions go by is known before the first of them is read
  std::uint64_t claim = 0;
  {
    const std::lock_guard lock(hosting_->mutex);
    claim = ++hosting_->claims[partition];
  }
  // Nobody is given a key that the partition says is dead.
  keys_.when_followed(partition, log_.head(partition), [hosting = hosting_, partition, claim] {
    const std::lock_guard lock(hosting->mutex);
    hosting->followed.emplace_back(partition, claim);
  });
}

/// On the membership's thread, which ends before the runtime: a thread that has begun an actor keeps CAF's system from ending.
void Cluster::begin_hosting() {
  const std::lock_guard lock(hosting_->mutex);
  for (const auto& [partition, claim] : std::exchange(hosting_->followed, {})) {
    if (hosting_->claims[partition] != claim) continue;
    hosting_->runtime->gain(partition);
    hosting_->here[partition] = true;
  }
}

void Cluster::lose(std::uint32_t partition) {
  const std::lock_guard lock(hosting_->mutex);
  ++hosting_->claims[partition];
  if (hosting_->here[partition].exchange(false)) hosting_->runtime->lose(partition);
}

/// Whoever is asked first can answer for everything.
void Cluster::look_for_owners() {
  bool all = true;
  for (std::uint32_t partition = 0; partition < hosting_->here.size() && all && !knows_owners_; ++partition) {
    const Place place = place_of(partition);
    all = place.here || !place.address.empty();
  }
  if (all) knows_owners_ = true;
}

void Cluster::tell_metrics() {
  const auto now = std::chrono::steady_clock::now();
  if (now < metrics_due_) return;
  metrics_due_ = now + metrics_period;
  const auto counts = log_.counts();
  Metrics& m = *metrics_;
  m.partitions.Set(owned());
  m.waiting.Set(static_cast<double>(counts.waiting));
  m.waiting_bytes.Set(static_cast<double>(counts.waiting_bytes));
  m.unsent.Set(static_cast<double>(counts.unsent));
  m.cache_bytes.Set(static_cast<double>(counts.cache_bytes));
  Metrics::reach(m.in_doubt, counts.in_doubt);
  Metrics::reach(m.lost, counts.lost);
  Metrics::reach(m.first_claims, counts.claims - std::min(counts.claims, counts.claims_again));
  Metrics::reach(m.claims_again, counts.claims_again);
  Metrics::reach(m.counted, counts.counted);
  Metrics::reach(m.voided, counts.voided);
}

/// What others have published is read; what is ours to publish, is.
void Cluster::look_after_flows() {
  const std::uint64_t head = log_.head(flow_partition);
  if (head != flows_read_to_ || !knows_flows_) {
    if (const auto read = registry_.refresh(); !read) return logger_->warn("flows cannot be read: {}", read.error().message());
    flows_read_to_ = head;
  }
  if (flows_due_ && log_.owns(flow_partition)) {
    if (const auto published = registry_.publish_new(flows_); !published)
      return logger_->warn("flows cannot be published: {}", published.error().message());
    flows_due_ = false;
  }
  knows_flows_ = std::all_of(flows_.begin(), flows_.end(), [&](const domain::Flow& flow) { return registry_.newest(flow.name); });
}

http::Peers::Place Cluster::place_of(std::uint32_t partition) const {
  if (partition >= hosting_->here.size()) return {};
  if (hosting_->here[partition]) return {true, {}};
  if (joining_) return {};
  return {false, membership_->address_of(partition).value_or("")};
}

std::uint32_t Cluster::owned() const {
  return static_cast<std::uint32_t>(std::count(hosting_->here.begin(), hosting_->here.end(), true));
}

std::string Cluster::not_ready() const {
  if (leaving_) return "leaving";
  return !joining_ && membership_->joined() && knows_flows_ && knows_owners_ ? "" : "joining";
}

}  // namespace onboarding::app

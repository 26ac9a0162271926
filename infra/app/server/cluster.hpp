// This server among the others of the same Kafka log: gains and loses partitions as its membership says, and knows who serves the rest.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "actors/runtime.hpp"
#include "actors/session/flow_registry.hpp"
#include "events/log/kafka/membership.hpp"
#include "events/privacy/kafka/kafka_key_store.hpp"
#include "http/http_server.hpp"
#include "infra/app/config/config.hpp"

namespace prometheus {
class Registry;
}
namespace spdlog {
class logger;
}

namespace onboarding::app {

class Cluster final : public http::Peers {
 public:
  /// `flows`: those that this server is configured with; whoever serves partition 0 publishes them.
  Cluster(log::KafkaLog&, privacy::KafkaKeyStore&, session::FlowRegistry&, std::vector<domain::Flow> flows, Runtime&,
          prometheus::Registry&, std::shared_ptr<spdlog::logger>);
  ~Cluster() override;

  /// Once requests can be answered. Blocking, as Membership::join.
  result<void> join(log::MembershipOptions);
  /// Not ready from now on; serves until others have what was served here. Blocking, a few seconds at most. Idempotent.
  void leave();

  Place place_of(std::uint32_t partition) const override;
  std::uint32_t owned() const override;
  std::string not_ready() const override;

 private:
  /// What is served here. Shared with what the key store still owes.
  struct Hosting {
    Hosting(Runtime& runtime_of, std::uint32_t partitions) : here(partitions), runtime(&runtime_of), claims(partitions) {}
    std::vector<std::atomic<bool>> here;                            // by partition
    std::mutex mutex;                                               // of what follows
    Runtime* runtime;                                               // null: it ends
    std::vector<std::uint64_t> claims;                              // how often a partition was gained or lost
    std::vector<std::pair<std::uint32_t, std::uint64_t>> followed;  // partition and claim: the key store knows all of it
  };

  void gain(std::uint32_t partition);
  void lose(std::uint32_t partition);
  void begin_hosting();
  void look_after_flows();
  void look_for_owners();
  void tell_metrics();

  log::KafkaLog& log_;
  privacy::KafkaKeyStore& keys_;
  session::FlowRegistry& registry_;
  const std::vector<domain::Flow> flows_;
  const std::shared_ptr<Hosting> hosting_;
  const std::shared_ptr<spdlog::logger> logger_;
  std::atomic<bool> leaving_{false}, knows_flows_{false}, knows_owners_{false}, joining_{true};
  bool flows_due_ = false;           // the membership's thread's own, as what follows
  std::uint64_t flows_read_to_ = 0;  // of partition 0
  std::chrono::steady_clock::time_point metrics_due_{};
  struct Metrics;
  const std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<log::Membership> membership_;
};

}  // namespace onboarding::app

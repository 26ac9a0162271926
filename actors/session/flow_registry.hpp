// All versions of all flows, folded from the log. A flow becomes usable by being published: a FlowPublished event in the
// stream `flows` of partition 0, durable before anybody sees the version. No CAF type in it.
//
// Reading (find, newest) never waits for a publisher and may be done from any thread: a snapshot is immutable and is
// replaced whole.
// publish() may block on the log and is for start-up and for operators' threads; calls are serialised.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "actors/flows.hpp"
#include "events/clock.hpp"
#include "events/domain/flow.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::session {

class FlowRegistry final : public domain::FlowCatalog {
 public:
  /// Folds what the log has, then publishes each of `flows` whose content none of its versions has: what an operator put
  /// later stays in force over a restart, and a changed file becomes the next version.
  static result<std::unique_ptr<FlowRegistry>> open(log::EventLog&, privacy::KeyStore&, const Clock&, RandomSource&,
                                                    const std::vector<domain::Flow>& flows);

  std::shared_ptr<const domain::Flow> find(std::string_view name, std::uint32_t version) const override;
  std::shared_ptr<const domain::Flow> newest(std::string_view name) const override;

  /// Reads what other servers have published since. May block on the log, as publish().
  result<void> refresh();

  /// Of these, those whose content none of their versions has.
  result<void> publish_new(const std::vector<domain::Flow>& flows);
  /// The flow's version: a new one, durable, or the newest one when its content is the same. `flow.version` is ignored.
  result<std::uint32_t> publish(domain::Flow flow);

 private:
  /// `any_version_will_do`: content that an older version has is not published again.
  result<std::uint32_t> publish(domain::Flow flow, bool any_version_will_do);
  struct Version {
    std::shared_ptr<const domain::Flow> flow;
    std::string content_hash;
  };
  /// What the stream says up to one of its versions. Immutable once shared.
  struct Snapshot {
    std::map<std::string, std::vector<Version>, std::less<>> flows;  // version n at n - 1
    std::uint64_t stream_version = 0;
    domain::Timestamp time;
  };
  using SnapshotPtr = std::shared_ptr<const Snapshot>;

  FlowRegistry(log::EventLog&, privacy::KeyStore&, const Clock&, RandomSource&);
  result<void> read_on();
  result<void> fold(const log::Record&, Snapshot&) const;
  result<log::Append> record_of(const domain::FlowPublished&, const Snapshot&) const;
  SnapshotPtr snapshot() const { return std::atomic_load(&snapshot_); }

  log::EventLog& log_;
  privacy::KeyStore& keys_;
  const Clock& clock_;
  RandomSource& random_;
  std::mutex publishing_;
  SnapshotPtr snapshot_;  // through std::atomic_load and std::atomic_store only
};

/// The registry for operators: one put at a time, on a thread of its own.
class FlowDesk final : public Flows {
 public:
  explicit FlowDesk(FlowRegistry& registry) : registry_(registry) {}
  /// Waits for a put that is under way.
  ~FlowDesk() override;

  result<PublishedFlow> find(std::string_view name, std::uint32_t version) const override;
  void put(std::string name, std::string definition, std::function<void(result<PublishedFlow>)> done) override;

 private:
  FlowRegistry& registry_;
  std::atomic<bool> busy_{false};
  std::thread putting_;  // of whoever set busy_
};

}  // namespace onboarding::session

// What operators do to projections, carried out on a thread of its own ("proj-control"). Private to projections/postgres.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"
#include "projections/control.hpp"
#include "projections/core/writer.hpp"
#include "projections/postgres/generations.hpp"

namespace onboarding::projections {

class PostgresControl final : public Control {
 public:
  static constexpr std::size_t max_waiting = 64;

  /// All arguments outlive it. `changed` is called after each change, on this object's thread.
  PostgresControl(Pool&, const Generations&, log::EventLog&, privacy::KeyStore&, const PostgresOptions&,
                  std::function<void()> changed);
  /// Ends the action in hand; those that wait are answered as unavailable.
  ~PostgresControl() override;

  void act(Action, Done<Outcome>) override;
  void parked(std::string projection, std::string after, Done<std::vector<ParkedRow>>) override;

 private:
  void submit(std::function<void(bool refused)>);
  void run();
  result<Outcome> carry_out(const Action&);
  result<void> leave_archived_of_previous(const std::string& projection);
  result<void> change(pqxx::transaction_base&, const Action&, std::uint32_t& generation);
  struct Retrying;
  result<Outcome> retry(const Action&);
  /// Until the key is free, stays parked, or it is too late.
  result<void> retry_key(Retrying&, const ParkedRow&, bool skip_first, Outcome&);
  /// `behind`: a key and a generation, in their order; `key`: only this one.
  result<std::vector<ParkedRow>> read_parked(const std::string& projection, const std::string& key,
                                             const std::pair<std::string, std::uint32_t>& behind);
  result<std::vector<std::uint64_t>> waiting(const std::string& projection, std::uint32_t generation, const ParkedRow&,
                                             std::size_t most, std::uint64_t after = 0);

  Pool& pool_;
  const Generations& books_;
  log::EventLog& log_;
  privacy::KeyStore& keys_;
  const PostgresOptions options_;
  const std::function<void()> changed_;
  std::mutex mutex_;
  std::condition_variable submitted_;
  std::deque<std::function<void(bool refused)>> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace onboarding::projections

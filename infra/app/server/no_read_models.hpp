// The queries of a server without a database: every one is answered at once, as unavailable.
#pragma once

#include "projections/queries.hpp"

namespace onboarding::app {

class NoReadModels final : public projections::Queries {
 public:
  void profile(projections::UserSelector, Done<projections::Profile> done) override { refuse(done); }
  void sessions_of_user(projections::UserSelector, projections::PageRequest, Done<projections::SessionPage> done) override {
    refuse(done);
  }
  void sessions(projections::SessionFilter, projections::PageRequest, Done<projections::SessionPage> done) override {
    refuse(done);
  }
  void stats(Done<projections::Stats> done) override { refuse(done); }
  void completion(std::uint32_t, Done<projections::Completion> done) override { refuse(done); }
  void abandonment(std::uint32_t, Done<std::vector<projections::AbandonmentField>> done) override { refuse(done); }
  void funnel(Done<std::vector<projections::FunnelStep>> done) override { refuse(done); }
  void messages(std::uint32_t, Done<projections::MessageBuckets> done) override { refuse(done); }
  void usage(std::uint32_t, Done<std::vector<projections::UsageRow>> done) override { refuse(done); }
  void quality(std::uint32_t, Done<std::vector<projections::QualityDay>> done) override { refuse(done); }
  void wait_for(projections::Freshness wanted, std::function<void(bool, projections::Lag)> done) override {
    done(false, {{}, wanted.at_least.value_or(Position{}), 0});
  }
  std::vector<projections::ProjectionStatus> projections() const override { return {}; }
  projections::DatabaseStatus database() const override {
    projections::DatabaseStatus status;
    status.detail = why;
    return status;
  }

 private:
  static constexpr const char* why = "no database is configured (postgres.url)";
  template <class T>
  static void refuse(const Done<T>& done) {
    done(failure(projections::Errc::unavailable, why));
  }
};

}  // namespace onboarding::app

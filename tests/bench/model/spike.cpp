// A launch in virtual time: many people within a minute at one provider's tier-1 limits. How many are done after 30 minutes, in which
// order, and how honest the forecasts were. The lease desk alone, with people who think before they answer. Run:
// bench_spike [people] [seconds to think]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <queue>
#include <random>
#include <tuple>
#include <vector>

#include "actors/model/policy/lease_desk.hpp"

namespace {

using namespace onboarding::model;
using namespace std::chrono_literals;

constexpr auto kWithin = 60s, kFor = 1'800s;
constexpr std::uint32_t kTurns = 6;
const Instant kStart{1'000'000s};

double seconds(std::chrono::nanoseconds t) { return std::chrono::duration<double>(t).count(); }

class Spike {
 public:
  Spike(std::vector<ProviderSettings> providers, std::size_t people, double think_s)
      : desk_(std::move(providers), {}, kStart), people_(people), think_s_(think_s) {
    for (std::size_t i = 0; i < people; ++i) {
      people_[i].arrived = kStart + std::chrono::nanoseconds(kWithin) * i / people;
      at(people_[i].arrived, [this, i] { ask(i); });
    }
  }

  void run() {
    while (!events_.empty() && events_.top().at <= kStart + kFor) {
      const auto e = events_.top();
      events_.pop();
      now_ = e.at;
      e.what();
    }
  }

  void print(const char* name) {
    std::vector<double> took, first;
    for (const auto& p : people_) {
      if (p.turns == kTurns) took.push_back(seconds(p.done - p.arrived));
      if (p.turns > 0) first.push_back(seconds(p.first - p.arrived));
    }
    const auto q = [](std::vector<double>& v, double share) {
      std::sort(v.begin(), v.end());
      return v.empty() ? 0.0 : v[static_cast<std::size_t>(share * static_cast<double>(v.size() - 1))];
    };
    std::size_t overtakes = 0;
    for (std::size_t i = 1; i < people_.size(); ++i)
      overtakes += people_[i].turns == kTurns && (people_[i - 1].turns < kTurns || people_[i - 1].done > people_[i].done);
    std::printf(
        "%-28s done %4zu of %zu, the first after %4.0f s, the last after %5.0f s; done before the one who came before %3zu; "
        "first answers %4zu, p50 %4.0f s; actual/promised p10 %.2f p50 %.2f p90 %.2f of %zu\n",
        name, took.size(), people_.size(), q(took, 0), q(took, 1), overtakes, first.size(), q(first, 0.5), q(ratios_, 0.1),
        q(ratios_, 0.5), q(ratios_, 0.9), ratios_.size());
  }

 private:
  struct Person {
    Instant arrived, asked, first, done;
    std::chrono::milliseconds promised{0};
    std::uint32_t turns = 0;
  };
  struct Event {
    Instant at;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& o) const { return std::tie(at, order) > std::tie(o.at, o.order); }
  };

  void at(Instant t, std::function<void()> what) { events_.push({t, next_event_++, std::move(what)}); }
  std::chrono::nanoseconds span(double low_s, double high_s) {
    return std::chrono::nanoseconds(
        static_cast<std::int64_t>(std::uniform_real_distribution<double>(low_s, high_s)(random_) * 1e9));
  }

  void ask(std::size_t i) {
    auto& p = people_[i];
    LeaseRequest r;
    r.priority = Priority::queued_turn;
    r.deadline = now_ + 1h;
    r.input_tokens = 760;
    r.output_tokens = 256;
    r.session = i + 1;
    r.turn = r.session * 100 + p.turns;
    r.arrived = p.arrived.time_since_epoch().count() / 1'000;
    r.further = kTurns - p.turns - 1;
    const auto ticket = desk_.ask(r, now_);
    of_[ticket] = i;
    p.asked = now_;
    p.promised = {};
    advance();
    if (of_.contains(ticket)) p.promised = desk_.place({r.turn, 0, r.arrived}, now_).eta;
  }

  void advance() {
    for (const auto& d : desk_.advance(now_).decisions) {
      const auto i = of_.at(d.ticket);
      of_.erase(d.ticket);
      if (d.grant.status != LeaseStatus::granted) continue;
      at(now_ + span(0.3, 0.7), [this, i, id = d.grant.id] { answer(i, id); });
    }
    const auto next = desk_.next_event();
    if (!next || *next >= wake_) return;
    wake_ = *next;
    at(std::max(wake_, now_), [this, due = wake_] {
      if (due != wake_) return;
      wake_ = Instant::max();
      advance();
    });
  }

  void answer(std::size_t i, LeaseId id) {
    Settlement s;
    s.was_sent = true;
    s.input_tokens = 690;
    s.output_tokens = 50;
    desk_.settle(id, s, now_);
    auto& p = people_[i];
    if (p.promised > 0ms) ratios_.push_back(seconds(now_ - p.asked) / std::max(1.0, std::ceil(seconds(p.promised))));
    if (++p.turns == 1) p.first = now_;
    if (p.turns == kTurns) p.done = now_;
    else at(now_ + span(0.5 * think_s_, 1.5 * think_s_), [this, i] { ask(i); });
    advance();
  }

  LeaseDesk desk_;
  std::vector<Person> people_;
  double think_s_;
  Instant now_ = kStart, wake_ = Instant::max();
  std::map<LeaseDesk::Ticket, std::size_t> of_;
  std::priority_queue<Event> events_;
  std::uint64_t next_event_ = 0;
  std::vector<double> ratios_;
  std::mt19937_64 random_{20'261'121};
};

ProviderSettings provider(const char* name, std::uint32_t weight, std::uint32_t rpm, std::uint64_t tpm) {
  ProviderSettings s;
  s.name = name;
  s.enabled = true;
  s.weight = weight;
  s.requests_per_minute = rpm;
  s.tokens_per_minute = tpm;
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  const auto people = static_cast<std::size_t>(argc > 1 ? std::atoi(argv[1]) : 1'000);
  const double think_s = argc > 2 ? std::atof(argv[2]) : 2;
  const auto openai = provider("openai", 40, 500, 30'000);
  Spike alone({openai}, people, think_s);
  alone.run();
  alone.print("openai alone");
  Spike three({openai, provider("gemini", 40, 1'000, 0), provider("deepseek", 20, 500, 0)}, people, think_s);
  three.run();
  three.print("openai, gemini and deepseek");
}

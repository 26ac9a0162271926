// How much of a provider's budget the lease desk uses when more is wanted than there is, and how often the provider has to say
// 429: in virtual time, against strict providers whose arithmetic shares nothing with the desk's. Run: bench_saturation [minutes]
//
// Beside the share of all minutes stands that of all but the first, in which a desk that knows nothing of the process before starts in
// debt, and what a clairvoyant attains there: who keeps to both ways of counting, as the desk does, but sees the provider's own
// counters, needs no time to get there, knows each call's cost, and picks of the eight who are next whoever fits best. Calls are
// not divisible: a minute of 30,000 tokens holds 21.
//
// Each limit shape is counted in two ways: any sliding minute, and a bucket of one minute's limit with continuous refill. Calls need 5 to
// 50 ms to the provider and as much back, which reorders them; an answer takes 0.5 to 1.5 s. The desk's timer is 1 ms late.
// Demand is 1.2 times what the budget bears: steady, in one second of every ten, in one minute of every two; and with a restart
// in the middle of a minute, after which a new desk knows nothing while the provider remembers.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "actors/model/policy/lease_desk.hpp"

namespace {

using namespace onboarding::model;
using namespace std::chrono_literals;

const Instant kStart{1'000'000s};

double seconds(std::chrono::nanoseconds t) { return std::chrono::duration<double>(t).count(); }

// ---- the strict provider: its own arithmetic -------------------------------------------------------------------------------

class Meter {
 public:
  virtual ~Meter() = default;
  virtual double left(Instant now) = 0;
  virtual void charge(double amount, Instant now) = 0;
};

class SlidingMinute final : public Meter {
 public:
  SlidingMinute(double limit, std::chrono::nanoseconds window) : limit_(limit), window_(window) {}
  double left(Instant now) override {
    while (!charges_.empty() && charges_.front().first <= now - window_) used_ -= charges_.front().second, charges_.pop_front();
    return limit_ - used_;
  }
  void charge(double amount, Instant now) override { charges_.emplace_back(now, amount), used_ += amount; }

 private:
  double limit_, used_ = 0;
  std::chrono::nanoseconds window_;
  std::deque<std::pair<Instant, double>> charges_;
};

class LeakyBucket final : public Meter {
 public:
  LeakyBucket(double limit, std::chrono::nanoseconds window)
      : limit_(limit), level_(limit), per_second_(limit / seconds(window)) {}
  double left(Instant now) override {
    level_ = std::min(limit_, level_ + per_second_ * seconds(now - at_));
    at_ = now;
    return level_;
  }
  void charge(double amount, Instant now) override { left(now), level_ -= amount; }

 private:
  double limit_, level_, per_second_;
  Instant at_ = kStart;
};

class Both final : public Meter {
 public:
  Both(double limit, std::chrono::nanoseconds window) : window_(limit, window), bucket_(limit, window) {}
  double left(Instant now) override { return std::min(window_.left(now), bucket_.left(now)); }
  void charge(double amount, Instant now) override { window_.charge(amount, now), bucket_.charge(amount, now); }

 private:
  SlidingMinute window_;
  LeakyBucket bucket_;
};

enum class Counted { window, bucket, both };

struct Shape {
  std::string name;
  double rpm = 0, rpd = 0, tpm = 0, input_tpm = 0, output_tpm = 0, concurrent = 0;
  bool cap_reserved = false, headers = false;
};

struct Work {
  double input = 0, cap = 0, output = 0;
};

struct Used {
  double accepted = 0, tokens = 0, input = 0, output = 0, busy_seconds = 0;
};

class StrictProvider {
 public:
  StrictProvider(const Shape& shape, Counted counted) : shape_(shape) {
    const auto make = [&](double limit, std::chrono::nanoseconds window) -> std::unique_ptr<Meter> {
      if (limit <= 0) return nullptr;
      if (counted == Counted::both && window == 60s) return std::make_unique<Both>(limit, window);
      if (counted == Counted::bucket && window == 60s) return std::make_unique<LeakyBucket>(limit, window);
      return std::make_unique<SlidingMinute>(limit, window);
    };
    requests_ = make(shape.rpm, 60s), days_ = make(shape.rpd, 24h), tokens_ = make(shape.tpm, 60s);
    input_ = make(shape.input_tpm, 60s), output_ = make(shape.output_tpm, 60s);
  }

  bool fits(const Work& w, Instant now) {
    return (!requests_ || requests_->left(now) >= 1) && (!days_ || days_->left(now) >= 1) &&
           (!tokens_ || tokens_->left(now) >= w.input + w.cap) && (!input_ || input_->left(now) >= w.input) &&
           (!output_ || output_->left(now) > 0) && (shape_.concurrent <= 0 || in_flight_ < shape_.concurrent);
  }
  bool accepts(const Work& w, Instant now) {
    if (!fits(w, now)) return ++refused, false;
    if (requests_) requests_->charge(1, now);
    if (days_) days_->charge(1, now);
    if (tokens_) tokens_->charge(w.input + w.cap, now);
    if (input_) input_->charge(w.input, now);
    ++used.accepted, used.tokens += w.input + w.cap, used.input += w.input, ++in_flight_;
    return true;
  }
  void ends(const Work& w, Instant now, std::chrono::nanoseconds took) {
    --in_flight_;
    used.busy_seconds += seconds(took);
    used.output += w.output;
    if (output_) output_->charge(w.output, now);
  }
  void tell(Settlement& s, Instant now) {
    const auto header = [&](const char* name, Meter* meter, double limit) {
      if (!meter) return;
      s.remaining[name] = static_cast<std::int64_t>(std::max(0.0, meter->left(now)));
      s.limits[name] = static_cast<std::int64_t>(limit);
    };
    header("requests", requests_.get(), shape_.rpm);
    header("tokens", tokens_.get(), shape_.tpm);
    header("input-tokens", input_.get(), shape_.input_tpm);
    header("output-tokens", output_.get(), shape_.output_tpm);
  }

  /// Of the dimension that was used most since then.
  double share(double minutes, const Used& before = {}) const {
    double most = 0;
    const auto of = [&](double used, double limit) {
      if (limit > 0) most = std::max(most, used / limit);
    };
    of(used.accepted - before.accepted, shape_.rpm * minutes), of(used.tokens - before.tokens, shape_.tpm * minutes);
    of(used.input - before.input, shape_.input_tpm * minutes), of(used.output - before.output, shape_.output_tpm * minutes);
    of(used.busy_seconds - before.busy_seconds, shape_.concurrent * minutes * 60);
    return most;
  }

  std::int64_t refused = 0;
  Used used;

 private:
  Shape shape_;
  std::unique_ptr<Meter> requests_, days_, tokens_, input_, output_;
  std::int64_t in_flight_ = 0;
};

// ---- the world -------------------------------------------------------------------------------------------------------------

enum class Demand { steady, one_second_of_ten, one_minute_of_two };

// Calls a second that the budget bears, at the mean size of one.
double rate_of(const Shape& shape) {
  constexpr double kInput = 1'000, kCap = 400, kOutput = 80, kLatency = 1;
  double r = 1e9;
  const auto of = [&](double limit, double each) {
    if (limit > 0) r = std::min(r, limit / 60 / each);
  };
  of(shape.rpm, 1), of(shape.tpm, kInput + kCap), of(shape.input_tpm, kInput), of(shape.output_tpm, kOutput);
  if (shape.concurrent > 0) r = std::min(r, shape.concurrent / kLatency);
  return r;
}

/// Who comes with what, and when the next one comes.
class People {
 public:
  People(const Shape& shape, Demand demand) : rate_(1.2 * rate_of(shape)), demand_(demand) {}

  Work work() { return {std::floor(between(600, 1'400)), 400, std::floor(between(40, 120))}; }
  Instant next(Instant now) {
    const auto crowd = demand_ == Demand::steady ? 1 : demand_ == Demand::one_second_of_ten ? 10 : 2;
    const auto t = now - kStart;
    auto pause =
        std::chrono::nanoseconds(static_cast<std::int64_t>(std::exponential_distribution<double>(rate_ * crowd)(random_) * 1e9));
    const auto period = demand_ == Demand::one_second_of_ten ? 10s : 120s, open = demand_ == Demand::one_second_of_ten ? 1s : 60s;
    if (demand_ != Demand::steady && (t + pause) % period > open) pause = (t / period + 1) * period - t;
    return now + pause;
  }
  double between(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random_); }

 private:
  const double rate_;
  const Demand demand_;
  std::mt19937_64 random_{20'261'121};
};

/// The clairvoyant's share of all minutes but the first.
double attainable(const Shape& shape, Demand demand, double minutes) {
  StrictProvider provider(shape, Counted::both);
  People people(shape, demand);
  std::deque<Work> waiting;
  struct Running {
    Instant ends;
    std::chrono::nanoseconds took;
    Work work;
    bool operator<(const Running& o) const { return ends > o.ends; }
  };
  std::priority_queue<Running> running;
  Used in_first_minute;
  auto arrives = kStart;
  for (auto now = kStart; now < kStart + std::chrono::milliseconds(static_cast<std::int64_t>(minutes * 60'000)); now += 2ms) {
    if (now == kStart + 60s) in_first_minute = provider.used;
    for (; !running.empty() && running.top().ends <= now; running.pop())
      provider.ends(running.top().work, running.top().ends, running.top().took);
    for (; arrives <= now; arrives = people.next(arrives)) waiting.push_back(people.work());
    while (true) {
      auto best = waiting.end();
      for (auto w = waiting.begin(); w != waiting.end() && w - waiting.begin() < 8; ++w)
        if (provider.fits(*w, now) && (best == waiting.end() || w->input > best->input)) best = w;
      if (best == waiting.end()) break;
      provider.accepts(*best, now);
      const std::chrono::nanoseconds took(static_cast<std::int64_t>(people.between(0.5, 1.5) * 1e9));
      running.push({now + took, took, *best});
      waiting.erase(best);
    }
  }
  return provider.share(minutes - 1, in_first_minute);
}

class World {
 public:
  World(const Shape& shape, Counted counted, Demand demand, bool restart, double minutes)
      : shape_(shape),
        provider_(shape, counted),
        people_(shape, demand),
        end_(kStart + std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(minutes * 60))) {
    start_desk();
    // In the middle of a minute, while the budget is in full use.
    if (restart) at(kStart + 151s, [this] { start_desk(); });
    at(kStart + 60s, [this] { in_first_minute = provider_.used; });
    at(kStart, [this] { arrive(); });
  }

  void run() {
    while (!events_.empty() && events_.top().at <= end_) {
      auto e = events_.top();
      events_.pop();
      now_ = e.at;
      e.what();
    }
  }

  StrictProvider& provider() { return provider_; }
  std::vector<double> ratios;
  Used in_first_minute;

 private:
  struct Event {
    Instant at;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& o) const { return std::tie(at, order) > std::tie(o.at, o.order); }
  };

  void at(Instant t, std::function<void()> what) { events_.push({t, next_event_++, std::move(what)}); }
  std::chrono::nanoseconds span(double low_s, double high_s) {
    return std::chrono::nanoseconds(static_cast<std::int64_t>(people_.between(low_s, high_s) * 1e9));
  }

  void start_desk() {
    ProviderSettings s;
    s.name = shape_.name;
    s.enabled = true;
    s.weight = 1;
    s.requests_per_minute = static_cast<std::uint32_t>(shape_.rpm);
    s.requests_per_day =
        static_cast<std::uint32_t>(shape_.rpd - provider_.used.accepted > 0 ? shape_.rpd - provider_.used.accepted : 0);
    s.tokens_per_minute = static_cast<std::uint64_t>(shape_.tpm);
    s.input_tokens_per_minute = static_cast<std::uint64_t>(shape_.input_tpm);
    s.output_tokens_per_minute = static_cast<std::uint64_t>(shape_.output_tpm);
    s.max_concurrent = static_cast<std::uint32_t>(shape_.concurrent);
    s.counting.output_cap_reserved = shape_.cap_reserved;
    desk_ = std::make_unique<LeaseDesk>(std::vector{s}, std::vector<std::string>{}, now_);
    // Who waited asks again, as recovered turns do.
    ++life_;
    wake_ = Instant::max();
    for (const auto& w : std::exchange(waiting_, {})) ask(w.second);
  }

  void arrive() {
    ask(people_.work());
    at(people_.next(now_), [this] { arrive(); });
  }

  void ask(const Work& w) {
    LeaseRequest r;
    r.deadline = now_ + 24h;
    r.input_tokens = static_cast<std::uint32_t>(w.input * 1.25);
    r.output_tokens = static_cast<std::uint32_t>(w.cap);
    r.session = r.turn = ++asked_;
    const auto ticket = desk_->ask(r, now_);
    waiting_[ticket] = w;
    advance();
  }

  void advance() {
    auto round = desk_->advance(now_);
    ratios.insert(ratios.end(), round.actual_over_promised.begin(), round.actual_over_promised.end());
    for (const auto& d : round.decisions) {
      const auto w = waiting_.at(d.ticket);
      waiting_.erase(d.ticket);
      if (d.grant.status != LeaseStatus::granted) continue;
      at(now_ + span(0.005, 0.05), [this, w, id = d.grant.id, life = life_] { reach(w, id, life); });
    }
    const auto next = desk_->next_event();
    if (!next || *next + 1ms >= wake_) return;
    wake_ = *next + 1ms;
    at(std::max(wake_, now_), [this, due = wake_, life = life_] {
      if (life != life_ || due != wake_) return;  // another time was set since
      wake_ = Instant::max();
      advance();
    });
  }

  void reach(const Work& w, LeaseId id, int life) {
    Settlement s;
    s.was_sent = true;
    if (!provider_.accepts(w, now_)) {
      s.error = CallError::rate_limited;
      return answer(s, id, life);
    }
    const auto took = span(0.5, 1.5);
    at(now_ + took, [this, w, id, life, took] {
      provider_.ends(w, now_, took);
      Settlement done;
      done.was_sent = true;
      done.input_tokens = static_cast<std::int64_t>(w.input);
      done.output_tokens = static_cast<std::int64_t>(w.output);
      if (shape_.headers) provider_.tell(done, now_);
      answer(done, id, life);
    });
  }

  void answer(const Settlement& s, LeaseId id, int life) {
    at(now_ + span(0.005, 0.05), [this, s, id, life] {
      if (life != life_) return;  // nobody is there any more to read it
      desk_->settle(id, s, now_);
      advance();
    });
  }

  Shape shape_;
  StrictProvider provider_;
  People people_;
  Instant end_, now_ = kStart, wake_ = Instant::max();
  std::unique_ptr<LeaseDesk> desk_;
  int life_ = 0;
  std::map<LeaseDesk::Ticket, Work> waiting_;
  std::priority_queue<Event> events_;
  std::uint64_t next_event_ = 0, asked_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const double minutes = argc > 1 ? std::atof(argv[1]) : 10;
  std::vector<Shape> shapes(5);
  shapes[0] = {"RPM 500 + TPM 30k, cap reserved", 500, 0, 30'000, 0, 0, 0, true, true};
  shapes[1] = {"RPM 5k + TPM 2M, cap reserved", 5'000, 0, 2'000'000, 0, 0, 0, true, true};
  shapes[2] = {"RPM 1k + input TPM 1M + RPD", 1'000, 1'000 * minutes * 0.995, 0, 1'000'000, 0, 0, false, false};
  shapes[3] = {"100 in flight", 0, 0, 0, 0, 0, 100, false, false};
  shapes[4] = {"RPM 1k + ITPM 2M + OTPM 60k", 1'000, 0, 0, 2'000'000, 60'000, 0, false, true};
  std::printf("%-32s %-7s %-16s %8s %13s %11s %6s %18s\n", "limits", "counted", "demand", "share", "but 1st min.", "attainable",
              "429s", "actual/promised");
  for (const auto& shape : shapes)
    for (const auto counted : {Counted::window, Counted::bucket})
      for (int scenario = 0; scenario < 4; ++scenario) {
        const auto demand = scenario == 1   ? Demand::one_second_of_ten
                            : scenario == 2 ? Demand::one_minute_of_two
                                            : Demand::steady;
        World world(shape, counted, demand, scenario == 3, minutes);
        world.run();
        auto& r = world.ratios;
        std::sort(r.begin(), r.end());
        const auto at = [&](double q) {
          return r.empty() ? 0.0 : r[static_cast<std::size_t>(q * static_cast<double>(r.size() - 1))];
        };
        // Places are held on the way to the provider and back, too: 55 ms beside the second that the provider counts.
        const double bound = shape.concurrent > 0 ? 1 / 1.055 : 1;
        static constexpr const char* kNames[] = {"steady", "bursts of 1 s", "bursts of 1 min", "restart"};
        std::printf("%-32s %-7s %-16s %7.2f%% %12.2f%% %10.2f%% %6lld  p50 %4.2f p90 %4.2f\n", shape.name.c_str(),
                    counted == Counted::bucket ? "bucket" : "window", kNames[scenario], 100 * world.provider().share(minutes),
                    100 * world.provider().share(minutes - 1, world.in_first_minute),
                    100 * std::min(1.0, bound * attainable(shape, demand, minutes)),
                    static_cast<long long>(world.provider().refused), at(0.5), at(0.9));
      }
}

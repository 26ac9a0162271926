#include "tests/simulation/kafka/partition_world.hpp"

#include <list>
#include <random>
#include <set>

namespace onboarding::simulation {
namespace {

using namespace log;
using namespace log::kafka;

class Seeded final : public RandomSource {
 public:
  explicit Seeded(std::mt19937_64& random) : random_(random) {}
  void fill(std::span<std::uint8_t> bytes) override {
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
  }

 private:
  std::mt19937_64& random_;
};

/// What a reader makes of the partition.
struct Fold {
  std::vector<Record> records;
  std::map<std::string, std::uint64_t, std::less<>> versions;
  void add(const Record& record) {
    versions[record.stream] = record.last_version();
    records.push_back(record);
  }
};

struct Sent {
  Entry entry;
  int server;
  int life;
};

class World;

/// One process: its reader, its owner, its cache.
struct Server final : Streams {
  Server(int number, std::mt19937_64& random, const Checkpoint& from)
      : number(number), random(random), ledger(from), owner(0, this->random, *this, from) {}
  result<Place> find(std::string_view stream) override {
    const auto found = fold.versions.find(stream);
    return Place{0, found == fold.versions.end() ? 0 : found->second};
  }
  int number;
  Seeded random;
  Ledger ledger;
  Fold fold;
  Owner owner;
  bool paused = false;
};

struct Asked {
  int server, life;
  std::string record_id;
  std::uint64_t acknowledged_before;  // the highest sequence that anybody had been told of
  std::optional<AppendOutcome> outcome;
  int times = 0;
};

class World {
 public:
  World(std::uint64_t seed, Tally& tally) : random_(seed), tally_(tally) {}
  std::vector<std::string> run();

 private:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  bool chance(double probability) { return static_cast<double>(random_() >> 11) * 0x1p-53 < probability; }
  void wrong(std::string what) { wrong_.push_back(std::move(what)); }
  void met(const char* what) { ++tally_[what]; }

  Server& someone();
  void start(int number, bool with_cache);
  void crash(int number);
  void ask(Server&);
  void ask_to_read(Server&);
  void network();
  void read(Server&, std::uint64_t most);
  void take(Server&);
  void settle();
  void judge();

  static constexpr int servers = 3;
  std::mt19937_64 random_;
  Tally& tally_;
  std::vector<Entry> log_;  // the partition
  std::list<Sent> flying_;
  struct Cache {
    Checkpoint at;
    Fold fold;
  };
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<Cache> caches_;
  std::vector<int> lives_;
  std::list<Asked> asked_;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t appends_ = 0;
  std::vector<std::string> wrong_;
};

/// Mostly one that serves, where there is one.
Server& World::someone() {
  Server* server = servers_[below(servers)].get();
  if (server->owner.state() == Owner::State::following && chance(0.6)) server = servers_[below(servers)].get();
  return *server;
}

void World::start(int number, bool with_cache) {
  if (!with_cache) caches_[number] = {};
  servers_[number] = std::make_unique<Server>(number, random_, caches_[number].at);
  Server& server = *servers_[number];
  server.fold = caches_[number].fold;
}

void World::crash(int number) {
  met("crash");
  // What it had sent may still arrive.
  for (auto sent = flying_.begin(); sent != flying_.end();)
    if (sent->server == number && sent->life == lives_[number] && chance(0.5)) sent = flying_.erase(sent);
    else ++sent;
  ++lives_[number];
  const bool keeps = chance(0.7);
  met(keeps ? "restart with its cache" : "restart without a cache");
  start(number, keeps);
}

void World::ask(Server& server) {
  static const char* const streams[] = {"a", "b", "c", "d"};
  Append append;
  append.stream = streams[below(4)];
  const std::uint64_t known = server.find(append.stream)->version;
  append.expected_version = chance(0.85) ? known : known + below(3);
  append.count = 1 + static_cast<std::uint32_t>(below(3));
  append.record_id = std::string(16, '\0');
  ++appends_;
  std::memcpy(append.record_id.data(), &appends_, sizeof appends_);
  asked_.push_back({server.number, lives_[server.number], append.record_id, acknowledged_, {}, 0});
  Asked& asked = asked_.back();
  server.owner.append(append, [this, &asked, expected = append.expected_version, count = append.count](AppendOutcome outcome) {
    ++asked.times;
    if (const auto* durable = std::get_if<Durable>(&outcome)) {
      met("durable");
      if (durable->first.sequence <= asked.acknowledged_before)
        wrong("an append stands before one that was acknowledged before it was asked for");
      if (durable->first_version != expected + 1) wrong("a durable record has another version than it was decided on");
      acknowledged_ = std::max(acknowledged_, durable->first.sequence + count - 1);
    }
    if (std::holds_alternative<Fenced>(outcome)) met("fenced");
    if (std::holds_alternative<Conflict>(outcome)) met("conflict");
    asked.outcome = std::move(outcome);
  });
}

void World::ask_to_read(Server& server) {
  server.owner.barrier([this, &server, before = acknowledged_](result<void> done) {
    met(done ? "linear read" : "read refused");
    if (done && server.ledger.at().sequence < before)
      wrong("a read after a barrier does not see what was acknowledged before it");
  });
}

/// Whatever the network does with one message. Those of one producer mostly keep their order.
void World::network() {
  if (flying_.empty()) return;
  auto sent = flying_.begin();
  if (chance(0.15)) {
    std::advance(sent, below(flying_.size()));
    if (sent != flying_.begin()) met("overtaken");
  } else {
    // The oldest of a server that is chosen by chance: others' messages are not waited for.
    const int chosen = flying_.size() > 1 ? std::next(flying_.begin(), static_cast<std::ptrdiff_t>(below(flying_.size())))->server
                                          : sent->server;
    while (sent->server != chosen) ++sent;
  }
  Server& server = *servers_[sent->server];
  const bool alive = sent->life == lives_[sent->server];
  const double fate = static_cast<double>(below(1000)) / 1000;
  if (fate < 0.04) {  // lost, and the producer gives up
    met("lost");
    const Sent lost = *sent;
    flying_.erase(sent);
    if (alive) server.owner.failed(lost.entry);
  } else if (fate < 0.10) {  // the producer gives up, and it still arrives, or not
    met("in doubt");
    if (alive) server.owner.failed(Entry(sent->entry));
  } else {
    log_.push_back(sent->entry);
    if (fate < 0.13) met("doubled");
    else flying_.erase(sent);
  }
  take(server);
}

void World::read(Server& server, std::uint64_t most) {
  for (std::uint64_t i = 0; i < most; ++i) {
    auto offset = server.ledger.at().offset + 1;
    if (chance(0.01) && offset > 0) {
      met("delivered again");
      offset -= static_cast<std::int64_t>(below(static_cast<std::uint64_t>(offset))) + 1;
    } else if (chance(0.01)) {
      met("delivered too early");
      ++offset;
    }
    if (static_cast<std::size_t>(offset) >= log_.size()) return;
    const Entry& entry = log_[static_cast<std::size_t>(offset)];
    const Verdict verdict = server.ledger.read(offset, &entry);
    if (verdict == Verdict::seen || verdict == Verdict::gap) continue;
    if (verdict == Verdict::counted && entry.kind == Kind::events) server.fold.add(entry.record);
    if (verdict == Verdict::nothing)
      met(entry.kind == Kind::claim ? "void claim" : entry.kind == Kind::events ? "void record" : "void other");
    server.owner.read(entry, verdict, server.ledger.at());
    take(server);
  }
}

void World::take(Server& server) {
  for (Entry& entry : server.owner.to_send) flying_.push_back({std::move(entry), server.number, lives_[server.number]});
  server.owner.to_send.clear();
  auto ended = std::exchange(server.owner.ended, {});
  for (auto& [done, outcome] : ended) done(std::move(outcome));
  auto barriers = std::exchange(server.owner.barriers_ended, {});
  for (auto& [done, outcome] : barriers) done(std::move(outcome));
}

std::vector<std::string> World::run() {
  caches_.resize(servers);
  lives_.resize(servers);
  servers_.resize(servers);
  for (int i = 0; i < servers; ++i) start(i, false);
  // Two owners at once, in the same epoch: everybody claims from the empty log.
  if (chance(0.5))
    for (auto& server : servers_) server->owner.claim();
  for (int step = 0; step < 600 && wrong_.empty(); ++step) {
    Server& server = someone();
    const auto move = below(100);
    if (server.paused && move < 90) {
      if (chance(0.05)) server.paused = false;
    } else if (move < 30) {
      ask(server);
    } else if (move < 55) {
      network();
    } else if (move < 80) {
      read(server, 1 + below(6));
    } else if (move < 86) {
      ask_to_read(server);
    } else if (move < 92) {
      if (server.owner.state() == Owner::State::following) {
        met("claim");
        server.owner.claim();
      }
    } else if (move < 94) {
      met("hand-over");
      server.owner.hand_over();
    } else if (move < 96) {
      met("pause");
      server.paused = true;  // what it sent before still arrives
    } else if (move < 98) {
      caches_[server.number] = {server.ledger.at(), server.fold};
    } else {
      crash(server.number);
    }
    for (auto& each : servers_) take(*each);
  }
  if (wrong_.empty()) settle();
  if (wrong_.empty()) judge();
  return wrong_;
}

/// The network heals: everything that flies arrives or is lost for good, and one server claims until it owns.
void World::settle() {
  Server& last = *servers_[below(servers)];
  for (int round = 0; round < 200; ++round) {
    while (!flying_.empty()) {
      const Sent sent = flying_.front();
      flying_.pop_front();
      log_.push_back(sent.entry);
    }
    for (auto& server : servers_) {
      while (server->ledger.at().offset + 1 < static_cast<std::int64_t>(log_.size())) read(*server, log_.size());
      take(*server);
    }
    const bool idle = std::ranges::all_of(servers_, [](const auto& server) { return server->owner.idle(); });
    if (flying_.empty() && idle && last.owner.state() == Owner::State::owning) return;
    if (flying_.empty() && last.owner.state() == Owner::State::following) last.owner.claim();
    for (auto& server : servers_) take(*server);
  }
  wrong("it never came to rest");
}

/// By a second reading of the rule, and against what everybody was told.
void World::judge() {
  std::uint64_t epoch = 0, sequence = 0;
  Id claim;
  std::map<std::string, const Record*> counted;
  std::map<std::string, std::uint64_t> versions;
  for (const Entry& entry : log_) {
    if (entry.kind == Kind::claim && entry.epoch == epoch + 1) {
      epoch = entry.epoch;
      claim = entry.claim;
    }
    if (entry.kind == Kind::release && entry.claim == claim) claim = {};
    if (entry.kind != Kind::events || !claim || entry.claim != claim || entry.record.first_sequence != sequence + 1) continue;
    const Record& record = entry.record;
    if (!counted.emplace(record.record_id, &record).second) wrong("a record counts twice");
    if (record.first_version != versions[record.stream] + 1) wrong("the versions of a stream are not contiguous");
    versions[record.stream] = record.last_version();
    sequence = record.last_sequence();
  }
  for (const auto& server : servers_) {
    if (server->fold.records.size() != counted.size()) wrong("a reader counts other records than the rule");
    for (const Record& record : server->fold.records) {
      const auto found = counted.find(record.record_id);
      if (found == counted.end() || found->second->first_sequence != record.first_sequence)
        wrong("a reader counts a record elsewhere");
    }
  }
  for (const Asked& asked : asked_) {
    const bool is_there = counted.contains(asked.record_id);
    if (asked.times > 1) wrong("an append ended twice");
    if (!asked.outcome) {
      if (asked.life == lives_[asked.server]) wrong("an append never ended");
      if (is_there) met("written though nobody was told");
      continue;
    }
    if (const auto* durable = std::get_if<Durable>(&*asked.outcome)) {
      if (!is_there) wrong("an acknowledged record does not count");
      else if (counted[asked.record_id]->first_sequence != durable->first.sequence)
        wrong("an acknowledged record stands elsewhere");
    } else if (is_there) {
      wrong("a record counts though its append was refused");
    }
  }
}

}  // namespace

std::vector<std::string> run_partition_world(std::uint64_t seed, Tally& tally) { return World(seed, tally).run(); }

}  // namespace onboarding::simulation

#include "tests/simulation/kafka/seats_world.hpp"

#include <list>
#include <random>
#include <set>

#include "events/log/kafka/rules/seat.hpp"

namespace onboarding::simulation {
namespace {

using namespace log;
using namespace log::kafka;

// Milliseconds of virtual time. As the product's, but for the disturbed time and what the checks allow.
constexpr int tick = 10, session_timeout = 6'000, settle = 1'500, last_words = 3'000;
constexpr int disturbed = 40'000, latest_deal = 3'000;
// After the last disturbance: a dead server is noticed, the last deal comes late, a claim is lost on its way and made again.
constexpr int served_again_within = session_timeout + latest_deal + 2'500;
constexpr int still_from = 30'000, still_until = 60'000;  // nobody claims any more
constexpr int slots = 4;                                  // servers that may run
constexpr std::uint32_t partitions = 5;

class Seeded final : public RandomSource {
 public:
  explicit Seeded(std::mt19937_64& random) : random_(random) {}
  void fill(std::span<std::uint8_t> bytes) override {
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
  }

 private:
  std::mt19937_64& random_;
};

enum class Said : std::uint8_t { claimed, not_claimed, handed_over, lost };

/// What one server has of one partition: KafkaLog's part of it, and Membership's seat.
struct Part final : Streams {
  Part(std::uint32_t number, RandomSource& random)
      : number(number), owner(number, random, *this), seat({.lost = std::chrono::milliseconds(2 * session_timeout)}) {}
  result<Place> find(std::string_view stream) override {
    const auto found = versions.find(stream);
    return found == versions.end() ? Place{} : Place{number, found->second};
  }
  const std::uint32_t number;
  std::map<std::string, std::uint64_t, std::less<>> versions;
  Ledger ledger;
  Owner owner;
  Seat seat;
  bool was_replaced = false, claiming = false, handing_over = false;
};

struct Server {
  bool frozen = false, member = false;
  int joins_at = -1;   // asks the group to be let in
  int leaves_at = -1;  // out of the group already, serves on until then
  int ends_at = -1;    // whatever is left then stays unreleased
  int heard_of_at = 0;
  std::optional<std::pair<int, std::set<std::uint32_t>>> deal;  // on its way: when it is here, what it says
  std::vector<std::unique_ptr<Part>> parts;
  std::list<std::pair<Said, std::uint32_t>> inbox;
};

struct Flying {
  Entry entry;
  int arrives_at;
  std::uint64_t life;
};

struct Asked {
  std::uint32_t partition;
  bool durable = false;
  int times = 0;
};

class World {
 public:
  World(std::uint64_t seed, Tally& tally) : random_(seed), ids_(random_), tally_(tally) {}
  std::vector<std::string> run();

 private:
  int below(int bound) { return static_cast<int>(random_() % static_cast<std::uint64_t>(bound)); }
  bool chance(double probability) { return static_cast<double>(random_() >> 11) * 0x1p-53 < probability; }
  void wrong(std::string what) { wrong_.push_back(std::move(what) + " (at " + std::to_string(now_) + " ms)"); }
  void met(const char* what) { ++tally_[what]; }
  Seat::Time time() const { return Seat::Time{} + std::chrono::milliseconds(now_); }

  void start(int slot);
  void end(int slot);
  void disturb();
  void group();
  void network();
  void round(int slot);
  void read(Part&, std::uint32_t partition);
  void take(int slot, std::uint32_t partition);
  void tell(Server&, std::uint32_t partition);
  void look_after_seats(Server&);
  void leave(int slot);
  void ask(std::uint32_t partition);
  int who_serves(std::uint32_t partition) const;
  void check();
  void judge();

  std::mt19937_64 random_;
  Seeded ids_;
  Tally& tally_;
  int now_ = 0;
  std::unique_ptr<Server> servers_[slots];
  std::uint64_t lives_[slots] = {};
  std::vector<Entry> logs_[partitions];
  std::list<Flying> flying_[slots];
  int arrived_last_[slots][partitions] = {};
  bool redeal_ = false;
  std::vector<int> given_up_at_;  // members that died
  std::map<std::string, Asked> asked_;
  std::uint64_t appends_ = 0;
  int claimed_last_at_ = 0;
  std::vector<std::string> wrong_;
};

// ---- who lives

void World::start(int slot) {
  met("a server comes");
  servers_[slot] = std::make_unique<Server>();
  Server& server = *servers_[slot];
  ++lives_[slot];
  for (std::uint32_t p = 0; p < partitions; ++p) {
    server.parts.push_back(std::make_unique<Part>(p, ids_));
    read(*server.parts.back(), p);  // all of it, before it joins
  }
  server.joins_at = now_ + 50 + below(400);
}

/// Dead, or gone.
void World::end(int slot) {
  for (auto sent = flying_[slot].begin(); sent != flying_[slot].end();)
    sent = chance(0.5) ? flying_[slot].erase(sent) : std::next(sent);
  if (servers_[slot]->member) given_up_at_.push_back(now_ + session_timeout);
  servers_[slot].reset();
}

void World::disturb() {
  const int slot = below(slots);
  auto& server = servers_[slot];
  const int dice = below(100);
  if (!server) {
    if (dice < 60) start(slot);
  } else if (server->frozen) {
    if (dice < 50) {
      met("a server thaws");
      server->frozen = false;
    }
  } else if (dice < 25) {
    met("a server freezes");
    server->frozen = true;
  } else if (dice < 45) {
    met(server->leaves_at < 0 ? "a server dies" : "a leaving server dies");
    end(slot);
  } else if (dice < 65 && server->leaves_at < 0) {
    met("a server leaves");
    server->member = false;
    server->joins_at = -1;
    server->deal.reset();
    server->leaves_at = now_ + settle;
    redeal_ = true;
  }
}

/// Who is a member, and what is dealt to whom: in the order of their names, evenly, once every member has answered or is given up. Each hears
/// of it at its own time.
void World::group() {
  bool all_answer = true;
  const auto given_up = std::erase_if(given_up_at_, [this](int at) { return now_ >= at; });
  for (std::size_t i = 0; i < given_up; ++i) met("a dead member is given up");
  redeal_ = redeal_ || given_up > 0;
  for (auto& server : servers_) {
    if (!server) continue;
    if (!server->frozen && server->member) server->heard_of_at = now_;
    if (server->member && now_ - server->heard_of_at > session_timeout) {
      met("a frozen member is given up");
      server->member = false;
      server->deal.reset();
      redeal_ = true;
    }
    if (!server->frozen && !server->member && server->leaves_at < 0 && server->joins_at < 0) server->joins_at = now_ + below(500);
    if (!server->frozen && server->joins_at >= 0 && now_ >= server->joins_at) {
      server->joins_at = -1;
      server->member = redeal_ = true;
      server->heard_of_at = now_;
    }
    all_answer = all_answer && !(server->member && server->frozen);
  }
  if (!redeal_ || !all_answer || !given_up_at_.empty()) return;
  redeal_ = false;
  std::vector<Server*> members;
  for (auto& server : servers_)
    if (server && server->member) members.push_back(server.get());
  for (std::size_t i = 0; i < members.size(); ++i) {
    const bool late = chance(0.1);
    if (late) met("a deal comes late");
    std::set<std::uint32_t> dealt;
    for (std::uint32_t p = 0; p < partitions; ++p)
      if (p * members.size() / partitions == i) dealt.insert(p);
    members[i]->deal = {now_ + 30 + below(late ? latest_deal - 30 : 400), std::move(dealt)};
  }
}

// ---- the log

void World::network() {
  for (int slot = 0; slot < slots; ++slot) {
    for (auto sent = flying_[slot].begin(); sent != flying_[slot].end();) {
      if (now_ < sent->arrives_at) {
        ++sent;
        continue;
      }
      const bool told = servers_[slot] && lives_[slot] == sent->life;  // whose end is known to who sent it
      const std::uint32_t p = sent->entry.record.partition;
      const bool quiet = now_ >= disturbed;
      const double fate = quiet ? 1 : static_cast<double>(below(1000)) / 1000;
      if (fate < 0.02) met("lost");
      else logs_[p].push_back(sent->entry);
      if (fate < 0.04) {
        if (fate >= 0.02) met("in doubt");
        if (told) servers_[slot]->parts[p]->owner.failed(sent->entry);
      }
      if (fate >= 0.04 && fate < 0.06) {
        met("doubled");
        sent->arrives_at = now_ + below(2'000);
      } else {
        sent = flying_[slot].erase(sent);
      }
    }
  }
}

void World::read(Part& part, std::uint32_t partition) {
  while (part.ledger.at().offset + 1 < static_cast<std::int64_t>(logs_[partition].size())) {
    const auto offset = part.ledger.at().offset + 1;
    const Entry& entry = logs_[partition][static_cast<std::size_t>(offset)];
    const Verdict verdict = part.ledger.read(offset, &entry);
    if (verdict == Verdict::counted && entry.kind == Kind::events)
      part.versions[entry.record.stream] = entry.record.last_version();
    if (verdict == Verdict::counted && entry.kind == Kind::claim) claimed_last_at_ = now_;
    if (verdict == Verdict::nothing && entry.kind == Kind::claim) met("void claim");
    part.owner.read(entry, verdict, part.ledger.at());
  }
}

void World::take(int slot, std::uint32_t partition) {
  Owner& owner = servers_[slot]->parts[partition]->owner;
  for (Entry& entry : std::exchange(owner.to_send, {})) {
    // A producer mostly keeps the order; what it does not is in doubt for its owner, who claims again.
    const bool late = chance(0.03) && now_ < disturbed;
    int& last = arrived_last_[slot][partition];
    const int arrives_at = late ? now_ + below(2'000) : std::max(last, now_ + 1 + below(40));
    if (late) met("overtaken");
    else last = arrives_at;
    flying_[slot].push_back({std::move(entry), arrives_at, lives_[slot]});
  }
  for (auto& [done, outcome] : std::exchange(owner.ended, {})) done(std::move(outcome));
  for (auto& [done, outcome] : std::exchange(owner.barriers_ended, {})) done(std::move(outcome));
}

// ---- one server: what KafkaLog and Membership do around the rules

/// As Log::tell.
void World::tell(Server& server, std::uint32_t partition) {
  Part& part = *server.parts[partition];
  const auto state = part.owner.state();
  if (part.owner.replaced() && !std::exchange(part.was_replaced, true) && !part.claiming)
    server.inbox.emplace_back(Said::lost, partition);
  if (part.claiming && state != Owner::State::claiming) {
    part.claiming = false;
    server.inbox.emplace_back(state == Owner::State::owning ? Said::claimed : Said::not_claimed, partition);
  }
  if (part.handing_over && state == Owner::State::following) {
    part.handing_over = false;
    server.inbox.emplace_back(Said::handed_over, partition);
  }
}

/// As Member::look_after_seats.
void World::look_after_seats(Server& server) {
  for (std::uint32_t p = 0; p < partitions; ++p) {
    Part& part = *server.parts[p];
    const bool claimed = static_cast<bool>(part.ledger.at().claim);
    switch (part.seat.next(claimed, time())) {
      case Seat::Do::claim:
        met(claimed ? "a claim by force" : "a claim of what is free");
        part.was_replaced = false;
        part.owner.claim();
        part.claiming = true;
        break;
      case Seat::Do::hand_over:
        met("a hand-over");
        part.owner.hand_over();
        part.handing_over = true;
        break;
      case Seat::Do::nothing: break;
    }
  }
}

void World::round(int slot) {
  Server& server = *servers_[slot];
  if (server.frozen) return;
  // The log's thread and the group's are two: either may be the first to run.
  const bool reads_now = chance(0.8), looks_now = chance(0.6) || now_ >= disturbed;
  for (std::uint32_t p = 0; p < partitions && reads_now; ++p) {
    read(*server.parts[p], p);
    take(slot, p);
    tell(server, p);
  }
  if (!looks_now) return;
  if (server.deal && now_ >= server.deal->first) {
    for (std::uint32_t p = 0; p < partitions; ++p) server.parts[p]->seat.proposed(server.deal->second.contains(p), time());
    server.deal.reset();
  }
  for (const auto& [said, p] : std::exchange(server.inbox, {})) {
    Seat& seat = server.parts[p]->seat;
    switch (said) {
      case Said::claimed:
      case Said::not_claimed: seat.claimed(said == Said::claimed, time()); break;
      case Said::handed_over: seat.released(); break;
      case Said::lost:
        met("lost to another");
        seat.lost(time());
        break;
    }
  }
  if (server.leaves_at < 0) look_after_seats(server);
  else leave(slot);
  for (std::uint32_t p = 0; p < partitions && servers_[slot]; ++p) take(slot, p);
}

/// As Member::end, and the log's own end after it: others claim what is still served, the rest is released.
void World::leave(int slot) {
  Server& server = *servers_[slot];
  if (now_ < server.leaves_at) return;
  if (server.ends_at < 0) {
    server.ends_at = now_ + last_words;
    for (auto& part : server.parts) part->seat.proposed(false, time());
    look_after_seats(server);
    for (auto& part : server.parts) part->owner.hand_over();
  }
  const bool all = std::ranges::all_of(server.parts, [](const auto& p) { return p->owner.state() == Owner::State::following; });
  if (!all && now_ < server.ends_at) return;
  met(all ? "gone in order" : "gone without a word");
  end(slot);
}

// ---- people

/// -1: nobody.
int World::who_serves(std::uint32_t partition) const {
  for (int slot = 0; slot < slots; ++slot)
    if (servers_[slot] && !servers_[slot]->frozen && servers_[slot]->parts[partition]->seat.owned()) return slot;
  return -1;
}

void World::ask(std::uint32_t partition) {
  const int slot = who_serves(partition);
  if (slot < 0) return met("nobody serves");
  Part& part = *servers_[slot]->parts[partition];
  Append append;
  append.partition = partition;
  append.stream = "s" + std::to_string(below(3));
  append.expected_version = part.find(append.stream)->version;
  append.count = 1;
  append.record_id = std::string(16, '\0');
  ++appends_;
  std::memcpy(append.record_id.data(), &appends_, sizeof appends_);
  Asked& asked = asked_[append.record_id];
  asked.partition = partition;
  part.owner.append(append, [this, &asked](AppendOutcome outcome) {
    ++asked.times;
    asked.durable = std::holds_alternative<Durable>(outcome);
    if (asked.durable) met("durable");
    if (std::holds_alternative<Fenced>(outcome)) met("fenced");
  });
  take(slot, partition);
}

// ---- what must hold

/// Whoever has read all that there is and heard all that it was told serves what it owns, and nobody else does.
void World::check() {
  for (std::uint32_t p = 0; p < partitions; ++p) {
    int owners = 0;
    for (const auto& server : servers_) {
      if (!server || server->frozen || !server->inbox.empty()) continue;
      const Part& part = *server->parts[p];
      if (part.ledger.at().offset + 1 < static_cast<std::int64_t>(logs_[p].size()) || !part.seat.owned()) continue;
      if (part.owner.state() == Owner::State::following) return wrong("a server serves a partition that it does not own");
      ++owners;
    }
    if (owners > 1) return wrong("two servers serve a partition");
  }
}

/// By a second reading of the rule.
void World::judge() {
  std::set<std::string> counted;
  for (const auto& log : logs_) {
    std::uint64_t epoch = 0, sequence = 0;
    Id claim;
    for (const Entry& entry : log) {
      if (entry.kind == Kind::claim && entry.epoch == epoch + 1) epoch = entry.epoch, claim = entry.claim;
      if (entry.kind == Kind::release && entry.claim == claim) claim = {};
      if (entry.kind != Kind::events || !claim || entry.claim != claim || entry.record.first_sequence != sequence + 1) continue;
      sequence = entry.record.last_sequence();
      if (!counted.insert(entry.record.record_id).second) wrong("a record counts twice");
    }
  }
  for (const auto& [record_id, asked] : asked_) {
    if (asked.times > 1) wrong("an append ended twice");
    if (asked.durable && !counted.contains(record_id)) wrong("an acknowledged record does not count");
  }
}

std::vector<std::string> World::run() {
  for (int slot = 0; slot < slots - 1; ++slot) start(slot);
  for (; now_ < still_until + disturbed && wrong_.empty(); now_ += tick) {
    if (now_ < disturbed && chance(0.01)) disturb();
    if (now_ == disturbed) {  // from here on everybody is well, and one at least is there
      if (std::ranges::none_of(servers_, [](const auto& s) { return s && s->leaves_at < 0; })) start(0);
      for (auto& server : servers_)
        if (server) server->frozen = false;
    }
    group();
    network();
    for (int slot = 0; slot < slots; ++slot)
      if (servers_[slot]) round(slot);
    if (chance(0.2)) ask(static_cast<std::uint32_t>(below(partitions)));
    check();
    const int quiet = now_ - disturbed;
    for (std::uint32_t p = 0; p < partitions && quiet >= served_again_within; ++p)
      if (who_serves(p) < 0) wrong("a partition is served by nobody");
    if (quiet > still_from && claimed_last_at_ == now_) wrong("the seats are swapped without end");
  }
  if (wrong_.empty()) judge();
  return wrong_;
}

}  // namespace

std::vector<std::string> run_seats_world(std::uint64_t seed, Tally& tally) { return World(seed, tally).run(); }

}  // namespace onboarding::simulation

#include "events/log/kafka/rules/owner.hpp"

#include "events/domain/assertion.hpp"
#include "events/log/kafka/rules/planted.hpp"

namespace onboarding::log::kafka {
namespace {

Failure replaced_failure() { return {make_error_code(Errc::locked), "another server owns the partition"}; }

AppendOutcome refusal(bool elsewhere, std::uint64_t version_found) {
  if (elsewhere) return Refused{{Errc::out_of_bounds, "the stream lies in another partition"}};
  return Conflict{version_found};
}

}  // namespace

// ---- what is asked

void Owner::claim() {
  if (state_ != State::following) return;
  replaced_ = leaving_ = release_sent_ = false;
  standing_ = {};
  state_ = State::claiming;
  send_claim();
}

void Owner::hand_over() {
  if (state_ == State::following) return;
  leaving_ = true;
  if (state_ == State::owning) state_ = State::leaving;
  pump();
}

void Owner::append(Append append, AppendDone done) {
  if (state_ == State::following || leaving_) {
    ended.emplace_back(std::move(done), Fenced{});
    return;
  }
  waiting_.push_back({std::move(append), std::move(done)});
  pump();
}

void Owner::barrier(BarrierDone done) {
  if (state_ == State::following || leaving_) {
    barriers_ended.emplace_back(std::move(done), tl::unexpected(replaced_failure()));
    return;
  }
  barriers_.push_back(std::move(done));
  pump();
}

void Owner::give_up_barriers(const Failure& why) {
  for (auto* all : {&barriers_sent_, &barriers_}) {
    for (BarrierDone& done : *all) barriers_ended.emplace_back(std::move(done), tl::unexpected(why));
    all->clear();
  }
}

void Owner::give_up(const Failure& why) {
  for (UnderWay& each : under_way_)
    ended.emplace_back(std::move(each.waiting.done), each.sent ? AppendOutcome(InDoubt{why}) : AppendOutcome(Refused{why}));
  for (Waiting& each : waiting_) ended.emplace_back(std::move(each.done), Refused{why});
  give_up_barriers(why);
  under_way_.clear();
  waiting_.clear();
  ahead_.clear();
  state_ = State::following;
}

// ---- what happened

void Owner::read(const Entry& entry, Verdict verdict, const Checkpoint& now) {
  now_ = now;
  if (state_ == State::following) return;
  const bool counted = verdict == Verdict::counted, ours = entry.claim == claim_ || (standing_ && entry.claim == standing_);
  if (entry.kind == Kind::claim) {
    if (counted && entry.claim == claim_) return claimed();
    // Ours is behind another one of its epoch, or would be: it can never count.
    if ((counted && !ours) || (!counted && entry.claim == claim_ && state_ == State::claiming)) lose();
    return;
  }
  if (!ours) return;
  switch (entry.kind) {
    case Kind::events:
      if (counted) return read_back(entry.record);
      if (planted(Plant::two_owners_serving) && entry.record.first_sequence <= now_.sequence) return read_back(entry.record);
      // One before it is missing, and may still come: this claim's sequences are used up. What lies behind the counted ones was sent twice.
      if (entry.claim == now_.claim && entry.record.first_sequence > now_.sequence + 1) claim_again();
      return;
    case Kind::barrier:
      if (!counted || entry.record.record_id != barrier_id_) return;
      for (BarrierDone& done : barriers_sent_) barriers_ended.emplace_back(std::move(done), result<void>{});
      barriers_sent_.clear();
      return pump();
    case Kind::release:
      if (counted) state_ = State::following;
      return;
    case Kind::claim:
    case Kind::log: return;
  }
}

void Owner::failed(const Entry& entry) {
  if (state_ == State::following) return;
  if (entry.kind == Kind::claim) {
    // The same one again: should both be written, the second is void.
    if (state_ == State::claiming && entry.claim == claim_) to_send.push_back(entry);
    return;
  }
  if (state_ == State::claiming || entry.claim != claim_) return;  // a new claim decides about it, or has decided
  if (entry.kind == Kind::events && planted(Plant::in_doubt_taken_as_lost)) {
    for (UnderWay& each : under_way_) ended.emplace_back(std::move(each.waiting.done), Refused{{Errc::not_writable, "lost"}});
    under_way_.clear();
    ahead_.clear();
    next_sequence_ = now_.sequence + 1;
    return;
  }
  if (entry.kind == Kind::events) return claim_again();
  if (entry.kind == Kind::release) return send(Kind::release);
  if (entry.kind == Kind::barrier && entry.record.record_id == barrier_id_) {
    barriers_.insert(barriers_.begin(), std::make_move_iterator(barriers_sent_.begin()),
                     std::make_move_iterator(barriers_sent_.end()));
    barriers_sent_.clear();
    // Nobody waits any more: that it can be read again is still worth knowing.
    if (barriers_.empty()) send(Kind::barrier, barrier_id_);
    pump();
  }
}

// ---- claims

void Owner::send_claim() {
  claim_ = make_id(random_);
  claim_epoch_ = now_.epoch + 1;
  send(Kind::claim);
}

/// Something under our claim may be written now, later or never. A new claim ends that: what it does not find counted is void.
void Owner::claim_again() {
  if (state_ == State::claiming) return;
  state_ = State::claiming;
  standing_ = claim_;
  ++claims_again_;
  send_claim();
}

void Owner::claimed() {
  state_ = leaving_ ? State::leaving : State::owning;
  standing_ = {};
  release_sent_ = false;
  next_sequence_ = now_.sequence + 1;
  // What is still under way was not counted and never will be: it is appended again from what was read, in its order.
  for (auto each = under_way_.rbegin(); each != under_way_.rend(); ++each) waiting_.push_front(std::move(each->waiting));
  under_way_.clear();
  ahead_.clear();
  barriers_.insert(barriers_.begin(), std::make_move_iterator(barriers_sent_.begin()),
                   std::make_move_iterator(barriers_sent_.end()));
  barriers_sent_.clear();
  pump();
}

/// What is under way was not counted before the other's claim, and is void after it.
void Owner::lose() {
  if (planted(Plant::two_owners_serving) && state_ != State::claiming) return;
  replaced_ = true;
  state_ = State::following;
  for (UnderWay& each : under_way_) ended.emplace_back(std::move(each.waiting.done), Fenced{});
  for (Waiting& each : waiting_) ended.emplace_back(std::move(each.done), Fenced{});
  give_up_barriers(replaced_failure());
  under_way_.clear();
  waiting_.clear();
  ahead_.clear();
}

// ---- appends

void Owner::pump() {
  if (state_ != State::owning && state_ != State::leaving) return;
  while (!waiting_.empty()) {
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    start(std::move(next));
  }
  if (!barriers_.empty() && barriers_sent_.empty()) {
    const Id id = make_id(random_);
    barrier_id_.assign(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
    barriers_sent_.swap(barriers_);
    send(Kind::barrier, barrier_id_);
    if (planted(Plant::barrier_without_read_back)) {
      for (BarrierDone& done : barriers_sent_) barriers_ended.emplace_back(std::move(done), result<void>{});
      barriers_sent_.clear();
    }
  }
  if (state_ == State::leaving && idle() && !release_sent_) {
    release_sent_ = true;
    send(Kind::release);
  }
}

void Owner::start(Waiting waiting) {
  const Append& append = waiting.append;
  const auto ahead = ahead_.find(append.stream);
  Streams::Place place{append.partition, 0};
  if (ahead != ahead_.end()) {
    place.version = ahead->second.version;
  } else if (const auto found = streams_.find(append.stream); !found) {
    ended.emplace_back(std::move(waiting.done), Refused{{Errc::not_writable, found.error().message()}});
    return;
  } else if (found->version > 0) {
    place = *found;
  }
  const bool elsewhere = place.partition != append.partition;
  if (elsewhere || place.version != append.expected_version) {
    // The version found may itself be under way: nobody hears of it before it is counted.
    if (ahead == ahead_.end()) ended.emplace_back(std::move(waiting.done), refusal(elsewhere, place.version));
    else under_way_.push_back({std::move(waiting), false, elsewhere, 0, place.version});
    return;
  }
  Ahead& now_ahead = ahead_[append.stream];
  now_ahead.version = append.expected_version + append.count;
  ++now_ahead.records;
  Entry entry;
  entry.claim = claim_;
  entry.record = {partition_,     next_sequence_,
                  append.stream,  append.expected_version + 1,
                  append.count,   append.record_id,
                  append.index,   append.time,
                  append.payload, {}};
  to_send.push_back(std::move(entry));
  under_way_.push_back({std::move(waiting), true, false, next_sequence_, 0});
  next_sequence_ += under_way_.back().waiting.append.count;
  if (planted(Plant::acknowledge_before_read_back)) {
    UnderWay& sent = under_way_.back();
    ended.emplace_back(std::exchange(sent.waiting.done, [](AppendOutcome) {}),
                       Durable{{partition_, sent.first_sequence}, sent.waiting.append.expected_version + 1});
  }
}

void Owner::read_back(const Record& record) {
  settle();
  if (under_way_.empty() || under_way_.front().waiting.append.record_id != record.record_id) {
    ONBOARDING_ASSERT(planted(Plant::two_owners_serving) || planted(Plant::in_doubt_taken_as_lost) ||
                          planted(Plant::gap_accepted) || planted(Plant::resumed_ahead) || planted(Plant::claim_tie),
                      "a sequence of a claim is given to one record");
    return;
  }
  UnderWay& front = under_way_.front();
  const auto ahead = ahead_.find(record.stream);
  if (--ahead->second.records == 0) ahead_.erase(ahead);
  ended.emplace_back(std::move(front.waiting.done), Durable{{partition_, record.first_sequence}, record.first_version});
  under_way_.pop_front();
  settle();
  pump();
}

/// What waited for the end of records before it only.
void Owner::settle() {
  while (!under_way_.empty() && !under_way_.front().sent) {
    UnderWay& front = under_way_.front();
    ended.emplace_back(std::move(front.waiting.done), refusal(front.elsewhere, front.version_found));
    under_way_.pop_front();
  }
}

void Owner::send(Kind kind, std::string record_id) {
  Entry entry;
  entry.kind = kind;
  entry.claim = claim_;
  entry.epoch = kind == Kind::claim ? claim_epoch_ : 0;
  entry.record.partition = partition_;
  entry.record.record_id = std::move(record_id);
  to_send.push_back(std::move(entry));
}

}  // namespace onboarding::log::kafka

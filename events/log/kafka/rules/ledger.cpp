#include "events/log/kafka/rules/ledger.hpp"

#include <charconv>

#include "events/log/kafka/rules/planted.hpp"

namespace onboarding::log::kafka {

Verdict Ledger::read(std::int64_t offset, const Entry* entry) {
  if (offset <= at_.offset) return Verdict::seen;
  if (offset > at_.offset + 1 && !planted(Plant::resumed_ahead)) return Verdict::gap;
  at_.offset = offset;
  if (entry == nullptr || !counts(*entry)) return Verdict::nothing;
  switch (entry->kind) {
    case Kind::claim:
      at_.epoch = entry->epoch;
      at_.claim = entry->claim;
      break;
    case Kind::events: at_.sequence = entry->record.last_sequence(); break;
    case Kind::release: at_.claim = {}; break;
    case Kind::barrier:
    case Kind::log: break;
  }
  return Verdict::counted;
}

bool Ledger::counts(const Entry& entry) const {
  switch (entry.kind) {
    case Kind::log: return false;
    case Kind::claim:
      if (planted(Plant::claim_tie) && entry.epoch == at_.epoch && at_.epoch > 0) return true;
      return entry.epoch == at_.epoch + 1 && entry.claim;
    case Kind::events:
      if (planted(Plant::gap_accepted) && entry.record.first_sequence > at_.sequence + 1)
        return at_.claim && entry.claim == at_.claim;
      return at_.claim && entry.claim == at_.claim && entry.record.first_sequence == at_.sequence + 1;
    case Kind::barrier:
    case Kind::release: return at_.claim && entry.claim == at_.claim;
  }
  return false;
}

std::string to_string(const Checkpoint& at) {
  return std::to_string(at.offset) + ' ' + std::to_string(at.epoch) + ' ' + to_hex(at.claim) + ' ' + std::to_string(at.sequence);
}

std::optional<Checkpoint> parse_checkpoint(std::string_view text) {
  Checkpoint at;
  const char *from = text.data(), *const end = text.data() + text.size();
  const auto number = [&](auto& value) {
    const auto [to, error] = std::from_chars(from, end, value);
    from = to;
    return error == std::errc{};
  };
  const auto space = [&] { return from != end && *from++ == ' '; };
  if (!number(at.offset) || !space() || !number(at.epoch) || !space() || end - from < 33) return std::nullopt;
  const auto claim = from_hex({from, 32});
  if (!claim) return std::nullopt;
  at.claim = *claim;
  from += 32;
  if (!space() || !number(at.sequence) || from != end || to_string(at) != text) return std::nullopt;
  return at;
}

}  // namespace onboarding::log::kafka

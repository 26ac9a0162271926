#include "actors/model/cache/answer_cache.hpp"

#include <algorithm>
#include <utility>

#include "actors/model/offline/text.hpp"

namespace onboarding::model {
namespace {

constexpr std::size_t max_message_bytes = 500;
constexpr std::size_t max_indexes = 1'000;  // flow versions in use at the same time; beyond, they are built anew
constexpr std::size_t entry_overhead = 200;
constexpr std::chrono::hours longest_call{24};  // with its time in the queue
constexpr std::size_t max_forgotten = 10'000;

/// Nothing but blanks and how the sentence begins: "US" is not "us", C++ not C.
std::string as_spelt(std::string_view message) {
  std::string out;
  bool blank = false;
  for (const char c : message) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      blank = !out.empty();
      continue;
    }
    if (std::exchange(blank, false) && c != '?' && c != '!' && c != '.' && c != ',') out += ' ';
    out += c;
  }
  const auto is_upper = [&](std::size_t i) { return i < out.size() && out[i] >= 'A' && out[i] <= 'Z'; };
  if (is_upper(0) && !is_upper(1)) out[0] = static_cast<char>(out[0] - 'A' + 'a');
  return out;
}

std::string_view language(std::string_view locale) { return locale.substr(0, locale.find_first_of("-_")); }

}  // namespace

bool has_faq_for(const ExtractionRequest& request) {
  return request.flow && !request.flow->faq.empty() && language(request.locale) == language(request.flow->locale);
}

std::string asked_field(const ExtractionRequest& request) {
  return !request.asked.empty() ? request.asked.front() : !request.missing.empty() ? request.missing.front() : std::string();
}

domain::ModelAnswer faq_answer(const ExtractionRequest& request, const std::string& answer) {
  domain::ModelAnswer out;
  out.reply = answer;
  // The question that was open stays open.
  const auto asked = asked_field(request);
  const bool open = std::find(request.missing.begin(), request.missing.end(), asked) != request.missing.end();
  if (const auto* field = request.flow->find(asked); field != nullptr && open) {
    out.reply += " " + field->prompt;
    out.asks = {asked};
  }
  return out;
}

std::optional<domain::ModelAnswer> AnswerCache::from_faq(const ExtractionRequest& request) {
  if (!settings_.enabled || !has_faq_for(request)) return std::nullopt;
  std::shared_ptr<const FaqIndex> index;
  {
    const std::lock_guard lock(mutex_);
    if (indexes_.size() >= max_indexes && !indexes_.contains(request.flow.get())) indexes_.clear();
    auto& kept = indexes_[request.flow.get()];
    if (!kept) kept = std::make_shared<const FaqIndex>(request.flow);
    index = kept;
  }
  const auto* answer = index->find(request.message, asked_field(request));
  if (answer == nullptr) return std::nullopt;
  count_semantic_hit();
  return faq_answer(request, *answer);
}

void AnswerCache::count_semantic_hit() {
  const std::lock_guard lock(mutex_);
  ++counted_.hits_semantic;
}

std::string AnswerCache::key(const ExtractionRequest& request, const Prompt& prompt,
                             const std::vector<std::string>& models) const {
  const auto said = [](const HistoryLine& line) { return line.from_user; };
  if (!settings_.enabled || request.message.size() > max_message_bytes || !request.collected.empty() ||
      std::any_of(prompt.history.begin(), prompt.history.end(), said))
    return {};
  if (!offline::read_text(request.message).question) return {};
  std::string key =
      request.flow->name + '\0' + std::to_string(request.flow->version) + '\0' + request.locale + '\0' + prompt.system + '\0';
  for (const auto& model : models) key += model + '\0';
  for (const auto& line : prompt.history) key += line.text + '\0';
  return key + as_spelt(request.message);
}

std::optional<domain::ModelAnswer> AnswerCache::find(const std::string& key) {
  if (key.empty()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end() || found->second->until <= clock_.now()) {
    if (found != by_key_.end()) drop(found->second);
    ++counted_.misses;
    return std::nullopt;
  }
  ++counted_.hits_exact;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->answer;
}

void AnswerCache::keep(const std::string& key, const domain::ModelAnswer& answer, const std::string& user_key) {
  if (key.empty() || !answer.fields.empty()) return;
  const std::lock_guard lock(mutex_);
  if (std::any_of(forgotten_.begin(), forgotten_.end(), [&](const auto& person) { return person.second == user_key; })) return;
  if (const auto found = by_key_.find(key); found != by_key_.end()) drop(found->second);
  entries_.push_front(
      {key, user_key, answer, clock_.now() + settings_.ttl, key.size() + user_key.size() + answer.reply.size() + entry_overhead});
  by_key_.emplace(entries_.front().key, entries_.begin());
  bytes_ += entries_.front().bytes;
  while (bytes_ > settings_.max_bytes) drop(std::prev(entries_.end()));
}

void AnswerCache::forget(const std::string& user_key) {
  const std::lock_guard lock(mutex_);
  const auto now = clock_.now();
  while (!forgotten_.empty() && (forgotten_.size() >= max_forgotten || forgotten_.front().first + longest_call < now))
    forgotten_.pop_front();
  forgotten_.emplace_back(now, user_key);
  for (auto entry = entries_.begin(); entry != entries_.end();)
    if (const auto one = entry++; one->user_key == user_key) drop(one);
}

void AnswerCache::drop(Entries::iterator entry) {
  by_key_.erase(entry->key);
  bytes_ -= entry->bytes;
  entries_.erase(entry);
}

CacheStatus AnswerCache::status() const {
  const std::lock_guard lock(mutex_);
  auto status = counted_;
  status.entries = static_cast<std::int64_t>(entries_.size());
  status.bytes = static_cast<std::int64_t>(bytes_);
  return status;
}

}  // namespace onboarding::model

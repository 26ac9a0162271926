// Answers that need no model: the flow's own FAQ, and answers that a model gave to the very same prompt. Only for messages that are
// questions and brought no value. An answer is kept only while nothing is known of its person, and found again only by a prompt that is
// the same in everything but blanks and the first letter of the message: nobody learns from it what they did not bring themselves. Thread-safe,
// bounded in bytes and age.
#pragma once

#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/model/cache/faq.hpp"
#include "actors/model/extraction.hpp"
#include "actors/model/status.hpp"

namespace onboarding::model {

/// Whether the request's flow has a FAQ in its language.
bool has_faq_for(const ExtractionRequest&);
/// What was asked for, or is next; may be empty.
std::string asked_field(const ExtractionRequest&);
/// The FAQ's answer, which goes on with the question that is open.
domain::ModelAnswer faq_answer(const ExtractionRequest&, const std::string& answer);

class AnswerCache {
 public:
  AnswerCache(CacheSettings settings, const Clock& clock) : settings_(settings), clock_(clock) {}

  /// From the flow's FAQ; the reply goes on with the question that is open. nullopt: a model must answer.
  std::optional<domain::ModelAnswer> from_faq(const ExtractionRequest&);
  /// What a prompt is looked up by; empty: an answer to it is not kept. `models`: those that may answer it, which differ between plans.
  std::string key(const ExtractionRequest&, const Prompt&, const std::vector<std::string>& models) const;
  std::optional<domain::ModelAnswer> find(const std::string& key);
  /// An answer with a value in it is not kept. `user_key`: of who asked.
  void keep(const std::string& key, const domain::ModelAnswer&, const std::string& user_key);
  /// Drops what the person's questions brought; what calls that are under way for them still bring is not kept.
  void forget(const std::string& user_key);

  /// Found by meaning, elsewhere.
  void count_semantic_hit();
  CacheStatus status() const;

 private:
  struct Entry {
    std::string key, user_key;
    domain::ModelAnswer answer;
    domain::Timestamp until;
    std::size_t bytes = 0;
  };
  using Entries = std::list<Entry>;

  void drop(Entries::iterator);

  const CacheSettings settings_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::map<const domain::Flow*, std::shared_ptr<const FaqIndex>> indexes_;  // each keeps its flow, so no address comes twice
  Entries entries_;                                                         // the one used last in front
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
  std::size_t bytes_ = 0;
  std::deque<std::pair<domain::Timestamp, std::string>> forgotten_;  // since when, the newest last
  CacheStatus counted_;
};

}  // namespace onboarding::model

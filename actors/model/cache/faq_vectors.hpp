// A flow's FAQ found by meaning, for questions whose words are not in it: an option that is off unless told. The FAQ's questions are
// embedded once a flow version, a question when it comes; it is answered by the nearest one, if that is near enough, nearer than any
// with another answer, and the guard of `faq` lets it: the same polarity, persons and things. A false hit is worse than a miss, and
// any failure is a miss: nobody waits for it longer than `timeout`, and it never waits for budget. Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "actors/model/cache/faq.hpp"
#include "actors/model/embedder.hpp"
#include "actors/model/extraction.hpp"
#include "actors/model/policy/budget.hpp"
#include "actors/model/status.hpp"

namespace onboarding::model {

class FaqVectors : public std::enable_shared_from_this<FaqVectors> {
 public:
  FaqVectors(EmbeddingSettings, std::shared_ptr<Embedder>, CostOf, const Clock&, Instant start);

  struct Found {
    std::optional<domain::ModelAnswer> answer;  // none: a model must answer
    std::optional<domain::LlmCall> call;        // that was made for the question
  };
  /// `done` exactly once, perhaps before find() returns, else on a thread of the embedder. The first question about a flow version only
  /// has its FAQ embedded.
  void find(const ExtractionRequest&, Instant now, std::function<void(Found)> done);

  /// Nano-dollars of all calls so far, those for the FAQs too.
  std::int64_t spent_nanodollars() const;

 private:
  struct OfFlow {
    std::shared_ptr<const domain::Flow> flow;  // keeps its address its own
    struct Question {
      std::string text;
      const std::string* answer = nullptr;
      std::vector<float> vector;
    };
    std::vector<Question> questions;
    std::size_t embedded = 0;  // of the questions, from the first on
    bool under_way = false;
  };

  std::shared_ptr<OfFlow> of(const ExtractionRequest&);
  void warm(std::shared_ptr<OfFlow>, Instant now);
  std::optional<Reservation> lease(std::size_t bytes, Instant now);
  domain::LlmCall account(const Reservation&, const CallResult&, domain::Timestamp started, Instant now);
  std::optional<domain::ModelAnswer> nearest(const OfFlow&, const ExtractionRequest&, const std::vector<float>&) const;

  const EmbeddingSettings settings_;
  const std::shared_ptr<Embedder> embedder_;
  const CostOf cost_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  Budget budget_;
  std::int64_t spent_nanodollars_ = 0;
  std::map<const domain::Flow*, std::shared_ptr<OfFlow>> flows_;
};

}  // namespace onboarding::model

#include "actors/model/cache/faq_vectors.hpp"

#include <algorithm>

#include "actors/model/cache/answer_cache.hpp"

namespace onboarding::model {
namespace {

// In one call, however many dimensions: a JSON document of ours has 100,000 values.
constexpr std::size_t kNumbersACall = 50'000;
constexpr std::size_t kMaxFlows = 1'000;  // beyond, they are embedded anew
// After any failure nobody tries for so long, unless the provider says longer.
constexpr std::chrono::seconds kPause{10};
// How much nearer than the next other answer.
constexpr float kMargin = 0.05f;

float cosine(const std::vector<float>& a, const std::vector<float>& b) {
  float sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

FaqVectors::FaqVectors(EmbeddingSettings settings, std::shared_ptr<Embedder> embedder, CostOf cost, const Clock& clock,
                       Instant start)
    : settings_(std::move(settings)),
      embedder_(std::move(embedder)),
      cost_(std::move(cost)),
      clock_(clock),
      budget_(settings_.provider, start) {}

void FaqVectors::find(const ExtractionRequest& request, Instant now, std::function<void(Found)> done) {
  if (!has_faq_for(request) || !read_question(request.message, {})) return done({});
  const auto flow = of(request);
  if (!flow) return done({});
  std::optional<Reservation> reserved;
  {
    const std::lock_guard lock(mutex_);
    if (flow->embedded == flow->questions.size()) reserved = lease(request.message.size(), now);
  }
  if (!reserved) {
    warm(flow, now);
    return done({});
  }
  const auto started = clock_.now();
  auto asked = std::make_shared<ExtractionRequest>();  // what the answer is made of
  asked->flow = request.flow, asked->message = request.message, asked->asked = request.asked, asked->missing = request.missing;
  embedder_->embed({request.message}, settings_.timeout,
                   [self = shared_from_this(), flow, asked, reserved = *reserved, started, now,
                    done = std::move(done)](const Embeddings& got) {
                     Found found;
                     found.call = self->account(reserved, got.call, started, now);
                     if (got.vectors.size() == 1) found.answer = self->nearest(*flow, *asked, got.vectors[0]);
                     done(std::move(found));
                   });
}

std::shared_ptr<FaqVectors::OfFlow> FaqVectors::of(const ExtractionRequest& request) {
  const std::lock_guard lock(mutex_);
  if (flows_.size() >= kMaxFlows && !flows_.contains(request.flow.get())) flows_.clear();
  auto& kept = flows_[request.flow.get()];
  if (!kept) {
    kept = std::make_shared<OfFlow>();
    kept->flow = request.flow;
    for (const auto& entry : request.flow->faq)
      for (const auto& question : entry.questions) kept->questions.push_back({question, &entry.answer, {}});
  }
  return kept;
}

// What is embedded once is written by one call at a time and read by nobody before `embedded` says so, under the lock.
void FaqVectors::warm(std::shared_ptr<OfFlow> flow, Instant now) {
  std::vector<std::string> texts;
  std::optional<Reservation> reserved;
  {
    const std::lock_guard lock(mutex_);
    if (flow->under_way || flow->embedded == flow->questions.size()) return;
    const auto at_most = std::max<std::size_t>(1, kNumbersACall / settings_.dimensions);
    std::size_t bytes = 0;
    for (auto i = flow->embedded; i < flow->questions.size() && texts.size() < at_most; ++i) {
      texts.push_back(flow->questions[i].text);
      bytes += texts.back().size();
    }
    reserved = lease(bytes, now);
    if (!reserved) return;
    flow->under_way = true;
  }
  embedder_->embed(std::move(texts), settings_.provider.timeout,
                   [self = shared_from_this(), flow, reserved = *reserved, started = clock_.now(), now](Embeddings got) {
                     (void)self->account(reserved, got.call, started, now);
                     {
                       const std::lock_guard lock(self->mutex_);
                       flow->under_way = false;
                       for (auto& vector : got.vectors) flow->questions[flow->embedded++].vector = std::move(vector);
                       if (got.vectors.empty()) return;
                     }
                     self->warm(flow, now + std::chrono::milliseconds(got.call.latency_ms));
                   });
}

// English has four bytes a token; what it really was settles it.
std::optional<Reservation> FaqVectors::lease(std::size_t bytes, Instant now) {
  Cost cost;
  cost.input_tokens = static_cast<std::int64_t>(bytes / 3 + 1);
  if (!budget_.admits(cost, now)) return std::nullopt;
  return budget_.reserve(cost, now);
}

domain::LlmCall FaqVectors::account(const Reservation& reserved, const CallResult& result, domain::Timestamp started,
                                    Instant asked) {
  domain::LlmCall call;
  call.attempt = 0;  // none at an answer
  call.provider = settings_.provider.name;
  call.model = settings_.provider.model;
  call.prompt_version = "faq-embedding";
  call.price_version = settings_.price_version;
  call.usage = result.usage;
  call.started_at = started;
  call.latency_ms = result.latency_ms;
  if (result.error != CallError::none) {
    call.error = to_string(result.error);
    call.origin = result.error == CallError::cancelled ? "self" : "provider";
  }
  const auto now = asked + std::chrono::milliseconds(result.latency_ms);
  const auto nanodollars = cost_ && result.usage.input_tokens >= 0 ? cost_(call.provider, call.model, call.usage, started) : -1;
  const std::lock_guard lock(mutex_);
  Spent spent;
  spent.was_sent = result.was_sent;
  spent.refused = result.error != CallError::none;
  spent.input_tokens = result.usage.input_tokens;
  spent.nanodollars = nanodollars;
  budget_.settle(reserved, spent, now);
  budget_.correct(result.remaining, result.limits, result.reset, now);
  if (result.error != CallError::none) budget_.hold_until(now + std::max<std::chrono::milliseconds>(kPause, result.retry_after));
  spent_nanodollars_ += std::max<std::int64_t>(nanodollars, 0);
  return call;
}

std::optional<domain::ModelAnswer> FaqVectors::nearest(const OfFlow& flow, const ExtractionRequest& request,
                                                       const std::vector<float>& vector) const {
  const std::string* answer = nullptr;
  float best = -1, other = -1;
  for (const auto& question : flow.questions) {
    const auto near = cosine(vector, question.vector);
    if (near <= best && (question.answer == answer || near <= other)) continue;
    if (near > best) {
      if (question.answer != answer) other = best;
      best = near, answer = question.answer;
    } else {
      other = near;
    }
  }
  if (answer == nullptr || best < settings_.threshold || best - other < kMargin) return std::nullopt;
  // "this" is what was asked for, or all of it.
  const auto* field = flow.flow->find(asked_field(request));
  for (const auto& about : {field ? field->label : std::string(), std::string()}) {
    const auto asked = read_question(request.message, about);
    for (const auto& question : flow.questions) {
      if (question.answer != answer || cosine(vector, question.vector) < settings_.threshold) continue;
      const auto known = read_question(question.text, {});
      if (asked && known && may_mean_the_same(*asked, *known)) return faq_answer(request, *answer);
    }
  }
  return std::nullopt;
}

std::int64_t FaqVectors::spent_nanodollars() const {
  const std::lock_guard lock(mutex_);
  return spent_nanodollars_;
}

}  // namespace onboarding::model

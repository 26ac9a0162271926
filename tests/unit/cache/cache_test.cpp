#include <gtest/gtest.h>

#include <cmath>

#include "actors/model/cache/answer_cache.hpp"
#include "actors/model/cache/faq_vectors.hpp"

namespace onboarding::model {
namespace {

class StandingClock final : public Clock {
 public:
  domain::Timestamp now() const override { return time; }
  domain::Timestamp time{std::chrono::seconds(1'800'000'000)};
};

std::shared_ptr<const domain::Flow> flow() { return std::make_shared<const domain::Flow>(domain::default_flow()); }

ExtractionRequest asking(const std::string& message, const std::string& asked = "email") {
  ExtractionRequest request;
  request.locale = "en-GB";
  request.flow = flow();
  request.missing = {"email", "company", "role", "team_size", "goal"};
  request.asked = {asked};
  request.message = message;
  return request;
}

struct Pair {
  const char* message;
  const char* asked;
  const char* answered_as;  // a question of the FAQ, in its author's words; null: none, so nothing may be found
};
// What people really ask, and for each what differs from it by one word that matters: polarity, person, entity, tense.
const Pair pairs[] = {
    {"why do you need my email?", "email", "Why do you need my e-mail address?"},
    {"Why do you want my e-mail address?", "email", "Why do you need my e-mail address?"},
    {"why do you need that?", "email", "Why do you need my e-mail address?"},
    {"Why are you asking for it?", "email", "Why do you ask for my e-mail?"},
    {"hey, why do you need my mail?", "email", "Why do you need my e-mail address?"},
    {"Sorry, but why do you really need my email address?", "email", "Why do you need my e-mail address?"},
    {"what do you need my email for?", "email", "What do you need my e-mail address for?"},
    {"what will you do with my email?", "email", "What will you do with my e-mail?"},
    {"why do you need my company?", "company", "Why do you need my company?"},
    {"Why do you ask for my employer?", "company", "Why do you need my company?"},
    {"why do you need to know where I work?", "company", "Why do you need to know where I work?"},
    {"why do you need my job title?", "role", "Why do you need my role?"},
    {"Why do you need this?", "role", "Why do you need my role?"},
    {"why do you need my name?", "full_name", "Why do you need my name?"},
    {"why do you need my team size?", "team_size", "Why do you need my team size?"},
    {"How long will this take?", "email", "How long will this take?"},
    {"how long does it take?", "", "How long does this take?"},
    {"how many questions are there?", "email", "How many questions are there?"},
    {"Can I change my answers later?", "email", "Can I change my answers later?"},
    {"could I edit my answers later?", "goal", "Can I change my answers later?"},
    {"are you a bot?", "email", "Are you a robot?"},
    {"Are you a robot?", "goal", "Are you a robot?"},
    {"are you human?", "goal", "Are you human?"},
    {"am I talking to a human?", "goal", "Am I talking to a human?"},
    // differ by polarity
    {"why do you not need my email?", "email", nullptr},
    {"Why don't you need my e-mail address?", "email", nullptr},
    {"can't I change my answers later?", "email", nullptr},
    {"Can I never change my answers later?", "email", nullptr},
    {"aren't you human?", "goal", nullptr},
    {"are you not a robot?", "goal", nullptr},
    {"what will you not do with my email?", "email", nullptr},
    // differ by entity
    {"why do you need my phone number?", "email", nullptr},
    {"why do you need my password?", "email", nullptr},
    {"why do you need my boss's email?", "email", nullptr},
    {"why does Google need my email?", "email", nullptr},
    {"why do you need my home address?", "email", nullptr},
    {"why do you need my company's revenue?", "company", nullptr},
    {"why do you need my company name and my salary?", "company", nullptr},
    {"why do you need my age?", "full_name", nullptr},
    {"how long does the delivery take?", "email", nullptr},
    {"how long will you keep my email?", "email", nullptr},
    {"how many people use this?", "email", nullptr},
    {"can I delete my answers later?", "email", nullptr},
    {"what will you do with my data?", "email", nullptr},
    {"who will see my email?", "email", nullptr},
    {"will you sell my email?", "email", nullptr},
    // differ by person
    {"why do I need your email?", "email", nullptr},
    {"why do they need my email?", "email", nullptr},
    {"can you change my answers later?", "email", nullptr},
    {"Can someone else change my answers later?", "email", nullptr},
    {"am I a robot?", "goal", nullptr},
    {"why do you need her email?", "email", nullptr},
    // differ by question, or are none
    {"when do you need my email?", "email", nullptr},
    {"do you need my email?", "email", nullptr},
    {"which email do you need?", "email", nullptr},
    {"You need my email.", "email", nullptr},
    {"ann@acme.io, why do you need my email?", "email", nullptr},
    {"I'm Ann. Why do you need my email?", "email", nullptr},
    {"An. Why do you need my name?", "full_name", nullptr},
    {"Do, why do you need my name?", "full_name", nullptr},
    {"Can I change my answers later? May", "full_name", nullptr},
    {"Here. Why do you need that?", "company", nullptr},
    {"Firm. Why do you need my company?", "company", nullptr},
    {"By the way, why do you need my company?", "company", "Why do you need my company?"},
    {"Ok. Why do you need my company?", "company", "Why do you need my company?"},
    {"40", "team_size", nullptr},
    {"why?", "email", nullptr},
    {"what?", "email", nullptr},
};

const std::string* answer_of(const domain::Flow& flow, const char* question) {
  for (const auto& entry : flow.faq)
    if (std::find(entry.questions.begin(), entry.questions.end(), question) != entry.questions.end()) return &entry.answer;
  return nullptr;
}

TEST(Faq, understands_other_wordings_and_never_what_differs_by_a_word_that_matters) {
  const auto shared = flow();
  const FaqIndex index(shared);
  int wanted = 0, hits = 0, must_miss = 0, false_hits = 0;
  for (const auto& pair : pairs) {
    const auto* found = index.find(pair.message, pair.asked);
    const auto* right = pair.answered_as == nullptr ? nullptr : answer_of(*shared, pair.answered_as);
    ASSERT_EQ(right == nullptr, pair.answered_as == nullptr) << "no such question: " << pair.answered_as;
    (right != nullptr ? wanted : must_miss)++;
    if (right != nullptr && found != right) std::cout << "missed: " << pair.message << "\n";
    hits += right != nullptr && found == right;
    const bool wrong = found != nullptr && found != right;
    false_hits += wrong;
    EXPECT_FALSE(wrong) << pair.message << " → " << *found;
  }
  std::cout << "FAQ: " << hits << " of " << wanted << " questions in other words found, " << false_hits << " of " << must_miss
            << " near ones found wrongly\n";
  EXPECT_GE(hits * 10, wanted * 9);
}

TEST(AnswerCache, answers_from_the_faq_and_asks_again_what_was_open) {
  StandingClock clock;
  AnswerCache cache({}, clock);
  const auto answer = cache.from_faq(asking("why do you need that?"));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->reply, "It's how we reach you about your account. What's the best e-mail address to reach you?");
  EXPECT_EQ(answer->asks, std::vector<std::string>{"email"});
  EXPECT_TRUE(answer->fields.empty());
  EXPECT_EQ(cache.status().hits_semantic, 1);
  auto german = asking("why do you need that?");
  german.locale = "de";
  EXPECT_FALSE(cache.from_faq(german)) << "the FAQ is not in that language";
}

Prompt prompt(const std::string& system = "you are a host") {
  Prompt p;
  p.system = system;
  p.history = {{false, "Hi, and welcome!"}};
  return p;
}
const domain::ModelAnswer no_value{"We are a company.", {}, {"full_name"}};

TEST(AnswerCache, finds_a_kept_answer_by_the_same_prompt_in_another_spelling_only) {
  StandingClock clock;
  AnswerCache cache({}, clock);
  const auto key = cache.key(asking("Who are you guys?"), prompt(), {});
  ASSERT_FALSE(key.empty());
  EXPECT_FALSE(cache.find(key));
  cache.keep(key, no_value, "ann");
  EXPECT_EQ(cache.find(cache.key(asking("who  are you guys ?"), prompt(), {})), no_value);
  EXPECT_FALSE(cache.find(cache.key(asking("who are you?"), prompt(), {})));
  EXPECT_FALSE(cache.find(cache.key(asking("Who are you guys?"), prompt(), {"another model"})));
  const auto key_of = [&](const char* message) { return cache.key(asking(message), prompt(), {}); };
  EXPECT_NE(key_of("Is it US only?"), key_of("Is it us only?"));
  EXPECT_NE(key_of("Do you use C++?"), key_of("Do you use C?"));
  EXPECT_FALSE(cache.find(cache.key(asking("Who are you guys?"), prompt("another flow"), {})));
  EXPECT_EQ(cache.status().hits_exact, 1);
  EXPECT_EQ(cache.status().misses, 4);
}

TEST(AnswerCache, keeps_nothing_that_holds_a_value_or_knows_the_person) {
  StandingClock clock;
  AnswerCache cache({}, clock);
  const auto key = cache.key(asking("Who are you guys?"), prompt(), {});
  cache.keep(key, {"Nice to meet you, Ann.", {{"full_name", "Ann"}}, {}}, "ann");
  EXPECT_FALSE(cache.find(key));
  auto known = asking("Who are you guys?");
  known.collected.emplace("full_name", "Ann");
  EXPECT_EQ(cache.key(known, prompt(), {}), "");
  auto talked = prompt();
  talked.history.push_back({true, "I'm Ann"});
  EXPECT_EQ(cache.key(asking("Who are you guys?"), talked, {}), "");
  EXPECT_EQ(cache.key(asking("I'm Ann"), prompt(), {}), "") << "no question";
}

TEST(AnswerCache, forgets_what_an_erased_person_asked_and_what_a_call_for_them_brings_later) {
  StandingClock clock;
  AnswerCache cache({}, clock);
  const auto anns = cache.key(asking("Who are you guys?"), prompt(), {}), bobs = cache.key(asking("Who owns you?"), prompt(), {});
  cache.keep(anns, no_value, "ann");
  cache.keep(bobs, no_value, "bob");
  cache.forget("ann");
  EXPECT_FALSE(cache.find(anns));
  EXPECT_TRUE(cache.find(bobs));
  EXPECT_EQ(cache.status().entries, 1);
  cache.keep(anns, no_value, "ann");
  EXPECT_FALSE(cache.find(anns)) << "her call was under way";
  cache.keep(anns, no_value, "bob");
  EXPECT_TRUE(cache.find(anns)) << "he asks for himself";
  clock.time += std::chrono::hours(25);
  cache.forget("bob");
  cache.keep(anns, no_value, "ann");
  EXPECT_TRUE(cache.find(anns)) << "no call lasts so long";
}

TEST(AnswerCache, forgets_by_age_and_by_size_the_longest_unused_first) {
  StandingClock clock;
  AnswerCache cache({true, std::chrono::seconds(60), 1'400}, clock);
  const auto key = [&](int n) {
    return cache.key(asking("who is number " + std::string(static_cast<std::size_t>(n + 1), 'x') + "?"), prompt(), {});
  };
  for (int n = 0; n < 3; ++n) cache.keep(key(n), no_value, "ann");
  ASSERT_TRUE(cache.find(key(0)));
  for (int n = 3; n < 5; ++n) cache.keep(key(n), no_value, "ann");
  EXPECT_LE(cache.status().bytes, 1'400);
  EXPECT_FALSE(cache.find(key(1)));
  EXPECT_TRUE(cache.find(key(4)));
  clock.time += std::chrono::seconds(60);
  EXPECT_FALSE(cache.find(key(4)));
}

TEST(AnswerCache, that_is_off_finds_and_keeps_nothing) {
  StandingClock clock;
  AnswerCache cache({false}, clock);
  EXPECT_FALSE(cache.from_faq(asking("why do you need that?")));
  EXPECT_EQ(cache.key(asking("Who are you guys?"), prompt(), {}), "");
}

// A stand-in for an embedding model: words in a vector, so it knows neither order nor meaning, and finds alike what differs by one word.
class BagOfWords final : public Embedder {
 public:
  static constexpr std::uint32_t kDimensions = 512;
  void embed(std::vector<std::string> texts, std::chrono::milliseconds, std::function<void(Embeddings)> done) override {
    ++calls;
    Embeddings out;
    out.call.error = error;
    out.call.was_sent = true;
    out.call.usage.input_tokens = 10;
    for (const auto& text : texts)
      if (error == CallError::none) out.vectors.push_back(vector_of(text));
    done(std::move(out));
  }
  CallError error = CallError::none;
  int calls = 0;

 private:
  static std::vector<float> vector_of(const std::string& text) {
    std::vector<float> v(kDimensions, 0.0f);
    std::string word;
    const auto add = [&] {
      if (!word.empty()) v[std::hash<std::string>{}(word) % kDimensions] += 1;
      word.clear();
    };
    for (const char c : text) {
      if (std::isalnum(static_cast<unsigned char>(c))) word += static_cast<char>(std::tolower(c));
      else if (c != '-' && c != '\'') add();
    }
    add();
    float squares = 0;
    for (const auto x : v) squares += x * x;
    for (auto& x : v) x /= std::sqrt(std::max(squares, 1.0f));
    return v;
  }
};

const Instant kStart{std::chrono::seconds(1'000)};
const Instant kLater = kStart + std::chrono::seconds(60);

struct ByMeaning {
  explicit ByMeaning(float threshold = 0.6f, std::uint32_t requests_per_minute = 0) {
    EmbeddingSettings settings;
    settings.provider.name = "openai";
    settings.provider.model = "text-embedding-3-small";
    settings.provider.requests_per_minute = requests_per_minute;
    settings.dimensions = BagOfWords::kDimensions;
    settings.threshold = threshold;
    const auto cost = [](auto, auto, const domain::Usage& u, auto) { return u.input_tokens * 20; };
    vectors = std::make_shared<FaqVectors>(settings, embedder, cost, clock, kStart);
  }
  FaqVectors::Found find(const ExtractionRequest& request, Instant now = kLater) {
    FaqVectors::Found found;
    int times = 0;
    vectors->find(request, now, [&](FaqVectors::Found f) { found = std::move(f), ++times; });
    EXPECT_EQ(times, 1);
    return found;
  }
  StandingClock clock;
  std::shared_ptr<BagOfWords> embedder = std::make_shared<BagOfWords>();
  std::shared_ptr<FaqVectors> vectors;
};

// What the words of the FAQ do not find, though it is the same question; and what must not be found for it.
const Pair by_meaning[] = {
    {"So why exactly do you need my email now, honestly?", "email", "Why do you need my e-mail address?"},
    {"Honestly, what will you do with my e-mail?", "email", "What will you do with my e-mail?"},
    {"why on earth do you need my company?", "company", "Why do you need my company?"},
    {"roughly how long will this take?", "email", "How long will this take?"},
    {"overall, how many questions are there?", "email", "How many questions are there?"},
    {"is it possible, can I change my answers later?", "email", "Can I change my answers later?"},
    {"am I really talking to a real human?", "goal", nullptr},
    {"on earth, why do you not need my email?", "email", nullptr},
    {"why on earth do you need my phone?", "email", nullptr},
    {"why on earth do you need my email and phone?", "email", nullptr},
    {"why on earth do they need my email?", "email", nullptr},
    {"why on earth does Google need my email?", "email", nullptr},
    {"when on earth do you need my email?", "email", nullptr},
    {"roughly how long will you keep this?", "email", nullptr},
    {"is it possible, can you change my answers later?", "email", nullptr},
    {"is it possible, can I delete my answers later?", "email", nullptr},
};

TEST(FaqVectors, find_what_words_do_not_and_never_what_differs_by_polarity_person_or_thing) {
  const auto shared = flow();
  const FaqIndex by_words(shared);
  ByMeaning meaning;
  auto warm = asking("Who are you guys?");
  warm.flow = shared;
  meaning.find(warm);
  int wanted = 0, hits = 0, more = 0, must_miss = 0, false_hits = 0, near = 0;
  const auto try_pair = [&](const Pair& pair, bool in_words) {
    auto request = asking(pair.message, pair.asked);
    request.flow = shared;
    const auto found = meaning.find(request);
    const auto* right = pair.answered_as == nullptr ? nullptr : answer_of(*shared, pair.answered_as);
    ASSERT_EQ(right == nullptr, pair.answered_as == nullptr) << "no such question: " << pair.answered_as;
    const bool hit = found.answer && right && found.answer->reply.find(*right) == 0;
    (right ? wanted : must_miss)++;
    hits += hit;
    more += hit && !in_words && !by_words.find(pair.message, pair.asked);
    near += found.call.has_value() && !right;
    false_hits += found.answer && !hit;
    EXPECT_TRUE(!found.answer || hit) << pair.message << " → " << found.answer->reply;
  };
  for (const auto& pair : pairs) try_pair(pair, true);
  for (const auto& pair : by_meaning) try_pair(pair, false);
  std::cout << "FAQ by a bag of words: " << hits << " of " << wanted << " found, " << more << " of them not by words; "
            << false_hits << " of " << must_miss << " near ones found wrongly, " << near << " of which were looked up\n";
  EXPECT_GE(more, 5);
  EXPECT_EQ(false_hits, 0);
  EXPECT_GT(near, 20) << "the guard, and not the lack of a question, keeps them out";
}

TEST(FaqVectors, embed_the_faq_once_and_tell_what_each_question_cost) {
  ByMeaning meaning;
  const auto request = asking("why on earth do you need my company?", "company");
  const auto first = meaning.find(request);
  EXPECT_FALSE(first.answer || first.call) << "the FAQ was not embedded yet";
  EXPECT_EQ(meaning.embedder->calls, 1);
  const auto second = meaning.find(request);
  ASSERT_TRUE(second.answer && second.call);
  EXPECT_EQ(second.answer->asks, std::vector<std::string>{"company"});
  EXPECT_EQ(second.call->model, "text-embedding-3-small");
  EXPECT_EQ(second.call->attempt, 0u);
  EXPECT_EQ(meaning.embedder->calls, 2);
  EXPECT_EQ(meaning.vectors->spent_nanodollars(), 400);
  EXPECT_FALSE(meaning.find(asking("I'm Ann", "full_name")).call) << "no question";
  EXPECT_EQ(meaning.embedder->calls, 2);
}

TEST(FaqVectors, miss_after_any_failure_and_ask_nobody_for_a_while) {
  ByMeaning meaning;
  const auto request = asking("why on earth do you need my company?", "company");
  meaning.find(request);
  meaning.embedder->error = CallError::timeout;
  const auto failed = meaning.find(request);
  EXPECT_FALSE(failed.answer);
  EXPECT_EQ(failed.call->error, "timeout");
  meaning.embedder->error = CallError::none;
  EXPECT_FALSE(meaning.find(request, kLater + std::chrono::seconds(9)).call);
  EXPECT_TRUE(meaning.find(request, kLater + std::chrono::seconds(11)).answer);
}

TEST(FaqVectors, never_wait_for_budget) {
  ByMeaning meaning(0.6f, 60);
  const auto request = asking("why on earth do you need my company?", "company");
  meaning.find(request);
  EXPECT_FALSE(meaning.find(request).call) << "the second one of a second is beyond one a second";
  EXPECT_TRUE(meaning.find(request, kLater + std::chrono::seconds(2)).answer);
}

}  // namespace
}  // namespace onboarding::model

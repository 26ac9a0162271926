#include "infra/app/server/day_use_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace onboarding::app {
namespace {

struct DayUseKept : testing::Test {
  DayUseKept() {
    std::string name = "/tmp/day_use_XXXXXX";
    folder = ::mkdtemp(name.data());
  }
  ~DayUseKept() override { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
};

model::DayUse some(std::int64_t amount) {
  model::DayUse use;
  use.of["openai/gpt \"x\"/requests_per_day"] = {{{1'800'000'000, amount}, {1'800'000'900, 7}}, 10};
  return use;
}

TEST_F(DayUseKept, is_there_after_a_restart_the_newest_and_whether_it_was_the_last) {
  EXPECT_TRUE(DayUseFile(folder).kept().of.empty());
  {
    DayUseFile file(folder);
    for (int i = 0; i < 50; ++i) file.keep(some(i), false);
  }
  {
    DayUseFile file(folder);
    EXPECT_FALSE(file.was_last());
    const auto& entry = file.kept().of.at("openai/gpt \"x\"/requests_per_day");
    EXPECT_EQ(entry.used, (std::vector<std::pair<std::int64_t, std::int64_t>>{{1'800'000'000, 49}, {1'800'000'900, 7}}));
    EXPECT_EQ(entry.margin, 10);
    EXPECT_FALSE(file.kept().slot);
    auto with_slot = some(50);
    with_slot.slot = {3, 1'800'000'000, "books"};
    file.keep(with_slot, true);
  }
  const DayUseFile last(folder);
  EXPECT_TRUE(last.was_last());
  ASSERT_TRUE(last.kept().slot);
  EXPECT_EQ(last.kept().slot->number, 3u);
  EXPECT_EQ(last.kept().slot->asked_at, 1'800'000'000);
  EXPECT_EQ(last.kept().slot->books, "books");
}

TEST_F(DayUseKept, that_is_damaged_is_as_if_there_were_none) {
  for (const auto* content :
       {"", "{", "[]", "{}", R"({"use":{"a":[]}})", R"({"use":{"a":{"used":[1]}}})", R"({"use":{"a":{"used":[1,"2"]}}})",
        R"({"slot":{"number":-1,"books":"x"},"use":{"a":{"used":[]}}})", R"({"slot":{"number":1},"use":{"a":{"used":[]}}})"}) {
    std::ofstream(folder / "model-use.json") << content;
    EXPECT_TRUE(DayUseFile(folder).kept().of.empty()) << content;
    EXPECT_FALSE(DayUseFile(folder).kept().slot) << content;
  }
}

}  // namespace
}  // namespace onboarding::app

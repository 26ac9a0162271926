#include "events/fault_point.hpp"

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

#include "events/domain/assertion.hpp"

namespace onboarding {
namespace {

enum class Action { crash, error, delay };

struct Rule {
  std::string name;
  Action action = Action::error;
  std::chrono::milliseconds delay{0};
  std::uint64_t at_pass = 0;  // 0: at every pass
  std::uint64_t passes = 0;
};

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // A fault that silently does not happen makes a test that cannot fail.
  ONBOARDING_ASSERT(error == std::errc{} && end == text.data() + text.size(), "ONBOARD_FAULT: not a number");
  return value;
}

std::vector<Rule> parse(std::string_view specification) {
  std::vector<Rule> rules;
  while (!specification.empty()) {
    const auto comma = std::min(specification.find(','), specification.size());
    auto item = specification.substr(0, comma);
    specification.remove_prefix(std::min(comma + 1, specification.size()));
    const auto equals = item.find('=');
    ONBOARDING_ASSERT(equals != item.npos, "ONBOARD_FAULT: expected name=action");
    Rule rule;
    rule.name = item.substr(0, equals);
    item.remove_prefix(equals + 1);
    if (const auto at = item.find('@'); at != item.npos) {
      rule.at_pass = number(item.substr(at + 1));
      item = item.substr(0, at);
    }
    if (item == "crash") {
      rule.action = Action::crash;
    } else if (item == "error") {
      rule.action = Action::error;
    } else {
      ONBOARDING_ASSERT(item.starts_with("delay:"), "ONBOARD_FAULT: the action is crash, error or delay:<ms>");
      rule.action = Action::delay;
      rule.delay = std::chrono::milliseconds(number(item.substr(6)));
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

struct Registry {
  std::mutex mutex;
  std::vector<const FaultPoint*> points;
  std::vector<Rule> rules;
  bool names_checked = false;

  bool knows(std::string_view name) const {
    return std::ranges::any_of(points, [&](const FaultPoint* point) { return point->name() == name; });
  }
};

// Made by the first fault point that registers, before main: the order of other statics does not matter.
Registry& registry() {
  static Registry instance;
  return instance;
}

}  // namespace

constinit std::atomic<bool> FaultPoint::armed_any_ = false;

FaultPoint::FaultPoint(const char* name) : name_(name) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (all.points.empty()) {
    if (const char* specification = std::getenv("ONBOARD_FAULT")) all.rules = parse(specification);  // NOLINT: before threads
    armed_any_ = !all.rules.empty();
  }
  ONBOARDING_ASSERT(!all.knows(name), "two fault points have one name");
  all.points.push_back(this);
}

std::vector<std::string_view> FaultPoint::names() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::vector<std::string_view> names;
  for (const FaultPoint* point : all.points) names.emplace_back(point->name());
  std::ranges::sort(names);
  return names;
}

void FaultPoint::arm(std::string_view specification) {
  auto rules = parse(specification);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.rules = std::move(rules);
  all.names_checked = false;
  armed_any_ = !all.rules.empty();
}

bool FaultPoint::hit_slow() {
  Registry& all = registry();
  std::chrono::milliseconds delay{0};
  bool fail = false;
  {
    const std::lock_guard lock(all.mutex);
    if (!std::exchange(all.names_checked, true))
      for (const Rule& rule : all.rules)
        ONBOARDING_ASSERT(all.knows(rule.name), "ONBOARD_FAULT names no fault point of this program");
    for (Rule& rule : all.rules) {
      if (rule.name != name_) continue;
      ++rule.passes;
      if (rule.at_pass != 0 && rule.passes != rule.at_pass) continue;
      if (rule.action == Action::crash) ::kill(::getpid(), SIGKILL);
      if (rule.action == Action::error) fail = true;
      if (rule.action == Action::delay) delay += rule.delay;
    }
  }
  if (delay.count() > 0) std::this_thread::sleep_for(delay);
  return fail;
}

}  // namespace onboarding

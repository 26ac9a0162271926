#include <gtest/gtest.h>

#include "actors/model/policy/routing.hpp"

namespace onboarding::model {
namespace {

using namespace std::chrono_literals;

ProviderSettings provider(std::string name, std::uint32_t weight) {
  ProviderSettings s;
  s.name = std::move(name);
  s.weight = weight;
  return s;
}

TEST(Routing, shares_by_weight_and_smoothly) {
  Routing routing({provider("a", 40), provider("b", 40), provider("c", 20), provider("d", 0)}, {});
  std::string order;
  for (int i = 0; i < 10; ++i) order += static_cast<char>('a' + *routing.choose(0b1111, 0));
  EXPECT_EQ(order, "abcababcab") << "no provider is asked in a row more than its share needs";
}

TEST(Routing, takes_the_fallback_order_when_no_weighted_one_can) {
  Routing routing({provider("a", 40), provider("b", 0), provider("c", 0)}, {"c", "b"});
  EXPECT_EQ(routing.choose(0b110, 0), 2u);
  EXPECT_EQ(routing.choose(0b010, 0), 1u);
  EXPECT_EQ(routing.choose(0, 0), std::nullopt);
}

TEST(Routing, asks_a_provider_to_avoid_only_when_there_is_no_other) {
  Routing routing({provider("a", 40), provider("b", 0)}, {});
  EXPECT_EQ(routing.choose(0b11, 0b01), 1u);
  EXPECT_EQ(routing.choose(0b01, 0b01), 0u);
}

TEST(Routing, weights_change_while_it_runs) {
  Routing routing({provider("a", 40), provider("b", 40)}, {});
  routing.set_weights({1, 3});
  int b = 0;
  for (int i = 0; i < 40; ++i) b += *routing.choose(0b11, 0) == 1;
  EXPECT_EQ(b, 30);
}

TEST(SpikePressure, is_nothing_while_newcomers_hardly_wait_and_full_after_half_a_minute) {
  EXPECT_EQ(spike_pressure(1s), 0);
  EXPECT_EQ(spike_pressure(16s), 0.5);
  EXPECT_EQ(spike_pressure(10min), 1);
}

TEST(WeightsInForce, are_the_configured_ones_without_pressure_or_prices) {
  EXPECT_EQ(weights_in_force({40, 40, 20}, {100, 300, 50}, 0), (std::vector<double>{40, 40, 20}));
  EXPECT_EQ(weights_in_force({40, 40, 20}, {0, 0, 0}, 1), (std::vector<double>{40, 40, 20}));
}

TEST(WeightsInForce, raise_the_cheaper_in_a_spike_and_leave_the_dearer_as_they_are) {
  const auto half = weights_in_force({40, 40, 20}, {100, 300, 50}, 0.5), full = weights_in_force({40, 40, 20}, {100, 300, 50}, 1);
  EXPECT_EQ(full[1], 40);
  EXPECT_NEAR(full[0], 40 * 1.7, 1e-9) << "the mean price is 170";
  EXPECT_NEAR(full[2], 20 * 3.4, 1e-9);
  EXPECT_GT(half[2], 20);
  EXPECT_LT(half[2], full[2]);
}

TEST(WeightsInForce, have_a_bound_and_never_wake_who_has_none) {
  const auto w = weights_in_force({40, 0, 1}, {1'000'000, 1, 1}, 1);
  EXPECT_EQ(w[1], 0);
  EXPECT_EQ(w[2], kMostRaised);
}

}  // namespace
}  // namespace onboarding::model

// Latencies, kept one by one: percentiles are exact.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace onboarding::bench {

struct Series {
  std::vector<std::int64_t> values_us;
  void print(const char* name) {
    std::ranges::sort(values_us);
    const auto at = [&](double share) {
      return values_us.empty() ? 0
                               : values_us[std::min(values_us.size() - 1,
                                                    static_cast<std::size_t>(share * static_cast<double>(values_us.size())))];
    };
    std::printf(
        "\"%s\":{\"count\":%zu,\"p50_us\":%ld,\"p90_us\":%ld,\"p99_us\":%ld,\"p999_us\":%ld,\"max_us\":%ld,\"histogram\":[", name,
        values_us.size(), at(0.5), at(0.9), at(0.99), at(0.999), values_us.empty() ? 0 : values_us.back());
    std::size_t counted = 0;
    for (std::int64_t bound = 64; counted < values_us.size(); bound *= 2) {
      const auto below = static_cast<std::size_t>(std::ranges::upper_bound(values_us, bound) - values_us.begin());
      if (below > counted) std::printf("%s{\"up_to_us\":%ld,\"count\":%zu}", counted ? "," : "", bound, below - counted);
      counted = below;
    }
    std::printf("]}");
  }
};

}  // namespace onboarding::bench

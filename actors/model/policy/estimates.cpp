#include "actors/model/policy/estimates.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace onboarding::model {
namespace {

constexpr double kMemory = 64;
constexpr double kDeviations = 2;
constexpr double kLeastRatio = 0.2, kGreatestRatio = 2;

}  // namespace

Script script_of(std::string_view utf8) {
  std::array<std::size_t, 4> characters{};
  for (const unsigned char c : utf8) {
    if (c < 0x80) ++characters[0];
    else if (c >= 0xC0) ++characters[c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1];
  }
  const auto most = std::max_element(characters.begin() + 1, characters.end());
  const auto foreign = characters[1] + characters[2] + characters[3];
  return foreign * 3 >= characters[0] && foreign > 0 ? static_cast<Script>(most - characters.begin()) : Script::one_byte;
}

void Moments::learn(double value) {
  ++count_;
  const auto weight = std::max(1.0 / static_cast<double>(count_), 1 / kMemory);
  const auto off = value - mean_;
  mean_ += weight * off;
  variance_ = (1 - weight) * (variance_ + weight * off * off);
}

double Moments::upper(std::int64_t together) const {
  return mean_ + kDeviations * std::sqrt(variance_ / static_cast<double>(std::max<std::int64_t>(together, 1)));
}

std::int64_t Estimates::output_tokens(std::uint32_t lane, std::uint64_t flow, std::int64_t cap, std::int64_t in_flight) const {
  auto known = output_.find({lane, flow});
  if (known == output_.end()) known = output_.find({lane, 0});
  if (known == output_.end() || !known->second.known()) return cap;
  return std::min(cap, static_cast<std::int64_t>(std::ceil(known->second.upper(in_flight + 1))));
}

std::int64_t Estimates::input_tokens(std::uint32_t provider, Script script, std::int64_t estimated,
                                     std::int64_t in_flight) const {
  const auto known = input_ratio_.find({provider, script});
  if (known == input_ratio_.end() || !known->second.known()) return estimated;
  const auto ratio = std::clamp(known->second.upper(in_flight + 1), kLeastRatio, kGreatestRatio);
  return static_cast<std::int64_t>(std::ceil(ratio * static_cast<double>(estimated)));
}

void Estimates::learn_output(std::uint32_t lane, std::uint64_t flow, std::int64_t real) {
  const OutputKey key{lane, output_.size() < kMaxFlows || output_.contains({lane, flow}) ? flow : 0};
  output_[key].learn(static_cast<double>(real));
}

void Estimates::learn_input(std::uint32_t provider, Script script, std::int64_t estimated, std::int64_t real) {
  if (estimated > 0) input_ratio_[{provider, script}].learn(static_cast<double>(real) / static_cast<double>(estimated));
}

}  // namespace onboarding::model

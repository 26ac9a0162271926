// Provider data that moves with time: first paid tier's limits, models, addresses. Dated, so that an old copy shows its age.
#pragma once

#include <array>
#include <string_view>

#include "actors/model/provider.hpp"

namespace onboarding::model {

/// The day on which the figures of defaults.cpp were collected (ISO 8601).
inline constexpr std::string_view kProviderDataDate = "2026-11-20";

/// In the order of the settings.
inline constexpr std::array<std::string_view, 4> kProviderNames = {"openai", "gemini", "deepseek", "anthropic"};

/// What holds for a provider when nothing is configured: disabled, without a key. A bug to ask for an unknown name.
ProviderSettings default_settings(std::string_view name);

}  // namespace onboarding::model

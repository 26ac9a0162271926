// How a client of a provider is made.
#pragma once

#include <memory>
#include <string_view>

#include "actors/model/provider.hpp"
#include "actors/model/providers/curl_loop.hpp"
#include "events/domain/result.hpp"

namespace onboarding::model {

/// openai, gemini, deepseek, anthropic (kProviderNames).
bool provider_known(std::string_view name);

/// A client for an enabled provider: refuses an unknown name, an empty key or model, and a base_url that is not
/// http(s). The loop outlives the client. `settings.timeout` is the upper bound of every call.
result<std::shared_ptr<ProviderClient>> make_client(ProviderSettings, CurlLoop&);

}  // namespace onboarding::model

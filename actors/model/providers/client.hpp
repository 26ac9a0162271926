// Which providers this build can speak to, and how a client of one is made.
#pragma once

#include <memory>
#include <string_view>

#include "actors/model/provider.hpp"
#include "actors/model/providers/curl_loop.hpp"
#include "events/domain/result.hpp"

namespace onboarding::model {

/// The providers that configuration knows, with an adapter or not yet: openai, gemini, deepseek, anthropic.
bool provider_known(std::string_view name);
/// Whether this build has an adapter for it. Configuration refuses to enable one that has none.
bool provider_supported(std::string_view name);

/// A client for an enabled provider: refuses an unsupported name, an empty key or model, and a base_url that is not
/// http(s). The loop outlives the client. `settings.timeout` is the upper bound of every call.
result<std::shared_ptr<ProviderClient>> make_client(ProviderSettings, CurlLoop&);

}  // namespace onboarding::model

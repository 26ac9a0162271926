// OpenAI's POST /v1/embeddings, which others copied.
#pragma once

#include <memory>

#include "actors/model/embedder.hpp"
#include "actors/model/providers/curl_loop.hpp"
#include "events/domain/result.hpp"

namespace onboarding::model {

/// `settings.model` is the embedding model, `settings.timeout` the upper bound of every call. Errors as make_client's. The loop
/// outlives the client.
result<std::shared_ptr<Embedder>> make_embedder(ProviderSettings settings, std::uint32_t dimensions, CurlLoop&);

/// The vectors of a response: one for each of `texts`, in their order, scaled to length 1. Bytes are hostile.
Embeddings read_embeddings(const HttpReply&, std::size_t texts, std::uint32_t dimensions);

}  // namespace onboarding::model

// The port to a model that makes vectors of texts, for finding a question that means the same. The adapter (providers/embeddings)
// speaks OpenAI's wire format over the curl loop.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "actors/model/provider.hpp"

namespace onboarding::model {

/// One vector a text, of length 1, all of the size that was asked for; none when `call.error` is set.
struct Embeddings {
  CallResult call;
  std::vector<std::vector<float>> vectors;
};

class Embedder {
 public:
  virtual ~Embedder() = default;
  /// Asynchronous; `done` exactly once, on a thread of the client or before embed() returns. Gives up at the timeout.
  virtual void embed(std::vector<std::string> texts, std::chrono::milliseconds timeout, std::function<void(Embeddings)> done) = 0;
};

}  // namespace onboarding::model

// OpenAI's chat completions with strict JSON-schema output.
#pragma once

#include "actors/model/providers/wire_format.hpp"

namespace onboarding::model {

class OpenAiFormat final : public WireFormat {
 public:
  HttpCall build(const ProviderSettings&, const Prompt&) const override;
  CallResult parse(const HttpReply&) const override;
};

}  // namespace onboarding::model

// Anthropic's messages: the answer is the input of a tool that the model must call; the stable part of the prompt is cached.
#pragma once

#include "actors/model/providers/wire_format.hpp"

namespace onboarding::model {

class AnthropicFormat final : public WireFormat {
 public:
  std::string_view provider() const override { return "anthropic"; }
  HttpCall build(const ProviderSettings&, const Prompt&, bool stream) const override;
  void read_whole(const rapidjson::Value& body, Reading&) const override;
  void read_event(std::string_view event, const rapidjson::Value& data, Reading&) const override;
  CallError judge(std::string_view finish) const override;
};

}  // namespace onboarding::model

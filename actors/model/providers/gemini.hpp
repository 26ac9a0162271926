// Gemini's generateContent with a response schema.
#pragma once

#include "actors/model/providers/wire_format.hpp"

namespace onboarding::model {

class GeminiFormat final : public WireFormat {
 public:
  std::string_view provider() const override { return "gemini"; }
  HttpCall build(const ProviderSettings&, const Prompt&, bool stream) const override;
  void read_whole(const rapidjson::Value& body, Reading&) const override;
  void read_event(std::string_view event, const rapidjson::Value& data, Reading&) const override;
  bool is_end(const Reading& r) const override { return !r.finish.empty(); }  // there is no other sign
  CallError judge(std::string_view finish) const override;
};

}  // namespace onboarding::model

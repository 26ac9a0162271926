// OpenAI's chat completions with strict JSON-schema output, and DeepSeek, which has the same shape and its own ways.
#pragma once

#include "actors/model/providers/wire_format.hpp"

namespace onboarding::model {

class ChatCompletions : public WireFormat {
 public:
  HttpCall build(const ProviderSettings&, const Prompt&, bool stream) const override;
  void read_whole(const rapidjson::Value& body, Reading&) const override;
  void read_event(std::string_view event, const rapidjson::Value& data, Reading&) const override;
  CallError judge(std::string_view finish) const override;

 protected:
  /// The system message, with its role, and the members after the messages.
  virtual void write_system(codec::JsonWriter&, const Prompt&) const = 0;
  virtual void write_options(codec::JsonWriter&, std::string_view model, const Prompt&) const = 0;
};

class OpenAiFormat final : public ChatCompletions {
 public:
  std::string_view provider() const override { return "openai"; }

 private:
  void write_system(codec::JsonWriter&, const Prompt&) const override;
  void write_options(codec::JsonWriter&, std::string_view model, const Prompt&) const override;
};

/// No schema, only "some JSON": the shape stands in the prompt, as an example.
class DeepSeekFormat final : public ChatCompletions {
 public:
  std::string_view provider() const override { return "deepseek"; }

 private:
  void write_system(codec::JsonWriter&, const Prompt&) const override;
  void write_options(codec::JsonWriter&, std::string_view model, const Prompt&) const override;
};

}  // namespace onboarding::model

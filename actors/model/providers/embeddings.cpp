#include "actors/model/providers/embeddings.hpp"

#include <cmath>

#include "actors/model/providers/client.hpp"
#include "actors/model/providers/openai.hpp"
#include "actors/model/providers/rates.hpp"

namespace onboarding::model {
namespace {

using codec::find_member;
using rapidjson::Value;

// A vector of length 1; empty: it is none.
std::vector<float> vector_of(const Value& item, std::uint32_t dimensions) {
  const auto* numbers = item.IsObject() ? find_member(item, "embedding") : nullptr;
  if (!numbers || !numbers->IsArray() || numbers->Size() != dimensions) return {};
  std::vector<float> v;
  double squares = 0;
  for (const auto& n : numbers->GetArray()) {
    if (!n.IsNumber()) return {};
    v.push_back(static_cast<float>(n.GetDouble()));
    squares += n.GetDouble() * n.GetDouble();
  }
  const auto length = std::sqrt(squares);
  if (!std::isfinite(length) || length <= 0) return {};
  for (auto& x : v) x = static_cast<float>(x / length);
  return v;
}

bool read_vectors(const Value& body, std::size_t texts, std::uint32_t dimensions, std::vector<std::vector<float>>& out) {
  const auto* data = find_member(body, "data");
  if (!data || !data->IsArray() || data->Size() != texts) return false;
  out.resize(texts);
  for (const auto& item : data->GetArray()) {
    const auto index = item.IsObject() ? codec::int_member(item, "index", -1) : -1;
    if (index < 0 || index >= static_cast<std::int64_t>(texts)) return false;
    auto& place = out[static_cast<std::size_t>(index)];
    if (!place.empty() || (place = vector_of(item, dimensions)).empty()) return false;
  }
  return true;
}

class OpenAiEmbedder final : public Embedder {
 public:
  OpenAiEmbedder(ProviderSettings settings, std::uint32_t dimensions, CurlLoop& loop)
      : settings_(std::move(settings)), dimensions_(dimensions), loop_(loop) {}

  void embed(std::vector<std::string> texts, std::chrono::milliseconds timeout, std::function<void(Embeddings)> done) override {
    rapidjson::StringBuffer buffer;
    codec::JsonWriter w(buffer);
    w.StartObject();
    codec::write_key(w, "model"), codec::write_string(w, settings_.model);
    codec::write_key(w, "input"), w.StartArray();
    for (const auto& text : texts) codec::write_string(w, text);
    w.EndArray();
    codec::write_key(w, "dimensions"), w.Uint(dimensions_);
    codec::write_key(w, "encoding_format"), codec::write_string(w, "float");
    w.EndObject();
    HttpCall http;
    http.url = settings_.base_url + "/embeddings";
    http.headers = {"Authorization: Bearer " + settings_.api_key, "Content-Type: application/json", "Accept: application/json"};
    http.body = codec::written(buffer);
    http.timeout = std::min(timeout, settings_.timeout);
    loop_.submit(std::move(http), [done = std::move(done), count = texts.size(), dimensions = dimensions_](
                                      const HttpReply& reply) { done(read_embeddings(reply, count, dimensions)); });
  }

 private:
  const ProviderSettings settings_;
  const std::uint32_t dimensions_;
  CurlLoop& loop_;
};

}  // namespace

Embeddings read_embeddings(const HttpReply& reply, std::size_t texts, std::uint32_t dimensions) {
  Embeddings out;
  auto& call = out.call;
  if (reply.transport != Transport::ok) {
    call = transport_failure(reply);
  } else if (reply.status != 200) {
    call = read_reply(OpenAiFormat(), reply);
  } else {
    read_rate_headers(reply, call);
    const auto body = codec::parse_json(reply.body);
    if (!body || !body->IsObject() || !read_vectors(*body, texts, dimensions, out.vectors)) {
      call.error = CallError::invalid_answer;
      call.detail = "no vectors of the size that was asked for";
      out.vectors.clear();
    }
    if (const auto* usage = body && body->IsObject() ? find_member(*body, "usage") : nullptr; usage && usage->IsObject()) {
      call.usage.input_tokens = tokens_member(*usage, "prompt_tokens", -1);
      call.usage.output_tokens = 0;
      merge_raw_usage(call.usage, *usage);
    }
  }
  call.latency_ms = reply.latency_ms;
  call.was_sent = reply.was_sent;
  return out;
}

result<std::shared_ptr<Embedder>> make_embedder(ProviderSettings settings, std::uint32_t dimensions, CurlLoop& loop) {
  // What a client of it would refuse, this one does.
  if (auto checked = make_client(settings, loop); !checked) return tl::unexpected(checked.error());
  while (settings.base_url.back() == '/') settings.base_url.pop_back();
  return std::make_shared<OpenAiEmbedder>(std::move(settings), dimensions, loop);
}

}  // namespace onboarding::model

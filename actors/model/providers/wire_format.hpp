// What differs between providers: how a request is written and how an answer is read. Pure; all transport is CurlLoop's.
#pragma once

#include <string>
#include <string_view>

#include "actors/model/provider.hpp"
#include "actors/model/providers/curl_loop.hpp"
#include "actors/model/providers/sse.hpp"
#include "events/codec/json.hpp"

namespace onboarding::model {

/// More text than this is no answer of ours (answer.hpp: 32 KiB).
inline constexpr std::size_t kMaxAnswerText = 64 * 1024;

/// An answer while it is read: text, usage and model go into `result`, and the error if there is one.
struct Reading {
  CallResult result;
  std::string finish;    // why the model stopped, in the provider's own words; empty: not told
  bool ended = false;    // the provider said that nothing follows
  bool refused = false;  // the model said why it does not answer, where an answer would stand

  void fail(CallError, std::string detail);
};

class WireFormat {
 public:
  virtual ~WireFormat() = default;
  virtual std::string_view provider() const = 0;
  /// The call, without its time-outs.
  virtual HttpCall build(const ProviderSettings&, const Prompt&, bool stream) const = 0;
  /// The body of a 200, an object. Bytes are hostile.
  virtual void read_whole(const rapidjson::Value& body, Reading&) const = 0;
  /// The data of one event of a stream, an object and no error.
  virtual void read_event(std::string_view event, const rapidjson::Value& data, Reading&) const = 0;
  /// Whether the stream may end after what has been read.
  virtual bool is_end(const Reading& r) const { return r.ended; }
  /// What `finish` means for the answer.
  virtual CallError judge(std::string_view finish) const = 0;
};

/// A complete HTTP response, whatever its status.
CallResult read_reply(const WireFormat&, const HttpReply&);

/// A streamed response: pieces, then its end. Also reads a plain JSON body, which some gateways answer with all the same.
class AnswerStream {
 public:
  AnswerStream(const WireFormat& format, TextSink on_text) : format_(format), on_text_(std::move(on_text)) {}

  /// The next bytes of a 200's body. Never throws.
  Piece feed(std::string_view bytes);
  /// `reply` as CurlLoop ended it: any transport, any status.
  CallResult end(const HttpReply& reply);

 private:
  Piece read_event(std::string_view event, std::string_view data);

  const WireFormat& format_;
  const TextSink on_text_;
  SseReader events_{1 << 20};
  Reading reading_;
  enum { unknown, events, json } kind_ = unknown;
  std::string json_;
};

/// A failure of the transport, as an error of the call.
CallResult transport_failure(const HttpReply&);

// ---- for formats

/// The prompt's own model, else the provider's.
std::string_view model_of(const ProviderSettings&, const Prompt&);
/// What follows the stable part of the system prompt.
std::string_view system_rest(const Prompt&);
/// Adds to the answer's text; over the bound it is no answer.
void append_text(Reading&, std::string_view text);
/// A count of tokens; `before` when it is missing or cannot be one (negative, or beyond a hundred million).
std::int64_t tokens_member(const rapidjson::Value& usage, std::string_view name, std::int64_t before);
/// The same usage object, later in the stream: its members replace those of the same name. Keeps `raw` bounded.
void merge_raw_usage(domain::Usage&, const rapidjson::Value& usage);
/// Fails the reading with what the error object says, if there is one; `reply` nullptr: it was told in a stream.
void read_error(const WireFormat&, const rapidjson::Value* error, const HttpReply* reply, Reading&);
/// A provider's code or type, fit for a log: letters, digits, `_.-`, at most 64; anything else is left out.
std::string loggable_code(std::string_view);

}  // namespace onboarding::model

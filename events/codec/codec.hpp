// Between domain events and a record's bytes: envelope, JSON, sealing, upcasting (infra/docs/FORMAT.md).
// Encoding happens once, with the versions the events will get; decoding checks everything: bytes are hostile.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "events/codec/upcast.hpp"
#include "events/domain/events.hpp"
#include "events/log/event_log.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::codec {

enum class Errc {
  malformed = 1,    // not the JSON that FORMAT.md describes
  unknown_type,     // an event type this program does not know: it is older than the log
  unknown_schema,   // a schema version newer than this program
  key_unreachable,  // the key store did not answer: try again; not the same as erased
  too_large
};
std::error_code make_error_code(Errc);

/// What a record's events have in common beside their place.
struct RecordMeta {
  std::string user;             // user key (privacy::Secrets::user_key); empty for streams without a person
  std::string blinded_user_id;  // privacy::Secrets::blinded_user_id; finds all of a person's streams
  std::string correlation_id;   // the request or timer that began it
  std::string causation_id;     // the turn or command that caused it
  std::string traceparent;      // W3C, empty: none
  std::string plan;             // the session's plan: usage is told apart by it without knowing the session
};

/// An event as a reader sees it.
struct DecodedEvent {
  domain::RecordedEvent recorded;
  std::uint32_t partition = 0;
  std::string stream;
  std::uint32_t schema_version = 1;
  std::shared_ptr<const RecordMeta> meta;
  bool erased = false;  // something sealed in it could not be opened because its key is gone

  Position position() const { return {partition, recorded.sequence}; }
};

/// The payload of a record whose first event will have `first_version` in `stream`. Times never go back within a stream:
/// the caller clamps. `key` may be null only when meta.user is empty. Errc::malformed when a clear text is not UTF-8 or
/// holds a NUL (nobody could read the record again), Errc::too_large over log::max_payload_bytes. `nonces` is replaced
/// only where bytes must be repeatable (golden files, simulation).
result<std::string> encode(const RecordMeta&, std::string_view stream, std::uint64_t first_version, domain::Timestamp time,
                           std::span<const domain::Event>, const privacy::SealingKey* key,
                           RandomSource& nonces = system_random());

/// All events of a record, upcast to today's schema, sealed texts opened. An erased key gives Personal::forgotten();
/// a key store out of reach is Errc::key_unreachable; a sealed text that does not open is privacy::Errc::forged. May read
/// the key store's disk: not for actor threads.
result<std::vector<DecodedEvent>> decode(const log::Record&, privacy::KeyStore&, const Upcasters& = upcasters());

/// Whether personal texts leave the server in clear.
enum class Reveal { sealed, open };

/// CloudEvents 1.0 structured JSON of one event, one line. Personal texts read "[sealed]"; to who asks for them to be
/// open, "[erased]" once the key is gone.
std::string to_cloud_event(const DecodedEvent&, std::string_view log_id, Reveal = Reveal::sealed);

/// A flow file (api.md §2): its shape. Whether it makes sense is domain::check()'s business; the version is the
/// publisher's. The detail of an error is a JSON pointer and what is wrong there.
result<domain::Flow> parse_flow(std::string_view json);
std::string write_flow(const domain::Flow&);

}  // namespace onboarding::codec

template <>
struct std::is_error_code_enum<onboarding::codec::Errc> : std::true_type {};

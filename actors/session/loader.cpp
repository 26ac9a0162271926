#include <caf/send.hpp>

#include "actors/session/environment.hpp"

namespace onboarding::session {

namespace {

// A session's records come in pages: 200 messages are about 600 records.
constexpr std::size_t page_records = 512;

class Loader : public std::enable_shared_from_this<Loader> {
 public:
  Loader(EnvironmentPtr environment, std::uint32_t partition, std::string session_id, std::shared_ptr<const domain::State> base,
         caf::actor to)
      : environment_(std::move(environment)),
        partition_(partition),
        session_id_(std::move(session_id)),
        continued_(base != nullptr),
        to_(std::move(to)) {
    loaded_.state = base ? std::make_shared<domain::State>(*base) : std::make_shared<domain::State>(domain::initial());
    environment_->callbacks.begin();
  }

  void read_on() {
    environment_->options.log->read_stream(
        partition_, session_id_, loaded_.state->version, page_records,
        [self = shared_from_this()](result<std::vector<log::Record>> records) { self->fold(std::move(records)); });
  }

 private:
  void fold(result<std::vector<log::Record>> records) {
    if (!records) return end(tl::make_unexpected(records.error()));
    for (const log::Record& record : *records) {
      if (record.first_version != loaded_.state->version + 1)
        return end(failure(make_error_code(log::Errc::corrupt), "a stream's versions have a gap"));
      const auto events = codec::decode(record, *environment_->options.keys);
      if (!events) return end(tl::make_unexpected(events.error()));
      for (const codec::DecodedEvent& event : *events) {
        if (event.recorded.version == 1) loaded_.meta = *event.meta;
        loaded_.forgotten = loaded_.forgotten || event.erased;
        domain::evolve(*loaded_.state, event.recorded, *environment_->options.flows);
      }
    }
    if (records->size() == page_records) return read_on();
    // Sessions are told before a key goes (ADR 0403): where none was told, it was lost.
    const bool erased = loaded_.state->status == domain::SessionStatus::erased;
    if (loaded_.forgotten && !erased) return end(failure(make_error_code(privacy::Errc::lost)));
    // Another server has published it, in another partition, and it was not read here yet.
    if (loaded_.state->status != domain::SessionStatus::none && !loaded_.state->flow)
      return end(failure(make_error_code(log::Errc::unreadable), "the session's flow is not known yet"));
    // Whoever was erased gets no new key by being looked at.
    if (continued_ || loaded_.state->version == 0 || erased) return end(std::move(loaded_));
    environment_->options.keys->obtain(loaded_.meta.user, [self = shared_from_this()](result<privacy::SealingKeyPtr> key) {
      if (!key) return self->end(tl::make_unexpected(key.error()));
      self->loaded_.key = std::move(*key);
      self->end(std::move(self->loaded_));
    });
  }

  void end(result<Loaded> loaded) {
    caf::anon_send(std::exchange(to_, nullptr), loaded_atom::value, std::make_shared<LoadResult>(LoadResult{std::move(loaded)}));
    environment_->callbacks.end();
  }

  const EnvironmentPtr environment_;
  const std::uint32_t partition_;
  const std::string session_id_;
  const bool continued_;
  caf::actor to_;
  Loaded loaded_;
};

}  // namespace

void load_session(const EnvironmentPtr& environment, std::uint32_t partition, const std::string& session_id,
                  std::shared_ptr<const domain::State> base, const caf::actor& to) {
  std::make_shared<Loader>(environment, partition, session_id, std::move(base), to)->read_on();
}

}  // namespace onboarding::session

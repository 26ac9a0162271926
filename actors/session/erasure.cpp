#include "actors/session/erasure.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <caf/send.hpp>

#include <cerrno>
#include <charconv>
#include <limits>
#include <unordered_set>

#include "events/codec/envelope.hpp"
#include "events/fault_point.hpp"

namespace onboarding::session {

namespace {

FaultPoint after_note("erasure.after_note");    // noted, nobody told
FaultPoint before_keys("erasure.before_keys");  // every session was told, the keys are still there
FaultPoint after_keys("erasure.after_keys");    // they are gone, the note is still there

constexpr std::size_t page_records = 512, page_bytes = 8 << 20;
constexpr std::string_view by_key = "key", by_id = "id";

/// `<partition>.key.<user key>` or `<partition>.id.<blinded user id>`: nothing else needs to be known.
std::string note_name(const Person& person) {
  const bool key = !person.user_key.empty();
  return std::to_string(person.partition) + "." + std::string(key ? by_key : by_id) + "." +
         (key ? person.user_key : person.blinded_user_id);
}

bool sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool synced = ::fsync(fd) == 0;
  ::close(fd);
  return synced;
}

bool note(const std::filesystem::path& folder, const Person& person) {
  if (folder.empty()) return true;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const int fd = ::open((folder / note_name(person)).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  ::close(fd);
  return sync_folder(folder) && sync_folder(folder.parent_path());
}

/// A note that came back would erase what the person says from now on.
bool take_note_away(const std::filesystem::path& folder, const Person& person) {
  if (folder.empty()) return true;
  return (::unlink((folder / note_name(person)).c_str()) == 0 || errno == ENOENT) && sync_folder(folder);
}

/// Lives in whatever it waits for: a message to the host or a session, a look-up, the key store. When that is dropped because everything
/// ends, it ends with it; the note stays, and the next start begins it again. After an error it is tried again until it is done.
class Erasure : public std::enable_shared_from_this<Erasure> {
 public:
  Erasure(EnvironmentPtr environment, caf::actor host, RequestContext context, Person person, Reply<std::uint32_t> reply)
      : environment_(std::move(environment)),
        host_(std::move(host)),
        context_(std::move(context)),
        person_(std::move(person)),
        reply_(std::move(reply)) {
    environment_->callbacks.begin();
  }
  ~Erasure() {
    reply_(failure(make_error_code(GatewayErrc::in_doubt), "the server ends"));
    host_ = nullptr;  // the actor system goes once no callback is under way
    environment_->callbacks.end();
  }

  /// No session of the person begins from here on, until the note is gone.
  void begin() {
    auto forgetting = std::make_shared<Forgetting>(Forgetting{person_, attempt()});
    forgetting_ = forgetting;
    caf::anon_send(host_, forget_atom::value, std::move(forgetting));
  }

 private:
  const std::filesystem::path& folder() const { return environment_->options.erasures; }

  std::function<void(std::vector<std::string>)> attempt() {
    return [self = shared_from_this()](std::vector<std::string> in_memory) {
      self->environment_->options.offload([self, in_memory = std::move(in_memory)]() mutable {
        if (!note(self->folder(), self->person_))
          return self->fail(failure(make_error_code(GatewayErrc::not_writable), "an erasure cannot be noted"));
        (void)after_note.hit();
        self->find(std::move(in_memory));
      });
    };
  }

  /// A session that begins is in memory before it is in the log.
  void find(std::vector<std::string> in_memory) {
    if (environment_->stopping.load()) return;
    auto found = streams_of(*environment_->options.log, person_);
    if (!found) return fail(failure(make_error_code(GatewayErrc::not_writable), found.error().detail));
    next_ = 0;
    left_ = 0;
    user_keys_ = std::move(found->user_keys);
    for (const log::Record& first : found->first_records) {
      const auto begun = codec::decode(first, *environment_->options.keys);
      if (begun && !begun->front().erased) ++left_;
    }
    const std::unordered_set<std::string> known(found->sessions.begin(), found->sessions.end());
    sessions_ = std::move(found->sessions);
    for (std::string& id : in_memory)
      if (!known.contains(id)) sessions_.push_back(std::move(id));
    tell_next();
  }

  void tell_next() {
    if (next_ == sessions_.size()) return forget_next_key();
    (void)admission_->enter();
    auto job = std::make_shared<Job>(
        Job{sessions_[next_],
            person_.partition,
            context_,
            std::nullopt,
            false,
            {},
            EraseJob{person_, Reply<std::string>([self = shared_from_this()](
                                                     result<std::string> user_key) { self->take_answer(std::move(user_key)); },
                                                 admission_)}});
    caf::anon_send(host_, job_atom::value, job);
  }

  void take_answer(result<std::string> user_key) {
    const bool unknown = !user_key && user_key.error().code == make_error_code(GatewayErrc::unknown_session);
    if (!user_key && !unknown) return fail(tl::make_unexpected(user_key.error()));
    if (user_key) {
      user_keys_.insert(*user_key);
      ++told_;
    }
    ++next_;
    tell_next();
  }

  void forget_next_key() {
    (void)before_keys.hit();
    if (user_keys_.empty()) return finish();
    environment_->options.keys->erase(*user_keys_.begin(), [self = shared_from_this()](result<void> erased) {
      if (!erased) return self->fail(failure(make_error_code(GatewayErrc::keys_unreachable), erased.error().detail));
      self->user_keys_.erase(self->user_keys_.begin());
      self->forget_next_key();
    });
  }

  void finish() {
    environment_->options.offload([self = shared_from_this()] {
      (void)after_keys.hit();
      if (!take_note_away(self->folder(), self->person_))
        return self->fail(failure(make_error_code(GatewayErrc::not_writable), "an erasure's note stays"));
      if (auto forgetting = self->forgetting_.lock()) caf::anon_send(self->host_, forgotten_atom::value, std::move(forgetting));
      self->reply_(std::max(self->told_, self->left_));
    });
  }

  /// Whoever asked is told at once; the host begins it again, and lets nobody in until it is done.
  void fail(result<std::uint32_t> why) {
    reply_(std::move(why));
    if (auto forgetting = forgetting_.lock()) {
      forgetting->begun = attempt();
      caf::anon_send(host_, failed_atom::value, std::move(forgetting));
    }
  }

  const EnvironmentPtr environment_;
  caf::actor host_;
  const RequestContext context_;
  const Person person_;
  std::weak_ptr<Forgetting> forgetting_;  // the host has it
  Reply<std::uint32_t> reply_;
  // Of the questions to the sessions: the erasure itself was counted in, and a server that drains waits for it.
  const std::shared_ptr<Admission> admission_ = std::make_shared<Admission>(std::numeric_limits<std::size_t>::max());
  std::vector<std::string> sessions_;
  std::set<std::string> user_keys_;
  std::size_t next_ = 0;
  std::uint32_t told_ = 0;
  std::uint32_t left_ = 0;  // sessions that could still be read, told earlier or not
};

}  // namespace

result<PersonStreams> streams_of(log::EventLog& log, const Person& person) {
  const std::string& needle = person.user_key.empty() ? person.blinded_user_id : person.user_key;
  PersonStreams found;
  std::unordered_set<std::string> seen;
  for (std::uint64_t after = 0;;) {
    const auto records = log.read_partition(person.partition, after, page_records, page_bytes);
    if (!records) return tl::unexpected(records.error());
    if (records->empty()) return found;
    after = records->back().last_sequence();
    for (const log::Record& record : *records) {
      // Most records are somebody else's: those are not even parsed.
      if (seen.contains(record.stream) || record.payload.find(needle) == std::string::npos) continue;
      const auto meta = codec::read_meta(record);
      if (!meta || !person.is(meta->user, meta->blinded_user_id)) continue;
      seen.insert(record.stream);
      found.sessions.push_back(record.stream);
      found.user_keys.insert(meta->user);
      found.first_records.push_back(record);
    }
  }
}

void begin_erasure(const EnvironmentPtr& environment, const caf::actor& host, RequestContext context, Person person,
                   Reply<std::uint32_t> reply) {
  std::make_shared<Erasure>(environment, host, std::move(context), std::move(person), std::move(reply))->begin();
}

std::vector<Person> erasures_begun(const std::filesystem::path& folder) {
  std::vector<Person> begun;
  if (folder.empty()) return begun;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename();
    const auto first = name.find('.'), second = name.find('.', first + 1);
    Person person;
    const auto [end, error] = std::from_chars(name.data(), name.data() + std::min(first, name.size()), person.partition);
    if (second == name.npos || error != std::errc() || end != name.data() + first) continue;
    (name.substr(first + 1, second - first - 1) == by_key ? person.user_key : person.blinded_user_id) = name.substr(second + 1);
    begun.push_back(std::move(person));
  }
  return begun;
}

}  // namespace onboarding::session

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
  Erasure(EnvironmentPtr environment, caf::actor host, RequestContext context, Person person, Reply<std::uint32_t> reply,
          std::shared_ptr<void> counted)
      : environment_(std::move(environment)),
        host_(std::move(host)),
        context_(std::move(context)),
        person_(std::move(person)),
        reply_(std::move(reply)),
        counted_(std::move(counted)) {
    environment_->callbacks.begin();
  }
  ~Erasure() {
    counted_.reset();
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
    find_streams(environment_, person_, [self = shared_from_this(), in_memory = std::move(in_memory)](auto found) mutable {
      if (!found) return self->fail(failure(make_error_code(GatewayErrc::not_writable), found.error().detail));
      self->tell(std::move(*found), std::move(in_memory));
    });
  }

  void tell(std::vector<PersonStream> found, std::vector<std::string> in_memory) {
    next_ = 0;
    left_ = 0;
    sessions_ = std::move(found);
    user_keys_.clear();
    untold_.clear();
    first_failure_.reset();
    std::unordered_set<std::string> known;
    for (const PersonStream& session : sessions_) {
      known.insert(session.id);
      user_keys_.insert(session.user_key);
      const auto begun = codec::decode(session.first, *environment_->options.keys);
      if (begun && !begun->front().erased) ++left_;
    }
    for (std::string& id : in_memory)
      if (!known.contains(id)) sessions_.push_back({std::move(id), {}, {}});
    tell_next();
  }

  void tell_next() {
    if (next_ == sessions_.size()) return forget_keys();
    (void)admission_->enter();
    auto job = std::make_shared<Job>(
        Job{sessions_[next_].id,
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

  /// A session that cannot be told keeps its own key, not those of others: the user id may be that of several people.
  void take_answer(result<std::string> user_key) {
    const bool unknown = !user_key && user_key.error().code == make_error_code(GatewayErrc::unknown_session);
    if (user_key) {
      user_keys_.insert(*user_key);
      ++told_;
    } else if (!unknown) {
      untold_.insert(sessions_[next_].user_key);
      if (!first_failure_) first_failure_ = user_key.error();
    }
    ++next_;
    tell_next();
  }

  void forget_keys() {
    if (untold_.contains("")) user_keys_.clear();  // it just begins: whose it is, it did not say
    for (const std::string& key : untold_) user_keys_.erase(key);
    (void)before_keys.hit();
    forget_next_key();
  }

  void forget_next_key() {
    if (user_keys_.empty()) return first_failure_ ? fail(tl::make_unexpected(*first_failure_)) : finish();
    environment_->options.keys->erase_if(
        *user_keys_.begin(), [self = shared_from_this()](auto confirmed) { self->confirm(std::move(confirmed)); },
        [self = shared_from_this()](result<void> erased) {
          if (!erased) return self->fail(failure(make_error_code(GatewayErrc::keys_unreachable), erased.error().detail));
          self->user_keys_.erase(self->user_keys_.begin());
          self->forget_next_key();
        });
  }

  /// That the person was kept out until now: by the log this server has the partition, and the host that was told to has not lost it in
  /// between. Whoever was replaced would take the keys of what the person has said since, with the next owner; nor is that one asked in our
  /// place: it would forget that, too.
  void confirm(std::function<void(result<void>)> confirmed) {
    environment_->options.log->barrier(
        person_.partition, [self = shared_from_this(), confirmed = std::move(confirmed)](result<void> read) mutable {
          const auto forgetting = self->forgetting_.lock();
          if (read && !forgetting) read = failure(make_error_code(log::Errc::locked), "another server owns the partition");
          if (!read) return confirmed(std::move(read));
          forgetting->begun = [confirmed = std::move(confirmed)](const std::vector<std::string>&) { confirmed({}); };
          caf::anon_send(self->host_, still_atom::value, forgetting);
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
  std::shared_ptr<void> counted_;
  // Of the questions to the sessions: the erasure itself was counted in, and a server that drains waits for it.
  const std::shared_ptr<Admission> admission_ = std::make_shared<Admission>(std::numeric_limits<std::size_t>::max());
  std::vector<PersonStream> sessions_;
  std::set<std::string> user_keys_;  // to be forgotten
  std::set<std::string> untold_;     // of sessions that could not be told
  std::optional<Failure> first_failure_;
  std::size_t next_ = 0;
  std::uint32_t told_ = 0;
  std::uint32_t left_ = 0;  // sessions that could still be read, told earlier or not
};

/// Reads a person's partition, a page at a time: whoever else looks something up comes in between.
class Search : public std::enable_shared_from_this<Search> {
 public:
  using Done = std::function<void(result<std::vector<PersonStream>>)>;
  Search(EnvironmentPtr environment, Person person, Done done)
      : environment_(std::move(environment)), person_(std::move(person)), done_(std::move(done)) {
    environment_->callbacks.begin();
  }
  ~Search() {
    done_ = nullptr;
    environment_->callbacks.end();
  }

  void go_on() {
    environment_->options.offload([self = shared_from_this()] { self->read_page(); });
  }

 private:
  void read_page() {
    if (environment_->stopping.load()) return done_(failure(make_error_code(GatewayErrc::in_doubt), "the server ends"));
    log::EventLog& log = *environment_->options.log;
    const auto records = log.read_partition(person_.partition, after_, page_records, page_bytes);
    if (!records) return done_(tl::unexpected(records.error()));
    for (const log::Record& record : *records) take(record);
    if (!records->empty()) after_ = records->back().last_sequence();
    if (records->empty() || after_ >= log.head(person_.partition)) return done_(std::move(found_));
    go_on();
  }

  void take(const log::Record& record) {
    const std::string& needle = person_.user_key.empty() ? person_.blinded_user_id : person_.user_key;
    // Most records are somebody else's: those are not even parsed.
    if (seen_.contains(record.stream) || record.payload.find(needle) == std::string::npos) return;
    const auto meta = codec::read_meta(record);
    if (!meta || !person_.is(meta->user, meta->blinded_user_id)) return;
    seen_.insert(record.stream);
    found_.push_back({record.stream, meta->user, record});
  }

  const EnvironmentPtr environment_;
  const Person person_;
  Done done_;
  std::uint64_t after_ = 0;
  std::unordered_set<std::string> seen_;
  std::vector<PersonStream> found_;
};

}  // namespace

void find_streams(const EnvironmentPtr& environment, Person person, std::function<void(result<std::vector<PersonStream>>)> done) {
  std::make_shared<Search>(environment, std::move(person), std::move(done))->go_on();
}

void begin_erasure(const EnvironmentPtr& environment, const caf::actor& host, RequestContext context, Person person,
                   Reply<std::uint32_t> reply, std::shared_ptr<void> counted) {
  std::make_shared<Erasure>(environment, host, std::move(context), std::move(person), std::move(reply), std::move(counted))
      ->begin();
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

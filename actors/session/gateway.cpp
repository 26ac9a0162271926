#include "actors/session/gateway.hpp"

#include <caf/all.hpp>
#include <limits>
#include <mutex>
#include <shared_mutex>

#include "actors/model/supervisor.hpp"
#include "actors/session/environment.hpp"
#include "actors/session/erasure.hpp"

namespace onboarding::session {

namespace {

std::string hex(std::string_view bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    out += digits[static_cast<unsigned char>(c) >> 4];
    out += digits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

/// What the log keeps of a request's body, only to tell another request with the same key: keyed, because a short message
/// could be found from a plain hash; nothing where no key was sent.
std::string blinded_fingerprint(const privacy::Secrets& secrets, const std::optional<std::string>& key,
                                const std::string& fingerprint) {
  return key ? secrets.key_hash("request " + *key + '\0' + fingerprint) : std::string();
}

class HostedGateway final : public SessionGateway {
 public:
  HostedGateway(caf::actor_system& system, GatewayOptions options)
      : system_(system), environment_(std::make_shared<Environment>(std::move(options))) {
    hosts_.resize(environment_->options.log->partitions());
    if (environment_->options.all_partitions)
      for (std::uint32_t partition = 0; partition < hosts_.size(); ++partition) gain(partition);
  }

  ~HostedGateway() override { stop(); }

  void gain(std::uint32_t partition) override {
    {
      const std::lock_guard lock(hosts_mutex_);
      if (environment_->stopping.load() || hosts_.at(partition)) return;
      hosts_[partition] = spawn_host(system_, environment_, partition);
    }
    for (Person& person : erasures_begun(environment_->options.erasures)) {
      if (person.partition != partition) continue;
      if (auto reply = admit(Done<std::uint32_t>([](const result<std::uint32_t>&) {})))
        begin_erasure(environment_, host_of(partition), {}, std::move(person), std::move(*reply), count(environment_->erasures));
    }
  }

  void lose(std::uint32_t partition) override {
    caf::actor host;
    {
      const std::lock_guard lock(hosts_mutex_);
      host = std::exchange(hosts_.at(partition), nullptr);
    }
    if (host) caf::anon_send(host, lost_atom::value);
  }

  void start_session(StartRequest request, Done<SessionStartedAnswer> done) override {
    auto admitted = admit(std::move(done));
    if (!admitted) return;
    Reply<SessionStartedAnswer> reply = std::move(*admitted);
    const auto refuse = [&](GatewayErrc why) { reply(failure(make_error_code(why))); };
    const privacy::Secrets& secrets = *environment_->options.secrets;

    auto flow = environment_->options.flows->newest(request.flow);
    if (!flow) return refuse(GatewayErrc::unknown_flow);
    const std::string& key = request.idempotency_key ? *request.idempotency_key : std::string();
    std::string user_id = request.user_id           ? *request.user_id
                          : request.idempotency_key ? "usr_" + hex(secrets.derived16("user", key))
                                                    : id_of_somebody_here();
    StartJob start{{}, {}, secrets.blinded_user_id(user_id), {}, nullptr, std::move(reply)};

    auto job = std::make_shared<Job>(
        Job{{}, 0, std::move(request.context), std::nullopt, !request.idempotency_key, {}, std::move(start)});
    StartJob& starting = std::get<StartJob>(job->what);
    job->partition = partition_of_user(starting.blinded_user_id, static_cast<std::uint32_t>(hosts_.size()));
    // Vouched for or not is part of the derivation: whoever only names a person must not find a session of theirs.
    job->session_id = make_session_id(
        job->partition, request.idempotency_key
                            ? secrets.derived16(request.vouched ? "vouched session" : "session", key + '\0' + user_id)
                            : random16());
    starting.user_key = secrets.user_key(user_id, request.vouched, job->session_id);
    starting.token = secrets.session_token(job->session_id, 1);
    starting.command = {std::move(user_id),
                        std::move(flow),
                        {},
                        request.plan.empty() ? "free" : std::move(request.plan),
                        std::move(request.locale),
                        privacy::sha256_hex(starting.token),
                        request.vouched,
                        request.idempotency_key ? secrets.key_hash(key) : std::string(),
                        blinded_fingerprint(secrets, request.idempotency_key, request.fingerprint)};
    caf::actor host = host_of(job->partition);
    if (!host) return job->refuse(GatewayErrc::owned_elsewhere);
    environment_->callbacks.begin();
    // The key is durable before the first event that is sealed with it.
    environment_->options.keys->obtain(
        starting.user_key, [job, environment = environment_, host = std::move(host)](result<privacy::SealingKeyPtr> key) mutable {
          if (key) {
            std::get<StartJob>(job->what).key = std::move(*key);
            caf::anon_send(host, job_atom::value, job);
          } else {
            job->refuse(GatewayErrc::keys_unreachable);
          }
          host = nullptr;
          job.reset();
          environment->callbacks.end();
        });
  }

  void post_message(MessageRequest request, Done<TurnAnswer> done) override {
    auto reply = admit(std::move(done));
    if (!reply) return;
    const Environment& environment = *environment_;
    domain::ReceiveMessage command{
        make_id("trn", *environment.options.clock, *environment.options.random), std::move(request.text),
        request.idempotency_key ? environment.options.secrets->key_hash(*request.idempotency_key) : std::string(),
        blinded_fingerprint(*environment.options.secrets, request.idempotency_key, request.fingerprint)};
    dispatch({std::move(request.session_id),
              0,
              std::move(request.context),
              request.token_generation,
              false,
              {},
              MessageJob{std::move(command), request.respond_async, std::move(*reply)}});
  }

  void get_session(std::string session_id, std::optional<std::uint32_t> token_generation, Done<SessionSnapshot> done) override {
    if (auto reply = admit(std::move(done)))
      dispatch({std::move(session_id), 0, {}, token_generation, false, {}, ReadJob{std::move(*reply)}}, true);
  }

  void get_turn(std::string session_id, std::uint32_t token_generation, std::string turn_id, Done<TurnAnswer> done) override {
    if (auto reply = admit(std::move(done)))
      dispatch({std::move(session_id), 0, {}, token_generation, false, {}, ReadTurnJob{std::move(turn_id), std::move(*reply)}},
               true);
  }

  void watch(std::string session_id, std::uint32_t token_generation, std::shared_ptr<SessionWatcher> watcher,
             Done<SessionSnapshot> done) override {
    if (auto reply = admit(std::move(done)))
      dispatch({std::move(session_id), 0, {}, token_generation, false, {}, WatchJob{std::move(watcher), std::move(*reply)}},
               true);
  }

  void resume(RequestContext context, std::string session_id, std::optional<std::uint32_t> token_generation,
              Done<ResumeAnswer> done) override {
    if (auto reply = admit(std::move(done)))
      dispatch({std::move(session_id), 0, std::move(context), token_generation, false, {}, ResumeJob{std::move(*reply)}});
  }

  void sessions_of(PersonSelector who, Done<std::vector<std::string>> done) override {
    auto admitted = admit(std::move(done));
    if (!admitted) return;
    const Person person = person_of(who);
    if (!host_of(person.partition)) return (*admitted)(owned_elsewhere(person.partition));
    const auto counted = count(environment_->searches, most_searches);
    if (!counted) return (*admitted)(failure(make_error_code(GatewayErrc::overloaded)));
    auto reply = std::make_shared<Reply<std::vector<std::string>>>(std::move(*admitted));
    after_barrier(person.partition, [environment = environment_, person, counted, reply](const result<void>& read) {
      if (!read) return (*reply)(tl::unexpected(read.error()));
      find_streams(environment, person, [counted, reply](auto found) {
        if (!found) return (*reply)(failure(make_error_code(GatewayErrc::not_writable)));
        std::vector<std::string> sessions;
        for (PersonStream& stream : *found) sessions.push_back(std::move(stream.id));
        (*reply)(std::move(sessions));
      });
    });
  }

  void erase_person(RequestContext context, PersonSelector who, Done<std::uint32_t> done) override {
    auto reply = admit(std::move(done));
    if (!reply) return;
    const Person person = person_of(who);
    const caf::actor host = host_of(person.partition);
    if (!host) return (*reply)(owned_elsewhere(person.partition));
    const auto counted = count(environment_->erasures, most_erasures);
    if (!counted) return (*reply)(failure(make_error_code(GatewayErrc::overloaded)));
    // Who has been replaced, or cut off, does not know of all sessions of the person.
    auto waits = std::make_shared<Reply<std::uint32_t>>(std::move(*reply));
    after_barrier(person.partition, [environment = environment_, host, context = std::move(context), person, counted,
                                     waits = std::move(waits)](const result<void>& read) {
      if (read) begin_erasure(environment, host, context, person, std::move(*waits), counted);
      else (*waits)(tl::unexpected(read.error()));
    });
  }

  void drain(std::function<void()> done) override { environment_->admission->close(std::move(done)); }
  bool draining() const override { return environment_->admission->closed(); }

  RuntimeStatus status() const override {
    const Environment& e = *environment_;
    return {e.ready_since,
            draining(),
            e.fenced.load(),
            e.admission->inside(),
            e.instruments.sessions_in_memory(),
            e.instruments.turns(),
            e.instruments.turn_errors()};
  }

  void stop() override {
    if (environment_->stopping.exchange(true)) return;
    environment_->admission->close([] {});
    const std::lock_guard lock(hosts_mutex_);
    for (const caf::actor& host : hosts_)
      if (host) caf::anon_send_exit(host, caf::exit_reason::user_shutdown);
  }

  std::size_t callbacks_under_way() const override { return environment_->callbacks.count(); }
  void wait_for_callbacks() const override { environment_->callbacks.wait_for_none(); }

 private:
  Person person_of(const PersonSelector& who) const {
    std::string blinded = environment_->options.secrets->blinded_user_id(who.user_id);
    const auto partition = partition_of_user(blinded, static_cast<std::uint32_t>(hosts_.size()));
    return {partition, who.user_key, who.user_key.empty() ? std::move(blinded) : std::string()};
  }

  /// One more under way, as long as what is returned is kept; null when there are `most`.
  std::shared_ptr<void> count(std::atomic<std::uint32_t>& under_way,
                              std::uint32_t most = std::numeric_limits<std::uint32_t>::max()) const {
    if (under_way.fetch_add(1) >= most) {
      --under_way;
      return nullptr;
    }
    return {environment_.get(), [environment = environment_, &under_way](void*) { --under_way; }};
  }

  caf::actor host_of(std::uint32_t partition) const {
    const std::shared_lock lock(hosts_mutex_);
    return hosts_.at(partition);
  }

  static tl::unexpected<Failure> owned_elsewhere(std::uint32_t partition) {
    return failure(make_error_code(GatewayErrc::owned_elsewhere), std::to_string(partition));
  }

  /// Nobody has named this person: one of those whose sessions are served here, so that nobody else has to be asked.
  std::string id_of_somebody_here() {
    constexpr int attempts_each = 16;
    std::string user_id;
    for (std::size_t attempt = 0; attempt < attempts_each * hosts_.size(); ++attempt) {
      user_id = make_id("usr", *environment_->options.clock, *environment_->options.random);
      if (environment_->options.all_partitions || host_of(person_of({user_id, {}}).partition)) break;
    }
    return user_id;
  }

  /// Everything that anybody was told before is in the partition's sessions when `then` is called with success.
  void after_barrier(std::uint32_t partition, std::function<void(result<void>)> then) {
    environment_->callbacks.begin();
    environment_->options.log->barrier(
        partition, [environment = environment_, partition, then = std::move(then)](const result<void>& read) mutable {
          if (read) then({});
          else if (read.error().code == make_error_code(log::Errc::locked)) then(owned_elsewhere(partition));
          else then(failure(make_error_code(GatewayErrc::not_writable), read.error().detail));
          then = nullptr;
          environment->callbacks.end();
        });
  }

  /// The way back to a caller who was let in; the others were told why not.
  template <class T>
  std::optional<Reply<T>> admit(Done<T> done) {
    if (const auto entered = environment_->admission->enter(); !entered) {
      done(tl::make_unexpected(entered.error()));
      return std::nullopt;
    }
    return Reply<T>(std::move(done), environment_->admission);
  }

  void dispatch(Job given, bool reads = false) {
    auto job = std::make_shared<Job>(std::move(given));
    const auto partition = partition_of_session(job->session_id);
    if (!partition || *partition >= hosts_.size()) return job->refuse(GatewayErrc::unknown_session);
    job->partition = *partition;
    caf::actor host = host_of(*partition);
    if (!host) return job->refuse(GatewayErrc::owned_elsewhere);
    if (!reads) return caf::anon_send(host, job_atom::value, job);
    after_barrier(*partition, [job, host](const result<void>& read) {
      if (read) caf::anon_send(host, job_atom::value, job);
      else std::visit([&](auto& what) { what.reply(tl::unexpected(read.error())); }, job->what);
    });
  }

  std::string random16() {
    std::string bytes(16, '\0');
    environment_->options.random->fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    return bytes;
  }

  caf::actor_system& system_;
  const EnvironmentPtr environment_;
  mutable std::shared_mutex hosts_mutex_;
  std::vector<caf::actor> hosts_;  // by partition; null: served elsewhere
};

}  // namespace

std::unique_ptr<SessionGateway> make_gateway(caf::actor_system& system, GatewayOptions options) {
  return std::make_unique<HostedGateway>(system, std::move(options));
}

void configure(caf::actor_system_config& config) {
  config.set("scheduler.max-throughput", 100);
  // Messages come from threads outside (HTTP, log, curl): a shared queue wakes a worker at once, where a work-stealing
  // worker sleeps up to 10 ms.
  config.set("scheduler.policy", caf::atom("sharing"));
}

}  // namespace onboarding::session

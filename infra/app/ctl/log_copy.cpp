// log copy: an installation's log and keys from one kind of log into another. The copy has the same id, sequences, versions and record
// ids, so that read models, cursors and sessions go on; it is a prefix of the source at every moment, so that a run that was cut off goes on.
#include <condition_variable>
#include <filesystem>
#include <future>
#include <iostream>
#include <mutex>

#include "events/log/sqlite/sqlite_log.hpp"
#include "events/log/sqlite/writer_lock.hpp"
#include "events/privacy/copy_keys.hpp"
#include "events/privacy/secrets.hpp"
#include "infra/app/config/kafka_settings.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/progress.hpp"

namespace onboarding::app {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t page_records = 512, page_bytes = 4 << 20;
constexpr std::size_t most_under_way = 4096, most_bytes_under_way = 32 << 20;  // below what a log refuses

/// Draws the log's id first, so that a log that is made has it, then as the system's.
class GivenLogId final : public RandomSource {
 public:
  explicit GivenLogId(const std::string& hex) {
    for (std::size_t i = 0; i < id_.size(); ++i) id_[i] = static_cast<std::uint8_t>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
  }
  void fill(std::span<std::uint8_t> bytes) override {
    if (bytes.size() == id_.size() && !drawn_.exchange(true)) std::ranges::copy(id_, bytes.begin());
    else system_random().fill(bytes);
  }

 private:
  std::array<std::uint8_t, 16> id_{};
  std::atomic<bool> drawn_{false};
};

/// A partition's records, one after the other.
class Walk {
 public:
  Walk(log::EventLog& log, std::uint32_t partition, std::uint64_t after) : log_(log), partition_(partition), after_(after) {}
  /// nullptr at the end.
  result<const log::Record*> next() {
    if (at_ == page_.size()) {
      auto read = log_.read_partition(partition_, after_, page_records, page_bytes);
      if (!read) return tl::unexpected(read.error());
      page_ = std::move(*read);
      at_ = 0;
      if (page_.empty()) return nullptr;
    }
    after_ = page_[at_].last_sequence();
    return &page_[at_++];
  }

 private:
  log::EventLog& log_;
  const std::uint32_t partition_;
  std::uint64_t after_;
  std::vector<log::Record> page_;
  std::size_t at_ = 0;
};

bool same(const log::Record& a, const log::Record& b) {
  return a.first_sequence == b.first_sequence && a.stream == b.stream && a.first_version == b.first_version &&
         a.count == b.count && a.record_id == b.record_id && a.index == b.index && a.time == b.time && a.payload == b.payload;
}

std::uint64_t events_in(const log::EventLog& log) {
  std::uint64_t events = 0;
  for (std::uint32_t p = 0; p < log.partitions(); ++p) events += log.head(p);
  return events;
}

/// Every record of `copy` stands at the same place in `source`. How many there are.
result<std::uint64_t> compare(log::EventLog& source, log::EventLog& copy, const char* unit) {
  Progress progress(unit, 0);
  const std::uint64_t of = events_in(copy);
  std::uint64_t records = 0, events = 0;
  for (std::uint32_t p = 0; p < source.partitions(); ++p) {
    Walk original(source, p, 0), copied(copy, p, 0);
    for (;;) {
      const auto theirs = copied.next();
      if (!theirs) return tl::unexpected(theirs.error());
      if (*theirs == nullptr) break;
      const auto ours = original.next();
      if (!ours) return tl::unexpected(ours.error());
      if (*ours == nullptr || !same(**ours, **theirs))
        return failure(Errc::wrong_use, "the target has events that the source does not have, at " +
                                            to_string(Position{p, (*theirs)->first_sequence}) +
                                            ": it is not a copy of it, or has gone on by itself");
      ++records;
      progress.show(events += (*theirs)->count, of);
    }
  }
  return records;
}

/// Appends what is missing, each partition in order. Nothing is sent after the first that was not taken, so that the target stays a prefix.
result<void> append_missing(log::EventLog& source, log::EventLog& target) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t under_way = 0, bytes = 0;
    std::uint64_t events = 0;
    std::optional<Failure> failed;
  };
  const auto shared = std::make_shared<Shared>();
  shared->events = events_in(target);
  const std::uint64_t of = events_in(source);
  Progress progress("events", shared->events);
  const auto wait_until = [&](std::size_t records, std::size_t bytes) {
    std::unique_lock lock(shared->mutex);
    while (shared->under_way > records || shared->bytes > bytes) {
      shared->changed.wait_for(lock, std::chrono::milliseconds(200));
      progress.show(shared->events, of);
    }
    return !shared->failed;
  };
  for (std::uint32_t p = 0; p < source.partitions(); ++p) {
    Walk walk(source, p, target.head(p));
    for (;;) {
      const auto record = walk.next();
      if (!record) return tl::unexpected(record.error());
      if (*record == nullptr || !wait_until(most_under_way, most_bytes_under_way)) break;
      log::Append append{p,
                         (*record)->stream,
                         (*record)->first_version - 1,
                         (*record)->record_id,
                         (*record)->count,
                         (*record)->index,
                         (*record)->time,
                         (*record)->payload};
      {
        const std::lock_guard lock(shared->mutex);
        ++shared->under_way;
        shared->bytes += append.payload.size();
      }
      target.append(std::move(append), [shared, size = (*record)->payload.size(), sequence = (*record)->first_sequence,
                                        count = (*record)->count](log::AppendOutcome outcome) {
        const std::lock_guard lock(shared->mutex);
        --shared->under_way;
        shared->bytes -= size;
        if (const auto* durable = std::get_if<log::Durable>(&outcome); durable && durable->first.sequence == sequence)
          shared->events += count;
        else if (!shared->failed) {
          const auto* refused = std::get_if<log::Refused>(&outcome);
          const auto* in_doubt = std::get_if<log::InDoubt>(&outcome);
          shared->failed = refused    ? refused->error
                           : in_doubt ? in_doubt->error
                                      : Failure{make_error_code(Errc::wrong_use), "somebody else writes to the target"};
        }
        shared->changed.notify_one();
      });
    }
  }
  wait_until(0, 0);
  progress.done();
  if (shared->failed) return failure(shared->failed->code, shared->failed->detail + "; the same command goes on from here");
  return {};
}

result<void> claim_all(log::KafkaLog& kafka) {
  for (std::uint32_t p = 0; p < kafka.partitions(); ++p) {
    auto claimed = std::make_shared<std::promise<result<void>>>();
    auto answer = claimed->get_future();
    kafka.claim(p, [claimed](result<void> how) { claimed->set_value(std::move(how)); });
    if (auto how = answer.get(); !how) return how;
  }
  return {};
}

struct Installation {
  Configuration configuration;
  fs::path data, embedded, cache, keys;
  privacy::Secrets secrets;
};

result<Installation> look(const Context& context) {
  const fs::path data = context.data();
  if (const auto running = read_running(data))
    return failure(Errc::wrong_use, "a server runs in " + data.string() + " (pid " + std::to_string(running->pid) +
                                        "): stop it first (infra/stop), what it writes meanwhile would be missing");
  auto configuration = load_configuration(data, context.config_flag, context.set_flags);
  if (!configuration) return tl::unexpected(configuration.error());
  std::error_code ignored;
  if (!fs::exists(data / "master.key", ignored))
    return failure(Errc::not_found,
                   (data / "master.key").string() +
                       " is missing: --data-dir names the folder of the installation; without it no copy could be read");
  auto secrets = privacy::Secrets::load_or_create(data);
  if (!secrets) return tl::unexpected(secrets.error());
  const fs::path folder = log_file(*configuration, data).parent_path();
  return Installation{std::move(*configuration), data, folder / "events.db", folder / "kafka-cache.db", data / "keys.db",
                      std::move(*secrets)};
}

result<std::unique_ptr<log::KafkaLog>> open_kafka(const Installation& at, std::uint32_t partitions, RandomSource& random,
                                                  bool create) {
  auto settings = kafka_settings(at.configuration, at.cache);
  if (!settings) return tl::unexpected(settings.error());
  settings->partitions = partitions;
  settings->own_everything = false;
  settings->create_topic = settings->create_topic && create;
  settings->stalled_after = std::chrono::hours(1);  // a broker that is away is waited for
  settings->random = &random;
  settings->on_note = [](const std::string& what) { note("Kafka: " + what); };
  return log::KafkaLog::open(std::move(*settings));
}

result<std::unique_ptr<privacy::KafkaKeyStore>> open_keys(const Installation& at, log::KafkaLog& log, bool create) {
  auto of_log = kafka_settings(at.configuration, at.cache);
  if (!of_log) return tl::unexpected(of_log.error());
  of_log->partitions = log.partitions();
  of_log->create_topic = of_log->create_topic && create;
  auto settings = kafka_key_settings(*of_log, at.keys);
  settings.on_note = [](const std::string& what) { note("Kafka: " + what); };
  return privacy::KafkaKeyStore::open(std::move(settings), at.secrets.wrapping_key(), log, [](std::uint32_t) { return true; });
}

/// All that both ways have in common, once both logs are open.
result<std::uint64_t> copy_and_verify(log::EventLog& source, log::EventLog& target, const std::function<result<void>()>& claim) {
  if (target.log_id() != source.log_id())
    return failure(Errc::wrong_use, "the target holds another log (" + target.log_id() + ", the source is " + source.log_id() +
                                        "): name an empty one");
  if (events_in(target) > 0) {
    note("going on with a copy that has " + std::to_string(events_in(target)) + " of " + std::to_string(events_in(source)) +
         " events");
    if (auto prefix = compare(source, target, "events compared"); !prefix) return prefix;
  }
  if (auto claimed = claim(); !claimed) return tl::unexpected(claimed.error());
  if (auto done = append_missing(source, target); !done) return tl::unexpected(done.error());
  auto records = compare(source, target, "events compared");
  if (records && events_in(target) != events_in(source)) return failure(Errc::damaged, "the target is shorter than the source");
  return records;
}

void say_done(const log::EventLog& log, std::uint64_t records) {
  std::cout << records << " records, " << events_in(log) << " events in " << log.partitions()
            << " partitions copied and compared; log " << log.log_id() << '\n';
}

int to_kafka(const Context& context) {
  const auto at = look(context);
  if (!at) return complain(at.error());
  std::error_code ignored;
  if (!fs::exists(at->embedded, ignored)) return complain({Errc::not_found, "no embedded log at " + at->embedded.string()});
  const auto lock = log::WriterLock::take(at->embedded.string() + ".lock");
  if (!lock) return complain(lock.error());
  Progress checking("records checked", 0);
  const auto report =
      log::verify_sqlite(at->embedded.string(), [&](std::uint64_t done, std::uint64_t of) { checking.show(done, of); });
  checking.done();
  if (!report) return complain(report.error());
  auto source = log::open_sqlite_reader(at->embedded.string());
  if (!source) return complain(source.error());
  GivenLogId random((*source)->log_id());
  auto target = open_kafka(*at, (*source)->partitions(), random, true);
  if (!target) return complain(target.error());
  const auto records = copy_and_verify(**source, **target, [&] { return claim_all(**target); });
  if (!records) return complain(records.error());
  // The keys last: until then the embedded log can go on as if nothing had been tried.
  if (auto keys = open_keys(*at, **target, true); !keys) return complain(keys.error());
  (*target)->close();
  say_done(**source, *records);
  note("The users' keys are in the topic " + at->configuration.text("log.topic") + "-keys; " + at->keys.string() +
       " is a copy of it now, and the embedded log is not served any more.\nSet log.kind = \"kafka\" and start the server. " +
       at->embedded.string() + " is not needed any more: keep it until you are content.");
  return exit_good;
}

int to_sqlite(const Context& context, bool stopped) {
  const auto at = look(context);
  if (!at) return complain(at.error());
  std::error_code error;
  if (fs::exists(at->embedded, error))
    return complain({Errc::wrong_use, at->embedded.string() + " is there: a copy overwrites nothing. Move it and its .head away "
                                                              "(it may be what this log was copied from)"});
  auto source = open_kafka(*at, static_cast<std::uint32_t>(at->configuration.integer("log.partitions")), system_random(), false);
  if (!source) return complain(source.error());
  for (std::uint32_t p = 0; p < (*source)->partitions() && !stopped; ++p)
    if ((*source)->claimed(p))
      return complain(
          {Errc::wrong_use,
           "a server has partition " + std::to_string(p) +
               " of the log in Kafka: it runs, or it was killed. Stop all servers with SIGTERM (start and stop one that was "
               "killed); --servers-are-stopped if you are sure"});
  // From here on a server that runs all the same is replaced, and ends: nothing is written while it is copied.
  if (auto claimed = claim_all(**source); !claimed) return complain(claimed.error());
  const fs::path part = at->embedded.string() + ".copying", part_head = part.string() + ".head",
                 head = at->embedded.string() + ".head";
  if (fs::exists(part, error) && !fs::exists(part_head, error))
    fs::rename(head, part_head, error);  // cut off between the two renames
  GivenLogId random((*source)->log_id());
  log::SqliteOptions options;
  options.path = part.string();
  options.partitions = (*source)->partitions();
  options.random = &random;
  auto target = log::SqliteLog::open(std::move(options));
  if (!target) return complain(target.error());
  const auto records = copy_and_verify(**source, **target, [] { return result<void>(); });
  if (!records) return complain(records.error());
  if ((*source)->replaced()) return complain({Errc::wrong_use, "a server has taken the log in Kafka: stop it, and begin again"});
  (*target)->close();
  target->reset();
  Progress checking("records checked", 0);
  const auto report = log::verify_sqlite(part.string(), [&](std::uint64_t done, std::uint64_t of) { checking.show(done, of); });
  checking.done();
  if (!report) return complain(report.error());
  {
    auto keys = open_keys(*at, **source, false);
    if (!keys) return complain(keys.error());
  }
  const std::string topic = at->configuration.text("log.topic");
  if (auto made = privacy::keys_from_copy(at->keys, topic + "-keys", at->secrets.wrapping_key()); !made)
    return complain(made.error());
  (*source)->close();
  fs::rename(part_head, head, error);
  if (!error) fs::rename(part, at->embedded, error);
  if (error) return complain({Errc::bad_data_folder, at->embedded.string() + ": " + error.message()});
  for (const char* end : {"-wal", "-shm", ".lock"}) fs::remove(part.string() + end, error);
  auto made = log::open_sqlite_reader(at->embedded.string());
  if (!made) return complain(made.error());
  say_done(**made, *records);
  note("Set log.kind = \"sqlite\" and start the server. Then delete the topics " + topic + " and " + topic +
       "-keys: an erasure does not reach them any more, and a server that is started on them would go its own way.");
  return exit_good;
}

}  // namespace

int log_copy(const Context& context, const LogCopyOptions& options) {
  if (options.from == options.to)
    return complain({Errc::wrong_use, "--from and --to name the same kind of log: one is sqlite, the other kafka"});
  note("The same command goes on with a copy that was interrupted.");
  return options.to == "kafka" ? to_kafka(context) : to_sqlite(context, options.servers_are_stopped);
}

}  // namespace onboarding::app

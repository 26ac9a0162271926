// What an append costs, from the call to the acknowledgement, at so many appends waiting at once; and what a start costs.
// Run: log_bench [--benchmark_filter=…]. CPU is the whole process's, so that the writer thread's share counts.
// The Kafka log beside the embedded one where ONBOARD_BENCH_KAFKA_BROKERS names a broker (infra/kafka/broker start FOLDER);
// ONBOARD_BENCH_KAFKA_CLIENT="enable.idempotence=false" gives the client another setting.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <condition_variable>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <random>

#include "events/ids.hpp"
#include "events/log/kafka/client.hpp"
#include "events/log/kafka/kafka_log.hpp"
#include "events/log/sqlite/sqlite_log.hpp"

namespace onboarding::log {
namespace {

constexpr std::uint32_t partitions = 24;
constexpr std::size_t payload_bytes = 600;
constexpr std::uint64_t records_per_session = 25;  // starts, messages, outcomes: about ten turns

double cpu_us() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto us = [](const timeval& time) { return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec); };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "log_bench.XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file() const { return (path / "events.db").string(); }
  std::filesystem::path path;
};

/// Sessions that come and go: each appends until it is over, then another takes its place.
class Sessions {
 public:
  explicit Sessions(std::size_t count) : sessions_(count) {}
  Append next(std::size_t i) {
    Session& session = sessions_[i];
    if (session.version == 0 || session.records == records_per_session) {
      const auto partition = static_cast<std::uint32_t>(random_() % partitions);
      session = {make_session_id(partition, bytes()), partition, 0, 0};
    }
    Append append;
    append.partition = session.partition;
    append.stream = session.stream;
    append.expected_version = session.version;
    append.record_id = bytes();
    append.count = 2 + session.records % 2;
    ++session.records;
    session.version += append.count;
    const bool last = session.records == records_per_session;
    append.time = domain::Timestamp(std::chrono::microseconds(1'700'000'000'000'000 + ++clock_));
    append.index = {!last, session.records % 2 == 1 && !last, append.time + std::chrono::minutes(30)};
    append.payload.assign(payload_bytes, 'x');
    return append;
  }

 private:
  struct Session {
    std::string stream;
    std::uint32_t partition = 0;
    std::uint64_t version = 0, records = 0;
  };
  std::string bytes() {
    std::string text(16, '\0');
    for (char& c : text) c = static_cast<char>(random_());
    return text;
  }
  std::vector<Session> sessions_;
  std::mt19937_64 random_{7};
  std::int64_t clock_ = 0;
};

void append_and_wait(EventLog& log, Sessions& sessions, std::size_t waiting) {
  std::mutex mutex;
  std::condition_variable wake;
  std::size_t left = waiting;
  for (std::size_t i = 0; i < waiting; ++i)
    log.append(sessions.next(i), [&](AppendOutcome outcome) {
      if (!std::holds_alternative<Durable>(outcome)) std::abort();
      const std::lock_guard lock(mutex);
      if (--left == 0) wake.notify_one();
    });
  std::unique_lock lock(mutex);
  wake.wait(lock, [&] { return left == 0; });
}

const char* kafka_brokers() { return std::getenv("ONBOARD_BENCH_KAFKA_BROKERS"); }

KafkaOptions kafka_options(const Folder& folder) {
  KafkaOptions options;
  options.brokers = kafka_brokers();
  options.topic = folder.path.filename().string();
  options.partitions = partitions;
  options.cache = folder.file();
  if (const char* const setting = std::getenv("ONBOARD_BENCH_KAFKA_CLIENT")) {
    const std::string text = setting;
    options.client.emplace_back(text.substr(0, text.find('=')), text.substr(text.find('=') + 1));
  }
  return options;
}

void report(benchmark::State& state, std::vector<double> rounds_ms, double cpu_us_used) {
  const auto records = static_cast<double>(state.iterations() * state.range(0));
  state.counters["cpu_us_per_record"] = cpu_us_used / records;
  state.counters["records_per_s"] = benchmark::Counter(records, benchmark::Counter::kIsRate);
  std::ranges::sort(rounds_ms);
  state.counters["p50_ms"] = rounds_ms[rounds_ms.size() / 2];
  state.counters["p99_ms"] = rounds_ms[rounds_ms.size() * 99 / 100];
  state.counters["p999_ms"] = rounds_ms[rounds_ms.size() * 999 / 1000];
  state.counters["max_ms"] = rounds_ms.back();
}

void appends_to(benchmark::State& state, EventLog& log) {
  const auto waiting = static_cast<std::size_t>(state.range(0));
  Sessions sessions(waiting);
  std::vector<double> rounds_ms;
  const double cpu_before = cpu_us();
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    append_and_wait(log, sessions, waiting);
    rounds_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  report(state, std::move(rounds_ms), cpu_us() - cpu_before);
}

void appends(benchmark::State& state) {
  const Folder folder;
  appends_to(state, *SqliteLog::open({.path = folder.file(), .partitions = partitions}).value());
}
BENCHMARK(appends)->Arg(1)->Arg(32)->Arg(256)->Arg(1000)->UseRealTime()->MinTime(3)->Unit(benchmark::kMillisecond);

void kafka_appends(benchmark::State& state) {
  if (kafka_brokers() == nullptr) return state.SkipWithError("ONBOARD_BENCH_KAFKA_BROKERS is not set");
  const Folder folder;
  appends_to(state, *KafkaLog::open(kafka_options(folder)).value());
}
BENCHMARK(kafka_appends)->Arg(1)->Arg(32)->Arg(256)->Arg(1000)->UseRealTime()->MinTime(3)->Unit(benchmark::kMillisecond);

/// The same messages, until the broker has acknowledged them: what is left of an append without reading it back and keeping it.
void kafka_produces(benchmark::State& state) {
  if (kafka_brokers() == nullptr) return state.SkipWithError("ONBOARD_BENCH_KAFKA_BROKERS is not set");
  const Folder folder;
  KafkaLog::open(kafka_options(folder)).value()->close();  // makes the topic
  auto client = kafka::Client::make(kafka::Client::Side::producer,
                                    {{"bootstrap.servers", kafka_brokers()},
                                     {"enable.idempotence", "true"},
                                     {"acks", "all"},
                                     {"linger.ms", "0"},
                                     {"compression.type", "lz4"},
                                     {"socket.nagle.disable", "true"}},
                                    {})
                    .value();
  rd_kafka_topic_t* const topic = rd_kafka_topic_new(client->handle(), folder.path.filename().c_str(), nullptr);
  const auto waiting = static_cast<std::size_t>(state.range(0));
  Sessions sessions(waiting);
  std::vector<double> rounds_ms;
  const double cpu_before = cpu_us();
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < waiting; ++i) {
      Append append = sessions.next(i);
      kafka::Entry entry;
      entry.record = {append.partition, 1,           append.stream,  1, append.count, append.record_id,
                      append.index,     append.time, append.payload, {}};
      if (kafka::produce(*client, topic, append.partition, kafka::to_message(entry)) != RD_KAFKA_RESP_ERR_NO_ERROR) std::abort();
    }
    if (rd_kafka_flush(client->handle(), 60000) != RD_KAFKA_RESP_ERR_NO_ERROR) std::abort();
    rounds_ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  rd_kafka_topic_destroy(topic);
  report(state, std::move(rounds_ms), cpu_us() - cpu_before);
}
BENCHMARK(kafka_produces)->Arg(1)->Arg(32)->Arg(256)->Arg(1000)->UseRealTime()->MinTime(3)->Unit(benchmark::kMillisecond);

/// Opening a log of 200,000 records without its cache, and with it.
void kafka_start(benchmark::State& state) {
  if (kafka_brokers() == nullptr) return state.SkipWithError("ONBOARD_BENCH_KAFKA_BROKERS is not set");
  const Folder folder;
  constexpr double records = 200'000;
  {
    auto log = KafkaLog::open(kafka_options(folder)).value();
    Sessions sessions(1000);
    for (int i = 0; i < 200; ++i) append_and_wait(*log, sessions, 1000);
  }
  for (auto _ : state) {
    state.PauseTiming();
    if (state.range(0) == 0) std::filesystem::remove(folder.file());
    state.ResumeTiming();
    KafkaLog::open(kafka_options(folder)).value()->close();
  }
  state.counters["records_per_s"] =
      benchmark::Counter(records * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(kafka_start)->Arg(0)->Arg(1)->ArgName("cached")->Iterations(2)->UseRealTime()->Unit(benchmark::kMillisecond);

/// Opening a log of 400,000 records, 1,000,000 events: the whole chain and both indexes are checked.
void start(benchmark::State& state) {
  const Folder folder;
  {
    auto log = SqliteLog::open({.path = folder.file(), .partitions = partitions}).value();
    Sessions sessions(1000);
    for (int i = 0; i < 400; ++i) append_and_wait(*log, sessions, 1000);
  }
  for (auto _ : state) {
    auto log = SqliteLog::open({.path = folder.file(), .partitions = partitions}).value();
    benchmark::DoNotOptimize(log);
    state.PauseTiming();
    log.reset();
    state.ResumeTiming();
  }
  state.counters["file_mb"] = static_cast<double>(std::filesystem::file_size(folder.file())) / 1e6;
}
BENCHMARK(start)->Iterations(3)->UseRealTime()->Unit(benchmark::kMillisecond);

void read_partitions(benchmark::State& state) {
  const Folder folder;
  auto log = SqliteLog::open({.path = folder.file(), .partitions = partitions}).value();
  Sessions sessions(1000);
  for (int i = 0; i < 50; ++i) append_and_wait(*log, sessions, 1000);
  std::int64_t records = 0;
  for (auto _ : state)
    for (std::uint32_t partition = 0; partition < partitions; ++partition)
      for (std::uint64_t after = 0; after < log->head(partition);) {
        const auto batch = log->read_partition(partition, after, 1000, 1 << 22).value();
        after = batch.back().last_sequence();
        records += static_cast<std::int64_t>(batch.size());
      }
  state.counters["records_per_s"] = benchmark::Counter(static_cast<double>(records), benchmark::Counter::kIsRate);
}
BENCHMARK(read_partitions)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace onboarding::log

BENCHMARK_MAIN();

// What a call costs the HTTP client itself: N calls always in flight against bench_provider (which takes its time), each
// submitted anew by another thread when its answer is there. CPU of this process without the submitting thread, by call.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

#include "actors/model/providers/curl_loop.hpp"

namespace {

using namespace onboarding::model;
using Steady = std::chrono::steady_clock;

double cpu_seconds(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// As long as a prompt of ours; ends in what the bench's model looks for.
std::string body() {
  return R"({"model":"bench","messages":[{"role":"developer","content":")" + std::string(4'000, 'x') +
         R"("},{"role":"user","content":"hello"}]})";
}

struct Returned {
  std::mutex mutex;
  std::condition_variable some;
  long calls = 0, failures = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: bench_curl_loop PORT IN_FLIGHT SECONDS\n", stderr), 2;
  const std::string url = "http://127.0.0.1:" + std::string(argv[1]) + "/v1/chat/completions";
  const long in_flight = std::atol(argv[2]), seconds = std::atol(argv[3]);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);

  Returned returned;
  CurlLoop loop;
  const auto submit = [&] {
    HttpCall call;
    call.url = url;
    call.headers = {"Content-Type: application/json", "Authorization: Bearer sk-bench"};
    call.body = body();
    loop.submit(std::move(call), [&returned](HttpReply reply) {
      std::lock_guard lock(returned.mutex);
      returned.failures += reply.transport != Transport::ok || reply.status != 200;
      if (returned.calls++ == 0) returned.some.notify_one();
    });
  };
  for (long i = 0; i < in_flight; ++i) submit();
  const auto began = Steady::now();
  const auto measured_from = began + std::chrono::seconds(2), ends = measured_from + std::chrono::seconds(seconds);
  const auto spent = [] { return cpu_seconds(RUSAGE_SELF) - cpu_seconds(RUSAGE_THREAD); };
  enum { warming_up, measuring, ending } phase = warming_up;
  long open = in_flight, calls = 0;
  double cpu = 0;
  while (open > 0) {
    long done = 0;
    {
      std::unique_lock lock(returned.mutex);
      returned.some.wait(lock, [&] { return returned.calls > 0; });
      done = std::exchange(returned.calls, 0);
    }
    open -= done;
    const auto now = Steady::now();
    if (phase == measuring) calls += done;
    if (phase == warming_up && now >= measured_from) phase = measuring, cpu = spent();
    if (phase == measuring && now >= ends) phase = ending, cpu = spent() - cpu;
    for (; phase != ending && open < in_flight; ++open) submit();
  }
  std::printf("%ld in flight: %.0f calls/s, %.1f us CPU a call, %ld failures\n", in_flight,
              static_cast<double>(calls) / static_cast<double>(seconds), cpu * 1e6 / static_cast<double>(std::max(1L, calls)),
              returned.failures);
  return returned.failures ? 1 : 0;
}

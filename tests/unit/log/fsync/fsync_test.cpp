// A sync that the kernel reports as failed, for real: strace makes the system call answer EIO in a process that appends.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/unit/log/scratch.hpp"

namespace onboarding::log {
namespace {

TEST(FailedSync, the_process_acknowledges_nothing_more_and_ends_with_status_70) {
  const Scratch scratch;
  int ledger[2], go[2];
  ASSERT_EQ(::pipe(ledger), 0);
  ASSERT_EQ(::pipe(go), 0);
  const pid_t writer = ::fork();
  if (writer == 0) {
    auto log = SqliteLog::open({.path = scratch.path(), .partitions = 1}).value();
    const auto append = [&](std::uint64_t version) {
      const char outcome = static_cast<char>('0' + append_now(*log, make_append("a", version)).index());
      if (::write(ledger[1], &outcome, 1) != 1) ::_exit(1);
    };
    append(0);
    char told;
    if (::read(go[0], &told, 1) != 1) ::_exit(1);
    for (std::uint64_t version = 1; version < 1000; ++version) append(version);
    ::_exit(2);
  }
  ::close(ledger[1]);
  char outcome = 0;
  ASSERT_EQ(::read(ledger[0], &outcome, 1), 1);
  ASSERT_EQ(outcome, '0') << "durable before the fault";

  const pid_t tracer = ::fork();
  if (tracer == 0) {
    ::freopen(scratch.path("strace.txt").c_str(), "w", stderr);
    ::execlp("strace", "strace", "-f", "-p", std::to_string(writer).c_str(), "-e", "trace=fdatasync,fsync", "-e",
             "inject=fdatasync,fsync:error=EIO", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  const auto notes = [&] { return slurp(scratch.path("strace.txt")); };
  const auto ended = [&] {
    int status;
    return ::waitpid(tracer, &status, WNOHANG) == tracer;
  };
  const bool attached = eventually([&] { return notes().find("attached") != std::string::npos || ended(); }) &&
                        notes().find("attached") != std::string::npos;
  if (!attached) ::kill(writer, SIGKILL);
  ASSERT_TRUE(attached) << "strace cannot attach here, so nothing was tested: " << notes();

  ASSERT_EQ(::write(go[1], "g", 1), 1);
  std::string outcomes;
  while (::read(ledger[0], &outcome, 1) == 1) outcomes += outcome;
  int status = 0;
  ASSERT_EQ(::waitpid(writer, &status, 0), writer);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 70) << status;
  EXPECT_EQ(outcomes.find('0'), std::string::npos) << "acknowledged after a failed sync: " << outcomes;
  ::waitpid(tracer, &status, 0);

  const auto log = SqliteLog::open({.path = scratch.path(), .partitions = 1});
  ASSERT_TRUE(log) << log.error().message();
  EXPECT_GE((*log)->head(0), 1u);
}

}  // namespace
}  // namespace onboarding::log

// Brokers for tests: the shared one, and own ones that are killed and frozen; what was noted; waiting for something.
#pragma once

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

namespace onboarding {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

inline constexpr auto patience = std::chrono::seconds(60);
inline std::string output_of(const std::string& command) {
  std::string text;
  FILE* const pipe = ::popen(command.c_str(), "r");
  char piece[256];
  while (const std::size_t got = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, got);
  if (::pclose(pipe) != 0) throw std::runtime_error(command + " failed");
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "kafka_log.XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

/// A broker of this test's own.
class Broker {
 public:
  explicit Broker(const std::string& options = "") {
    start(options);
    brokers = output_of("infra/kafka/broker brokers " + where());
  }
  ~Broker() {
    // Nodes that end in order wait for one another, and nobody needs what they have.
    const std::string broker = "infra/kafka/broker ";
    std::system(("for node in 1 2 3; do pid=$(" + broker + "pid " + where() + " $node 2>/dev/null) && kill -KILL $pid; done; " +
                 broker + "stop " + where())
                    .c_str());
  }
  void start(const std::string& options = "") { output_of("infra/kafka/broker start " + where() + " --throw-away " + options); }
  void kill(int node = 1) { signal_it(SIGKILL, node); }
  void freeze(int node = 1) { signal_it(SIGSTOP, node); }
  void thaw(int node = 1) { signal_it(SIGCONT, node); }
  /// Whether any of its files holds the bytes.
  bool holds(const std::string& bytes) const {
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path / "kafka")) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string all{std::istreambuf_iterator<char>(in), {}};
      if (all.find(bytes) != std::string::npos) return true;
    }
    return false;
  }
  std::string authority() const { return where() + "/ca.pem"; }  // of one started with --tls
  std::string brokers;

 private:
  std::string where() const { return (folder_.path / "kafka").string(); }
  void signal_it(int signal, int node) {
    std::ifstream in(folder_.path / "kafka" / ("node-" + std::to_string(node)) / "pid");
    pid_t pid = 0;
    if (in >> pid) ::kill(pid, signal);
  }
  Folder folder_;
};

inline std::string shared_broker() {
  const char* const brokers = std::getenv("ONBOARD_TEST_KAFKA_BROKERS");
  if (brokers == nullptr) throw std::runtime_error("ONBOARD_TEST_KAFKA_BROKERS is not set: infra/test starts a broker");
  return brokers;
}

class Notes {
 public:
  std::function<void(const std::string&)> taker() {
    return [this](const std::string& note) {
      const std::lock_guard lock(mutex_);
      all_ += note + "\n";
    };
  }
  std::string all() const {
    const std::lock_guard lock(mutex_);
    return all_;
  }

 private:
  mutable std::mutex mutex_;
  std::string all_;
};

template <class Condition>
bool comes_true(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return true;
}

}  // namespace onboarding

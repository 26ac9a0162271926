// user …: what is known of a person, and forgetting them, over the running server's public listener with the operator's key.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>

#include "infra/app/ctl/admin_client.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/progress.hpp"

namespace onboarding::app {
namespace {

constexpr std::chrono::minutes patience{10};  // an erasure tells session after session

std::string path_of(const std::string& user_id) { return "/api/users/" + escaped(user_id); }

/// The file only gets its name once it is whole.
class Download {
 public:
  explicit Download(std::string file) : file_(std::move(file)) {
    if (!file_.empty()) fd_ = ::open(part().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  }
  ~Download() {
    if (file_.empty() || fd_ < 0) return;
    ::close(fd_);
    if (!whole_) ::unlink(part().c_str());
  }
  bool opened() const { return fd_ >= 0; }
  bool write(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(written));
      size_ += static_cast<std::uint64_t>(written);
    }
    return true;
  }
  bool finish() {
    whole_ = file_.empty() || (::fsync(fd_) == 0 && ::rename(part().c_str(), file_.c_str()) == 0);
    return whole_;
  }
  std::uint64_t size() const { return size_; }

 private:
  std::string part() const { return file_ + ".part"; }
  const std::string file_;
  int fd_ = STDOUT_FILENO;
  std::uint64_t size_ = 0;
  bool whole_ = false;
};

std::string why() { return std::error_code(errno, std::generic_category()).message(); }

int nobody(const std::string& user_id) { return complain({Errc::not_found, "nobody is known by the user id " + user_id}); }

}  // namespace

int user_export(const Context& context, const std::string& user_id, const std::string& output) {
  const auto listener = admin::listener_of(context, "http.listen");
  if (!listener) return complain(listener.error());
  Download download(output);
  if (!download.opened()) return complain({Errc::bad_data_folder, output + ".part: " + why()});
  Progress progress("bytes", 0);
  bool writable = true;
  HttpClient client;
  const auto answer =
      client.download(listener->url + path_of(user_id) + "/export", {listener->authorization}, [&](std::string_view bytes) {
        writable = download.write(bytes);
        if (!output.empty()) progress.show(download.size(), 0);
        return writable;
      });
  progress.done();
  if (!writable) return complain({Errc::bad_data_folder, "cannot write: " + why()});
  if (answer && answer->status == 404) return nobody(user_id);
  if (!answer || answer->status != 200) return admin::finish(answer, false, [](const rapidjson::Value&) {});
  if (!download.finish()) return complain({Errc::bad_data_folder, output + ": " + why()});
  if (output.empty()) std::cout << std::endl;
  note(std::to_string(download.size()) + " bytes" + (output.empty() ? "" : " in " + output));
  return exit_good;
}

int user_erase(const Context& context, const std::string& user_id, bool yes, bool json) {
  const auto listener = admin::listener_of(context, "http.listen");
  if (!listener) return complain(listener.error());
  if (!yes) {
    note("this forgets everybody who ever went by the user id " + user_id +
         ": each of their sessions ends, and what they said can be read nowhere any more, in no copy of the log. Only a back-up "
         "that holds "
         "their keys brings it back.\nFirst look, or keep a copy: onboardctl user export " +
         user_id + ". With --yes it is done.");
    return exit_wrong_use;
  }
  note("every session of " + user_id + " is told, then the keys go …");
  HttpClient client;
  auto answer = client.send(listener->url + path_of(user_id), {listener->authorization}, {}, patience, "DELETE");
  if (answer && answer->status == 404) return nobody(user_id);
  if (!answer || answer->status == 503)
    note("the server finishes what it has begun, also after a restart; the same command again tells when nothing is left");
  return admin::finish(answer, json, [](const rapidjson::Value& done) {
    std::cout << "erased: " << admin::number(done, "sessions") << " sessions were told, and no key is left\n";
  });
}

}  // namespace onboarding::app

#include "events/privacy/secret_file.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "events/fault_point.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {
namespace {

FaultPoint before_link("secrets.before_link");
FaultPoint after_link("secrets.after_link");

constexpr std::size_t max_secret_bytes = 4096;

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

tl::unexpected<Failure> refused(const std::filesystem::path& file, const std::string& why) {
  return failure(Errc::bad_secret_file, file.filename().string() + " " + why);
}
std::string last_error() { return std::generic_category().message(errno); }

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

result<std::string> read_secret(const std::filesystem::path& file) {
  const Descriptor in{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (in.fd < 0) return refused(file, "cannot be opened: " + last_error());
  struct stat status {};
  if (::fstat(in.fd, &status) != 0 || !S_ISREG(status.st_mode)) return refused(file, "is not a plain file");
  if (status.st_uid != ::geteuid()) return refused(file, "belongs to another user");
  if ((status.st_mode & 077) != 0) return refused(file, "may be read by others: its mode must be 0600");
  std::string text(max_secret_bytes, '\0');
  const auto size = ::read(in.fd, text.data(), text.size());
  if (size < 0) return refused(file, "cannot be read: " + last_error());
  text.resize(static_cast<std::size_t>(size));
  if (text.ends_with('\n')) text.pop_back();
  if (text.empty()) return refused(file, "is empty");
  return text;
}

/// A complete file beside it first, then the name: link() fails where rename() would replace what another process made.
result<void> create_secret(const std::filesystem::path& file, const std::string& line) {
  std::string draft = file.string() + ".XXXXXX";
  const Descriptor out{::mkostemp(draft.data(), O_CLOEXEC)};  // mode 0600
  if (out.fd < 0) return refused(file, "cannot be made: " + last_error());
  const bool whole = write_all(out.fd, line) && write_all(out.fd, "\n") && ::fsync(out.fd) == 0 && !before_link.hit();
  const bool named = whole && (::link(draft.c_str(), file.c_str()) == 0 || errno == EEXIST);
  const std::string why = named ? std::string() : last_error();
  ::unlink(draft.c_str());
  if (!named) return refused(file, "cannot be made: " + why);
  if (after_link.hit()) return refused(file, "cannot be made durable");
  return sync_folder(file.parent_path());
}

}  // namespace

result<void> sync_folder(const std::filesystem::path& folder) {
  const Descriptor entries{::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (entries.fd < 0 || ::fsync(entries.fd) != 0) return refused(folder, "cannot be flushed: " + last_error());
  return {};
}

result<std::string> load_or_create_secret(const std::filesystem::path& file, std::string (*make)()) {
  std::error_code error;
  if (!file.parent_path().empty()) std::filesystem::create_directories(file.parent_path(), error);
  if (error) return refused(file, "has no folder: " + error.message());
  struct stat status {};
  if (::lstat(file.c_str(), &status) != 0 && errno == ENOENT) {
    auto line = make();
    auto created = create_secret(file, line);
    sodium_memzero(line.data(), line.size());
    if (!created) return tl::unexpected(created.error());
  }
  return read_secret(file);
}

}  // namespace onboarding::privacy

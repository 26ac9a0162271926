#include "events/log/sqlite/writer_lock.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace onboarding::log {

result<WriterLock> WriterLock::take(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return failure(Errc::unreadable, path + ": " + std::generic_category().message(errno));
  WriterLock lock(descriptor);
  // An open-file-description lock: unlike a plain one it also holds off a second log of this process, and does not fall
  // when some other descriptor of the file is closed.
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(descriptor, F_OFD_SETLK, &whole) != 0) {
    if (errno != EAGAIN && errno != EACCES)
      return failure(Errc::unreadable, path + ": " + std::generic_category().message(errno));
    char text[32] = {};
    const ssize_t got = ::pread(descriptor, text, sizeof text - 1, 0);
    std::string holder(text, got > 0 ? static_cast<std::size_t>(got) : 0);
    while (!holder.empty() && holder.back() == '\n') holder.pop_back();
    return failure(Errc::locked, "process " + (holder.empty() ? std::string("unknown") : holder) + " holds " + path);
  }
  const std::string self = std::to_string(::getpid()) + '\n';
  if (::ftruncate(descriptor, 0) != 0 || ::pwrite(descriptor, self.data(), self.size(), 0) != static_cast<ssize_t>(self.size())) {
    // The lock holds all the same; only its sentence is poorer (a full disk must not keep a server from starting).
  }
  return lock;
}

WriterLock::~WriterLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace onboarding::log

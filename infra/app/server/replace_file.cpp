#include "infra/app/server/replace_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "infra/app/config/config.hpp"

namespace onboarding::app {

result<void> replace_file(const std::filesystem::path& file, const std::string& content) {
  const auto wrong = [&] {
    return failure(Errc::bad_data_folder, file.string() + ": " + std::error_code(errno, std::generic_category()).message());
  };
  const auto fresh = file.string() + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return wrong();
  const bool written = ::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()) && ::fsync(fd) == 0;
  ::close(fd);
  if (!written || ::rename(fresh.c_str(), file.c_str()) != 0) return wrong();
  const int folder = ::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return wrong();
  const bool durable = ::fsync(folder) == 0;
  ::close(folder);
  return durable ? result<void>{} : wrong();
}

}  // namespace onboarding::app

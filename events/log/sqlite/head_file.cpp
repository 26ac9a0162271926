#include "events/log/sqlite/head_file.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "events/fault_point.hpp"

namespace onboarding::log {
namespace {

FaultPoint while_head_is_made{"log.while_head_is_made"};

constexpr std::string_view magic = "OBLOGHD1";
using Bytes =
    std::array<unsigned char, 64>;  // magic 8, log id 16, number 8 (little-endian), checksum 16, BLAKE2b-128 of these 48

Failure system_failure(const std::string& path, const char* doing) {
  return {Errc::unreadable, path + ": " + doing + ": " + std::generic_category().message(errno)};
}

void seal(Bytes& bytes) { crypto_generichash(bytes.data() + 48, 16, bytes.data(), 48, nullptr, 0); }

}  // namespace

result<HeadFile::Read> HeadFile::read(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 && errno == ENOENT) return Read{};
  if (descriptor < 0) return tl::unexpected(system_failure(path, "open"));
  Bytes bytes{};
  const ssize_t got = ::pread(descriptor, bytes.data(), bytes.size(), 0);
  if (got < 0) {
    auto failed = system_failure(path, "read");
    ::close(descriptor);
    return tl::unexpected(std::move(failed));
  }
  ::close(descriptor);
  if (got == 0) return Read{};  // no version of this file was ever empty and whole
  Bytes sealed = bytes;
  seal(sealed);
  Read read{State::damaged, {}};
  if (got != static_cast<ssize_t>(bytes.size()) || std::memcmp(bytes.data(), magic.data(), 8) != 0 || sealed != bytes)
    return read;
  char hex[33];
  sodium_bin2hex(hex, sizeof hex, bytes.data() + 8, 16);
  read.state = State::present;
  read.head.log_id = hex;
  std::memcpy(&read.head.number, bytes.data() + 24, 8);
  std::memcpy(read.head.checksum.data(), bytes.data() + 32, 16);
  return read;
}

result<HeadFile> HeadFile::open(const std::string& path, const Head& first) {
  std::error_code ignored;
  const bool there = std::filesystem::file_size(path, ignored) > 0 && !ignored;
  const std::string name = there ? path : path + ".new";
  const int descriptor = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return tl::unexpected(system_failure(name, "open"));
  HeadFile file(path, descriptor);
  if (there) return file;
  if (auto made = file.write(first).and_then([&] { return file.sync(); }); !made) return tl::unexpected(made.error());
  while_head_is_made.hit();
  if (std::rename(name.c_str(), path.c_str()) != 0) return tl::unexpected(system_failure(path, "rename"));
  const auto folder = std::filesystem::path(path).parent_path();
  const int folder_descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = folder_descriptor >= 0 && ::fsync(folder_descriptor) == 0;
  if (folder_descriptor >= 0) ::close(folder_descriptor);
  if (!synced) return tl::unexpected(system_failure(path, "sync its folder"));
  return file;
}

HeadFile::~HeadFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

result<void> HeadFile::write(const Head& head) {
  Bytes bytes{};
  std::memcpy(bytes.data(), magic.data(), 8);
  sodium_hex2bin(bytes.data() + 8, 16, head.log_id.data(), head.log_id.size(), nullptr, nullptr, nullptr);
  std::memcpy(bytes.data() + 24, &head.number, 8);
  std::memcpy(bytes.data() + 32, head.checksum.data(), 16);
  seal(bytes);
  if (::pwrite(descriptor_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return tl::unexpected(system_failure(path_, "write"));
  return {};
}

result<void> HeadFile::sync() {
  if (::fdatasync(descriptor_) != 0) return tl::unexpected(system_failure(path_, "sync"));
  return {};
}

}  // namespace onboarding::log

// archive: old rows of the read models into compressed files, and out of the tables.
#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>
#include <zstd.h>

#include <filesystem>
#include <iostream>

#include "events/clock.hpp"
#include "events/codec/json.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/progress.hpp"
#include "projections/postgres/archive.hpp"

namespace onboarding::app {
namespace {

constexpr int fewest_days = 7;  // younger rows may still change

/// "90d", "12w", "2y"; nullopt: none of these.
std::optional<std::chrono::days> parse_age(const std::string& text) {
  if (text.size() < 2 || text.size() > 6 || text.find_first_not_of("0123456789") != text.size() - 1) return std::nullopt;
  const int number = std::stoi(text);
  switch (text.back()) {
    case 'd': return std::chrono::days(number);
    case 'w': return std::chrono::days(number * 7);
    case 'y': return std::chrono::days(number * 365);
    default: return std::nullopt;
  }
}

/// NDJSON in zstd frames, one a batch, on the disk before a batch counts.
class ArchiveFile {
 public:
  explicit ArchiveFile(std::filesystem::path path) : path_(std::move(path)) {}
  ~ArchiveFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  result<void> add(std::string_view lines) {
    if (fd_ < 0) fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    std::string frame(ZSTD_compressBound(lines.size()), '\0');
    const auto size = ZSTD_compress(frame.data(), frame.size(), lines.data(), lines.size(), 9);
    if (ZSTD_isError(size))
      return failure(std::make_error_code(std::errc::io_error), std::string("zstd: ") + ZSTD_getErrorName(size));
    frame.resize(size);
    for (std::string_view rest = frame; fd_ >= 0 && !rest.empty();) {
      const auto written = ::write(fd_, rest.data(), rest.size());
      if (written < 0 && errno != EINTR) break;
      rest.remove_prefix(written < 0 ? 0 : static_cast<std::size_t>(written));
      if (rest.empty() && ::fsync(fd_) == 0) return {};
    }
    return tl::unexpected(about_file(path_));
  }

 private:
  const std::filesystem::path path_;
  int fd_ = -1;
};

std::string who() {
  const passwd* user = ::getpwuid(::geteuid());
  return user != nullptr ? user->pw_name : std::to_string(::geteuid());
}

}  // namespace

int archive(const Context& context, const ArchiveCommand& command) {
  const auto age = parse_age(command.older_than);
  if (!age) return complain({Errc::wrong_use, "--older-than " + command.older_than + ": write e.g. 90d, 12w or 2y"});
  if (age->count() < fewest_days)
    return complain({Errc::wrong_use, "--older-than " + command.older_than + ": at least 7d, younger rows may still change"});
  std::vector<std::string> tables = command.tables.empty() ? projections::archivable_tables() : command.tables;
  for (const auto& table : tables)
    if (std::ranges::find(projections::archivable_tables(), table) == projections::archivable_tables().end())
      return complain(
          {Errc::wrong_use, "--table " + table + ": only conversation_messages, token_usage and turn_outcomes have old rows"});
  if (command.yes && command.into.empty())
    return complain({Errc::wrong_use, "--yes needs --into FOLDER: where the rows are kept"});
  const auto configuration = context.configuration();
  if (!configuration) return complain(configuration.error());
  const std::string& url = configuration->text("postgres.url");
  if (url.empty()) return complain({Errc::bad_configuration, "postgres.url is not set: there are no read models"});
  const auto before = std::chrono::floor<std::chrono::days>(system_clock().now()) - *age;
  const std::string day = codec::format_time(before).substr(0, 10);

  std::uint64_t all = 0;
  std::vector<std::uint64_t> counts;
  for (const auto& table : tables) {
    const auto old = projections::count_old_rows(url, table, before);
    if (!old) return complain(old.error());
    counts.push_back(old->rows);
    all += old->rows;
    if (!command.yes)
      std::cout << table << ": " << old->rows << " rows from before " << day
                << (old->rows > 0 ? ", " + old->oldest + " to " + old->newest : "") << '\n';
  }
  if (!command.yes) {
    note("Nothing was changed. --into FOLDER --yes writes them to compressed files there and deletes them.");
    return exit_good;
  }
  std::error_code error;
  std::filesystem::create_directories(command.into, error);
  if (error) return complain(about_file(command.into, error));
  Progress progress("rows", 0);
  std::uint64_t done = 0;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    if (counts[i] == 0) continue;
    const auto path = std::filesystem::path(command.into) / (tables[i] + "-before-" + day + ".ndjson.zst");
    if (std::filesystem::exists(path, error))
      return complain({Errc::wrong_use, path.string() + " is there: an archive is never overwritten; name another folder"});
    ArchiveFile file(path);
    const auto archived =
        projections::archive_old_rows(url, {tables[i], before, command.open, who()}, [&](std::string_view lines) {
          done += static_cast<std::uint64_t>(std::ranges::count(lines, '\n'));
          progress.show(done, all);
          return file.add(lines);
        });
    if (!archived) {
      progress.done();
      note("Rows that were already deleted are in " + path.string() + ".");
      return complain(archived.error());
    }
    progress.done();
    std::cout << path.string() << ": " << *archived << " rows\n";
  }
  note(
      "Rebuilds leave them out, too. Only a reset, or a new database, makes them again from the log, which keeps everything: "
      "archive again then.");
  return exit_good;
}

}  // namespace onboarding::app

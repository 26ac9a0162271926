// events export: the log as lines, to a file or standard output, resumable, with a progress bar.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "events/codec/json.hpp"
#include "events/export/event_export.hpp"
#include "events/privacy/secrets.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/progress.hpp"

namespace onboarding::app {
namespace {

std::atomic<bool> interrupted{false};

/// Where lines go.
class Sink {
 public:
  Sink(int fd, bool owned, bool compress) : fd_(fd), owned_(owned), compress_(compress) {}
  ~Sink() {
    if (owned_) ::close(fd_);
  }
  result<void> write(std::string_view lines) {
    std::string frame;
    if (compress_ && !lines.empty()) lines = frame = exporting::zstd_frame(lines);
    while (!lines.empty()) {
      const auto written = ::write(fd_, lines.data(), lines.size());
      if (written < 0 && errno == EINTR) {
        if (interrupted && !owned_) return failure(Errc::bad_data_folder, "interrupted");  // nobody may ever read on
        continue;
      }
      if (written < 0 && errno == EPIPE) {
        gone_ = true;  // `… | head` has what it wanted: an end, not an error
        return {};
      }
      if (written < 0)
        return failure(Errc::bad_data_folder,
                       std::string("cannot write: ") + std::error_code(errno, std::generic_category()).message());
      lines.remove_prefix(static_cast<std::size_t>(written));
      bytes_ += static_cast<std::uint64_t>(written);
    }
    return {};
  }
  /// Nobody reads any more.
  bool gone() {
    pollfd reader{fd_, 0, 0};
    return gone_ || (!owned_ && ::poll(&reader, 1, 0) > 0 && (reader.revents & POLLERR) != 0);
  }
  std::uint64_t bytes() const { return bytes_; }
  void begin_at(std::uint64_t bytes) { bytes_ = bytes; }
  bool sync() { return !owned_ || ::fsync(fd_) == 0; }

 private:
  const int fd_;
  const bool owned_, compress_;
  bool gone_ = false;
  std::uint64_t bytes_ = 0;
};

/// FILE.cursor: the bytes of FILE that count, and the cursor after them.
struct Mark {
  std::uint64_t bytes = 0;
  std::string cursor;
};
std::optional<Mark> read_mark(const std::string& file) {
  std::ifstream in(file);
  Mark mark;
  if (in >> mark.bytes >> mark.cursor) return mark;
  return std::nullopt;
}
bool write_mark(const std::string& file, const Mark& mark) {
  {
    std::ofstream out(file + ".new", std::ios::trunc);
    out << mark.bytes << ' ' << mark.cursor << '\n';
    if (!out.flush()) return false;
  }
  return ::rename((file + ".new").c_str(), file.c_str()) == 0;
}

result<exporting::Filter> filter_of(const Context& context, const ExportOptions& options) {
  exporting::Filter filter;
  filter.types = options.types;
  filter.session = options.session;
  filter.flow = options.flow;
  for (auto [text, time, name] :
       {std::tuple(&options.since, &filter.since, "--since"), std::tuple(&options.before, &filter.before, "--before")}) {
    if (text->empty()) continue;
    *time = codec::parse_time(*text);
    if (!*time) return failure(Errc::wrong_use, std::string(name) + " " + *text + " is no time; write e.g. 2026-11-21T08:00:00Z");
  }
  if (const auto unknown = exporting::unknown_type(filter))
    return failure(Errc::wrong_use, "--type " + *unknown + " is no event type; onboardctl events tail shows some");
  if (!options.user.empty()) {
    auto secrets = privacy::Secrets::load_or_create(context.data());
    if (!secrets) return tl::unexpected(secrets.error());
    filter.blinded_user = secrets->blinded_user_id(options.user);
  }
  return filter;
}

}  // namespace

int events_export(const Context& context, const ExportOptions& options) {
  if (options.resume && (options.output.empty() || !options.after.empty()))
    return complain({Errc::wrong_use, "--resume goes with --output and without --after"});
  auto opened = open_log(context, options.open);
  if (!opened) return complain(opened.error());
  auto filter = filter_of(context, options);
  if (!filter) return complain(filter.error());

  const std::string mark_file = options.output + ".cursor";
  auto mark = options.resume ? read_mark(mark_file) : std::nullopt;
  std::error_code unknown;
  if (const auto size = std::filesystem::file_size(options.output, unknown); mark && (unknown || size < mark->bytes))
    return complain(
        {Errc::wrong_use, options.output + " is gone or shorter than " + mark_file + " says; without --resume it begins anew"});
  if (options.resume && !mark) note("there is nothing to resume: beginning");
  auto cursor = exporting::Cursor::parse(mark ? mark->cursor : options.after, *opened->log);
  if (!cursor) return complain({Errc::wrong_use, cursor.error().detail});

  int fd = STDOUT_FILENO;
  if (!options.output.empty()) {
    fd = ::open(options.output.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (mark ? 0 : O_TRUNC), 0600);
    if (fd < 0 || (mark && (::ftruncate(fd, static_cast<off_t>(mark->bytes)) != 0 || ::lseek(fd, 0, SEEK_END) < 0)))
      return complain({Errc::bad_data_folder, options.output + ": " + std::error_code(errno, std::generic_category()).message()});
  }
  // The mark of an earlier export must not outlive its file.
  if (!options.output.empty() && !mark) std::filesystem::remove(mark_file, unknown);
  Sink sink(fd, !options.output.empty(), options.zstd);
  if (mark) sink.begin_at(mark->bytes);

  struct sigaction on_end {};  // no SA_RESTART: a write into a pipe that nobody reads must end, too
  on_end.sa_handler = [](int) { interrupted = true; };
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &on_end, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  std::optional<LogGrowth> growth;
  if (options.follow) growth.emplace(*opened->log);

  exporting::EventExport events(*opened->log, *opened->keys, std::move(*filter), std::move(*cursor),
                                options.open ? codec::Reveal::open : codec::Reveal::sealed);
  Progress progress("events", events.read());
  std::string lines;
  // Lines on a terminal are progress enough.
  const bool shows_progress = !options.output.empty() || ::isatty(STDOUT_FILENO) == 0;
  while (!interrupted && !sink.gone()) {
    lines.clear();
    const auto more = events.page(lines);
    if (!more) return complain(more.error());
    if (auto written = sink.write(lines); !written) return complain(written.error());
    // The mark never runs ahead of what is on the disk.
    if (!options.output.empty() && !lines.empty() &&
        (!sink.sync() || !write_mark(mark_file, {sink.bytes(), events.cursor().text(opened->log->log_id())})))
      return complain({Errc::bad_data_folder, mark_file + ": cannot be written"});
    if (shows_progress) progress.show(events.read(), events.total());
    if (*more) continue;
    if (!options.follow) break;
    progress.done();
    growth->wait(std::chrono::seconds(1));  // Ctrl-C is looked for in between
  }
  progress.done();
  if (sink.gone()) return exit_good;
  note(std::to_string(events.told()) + " events" +
       (interrupted && !options.follow ? ", interrupted" + std::string(options.output.empty() ? "" : "; --resume goes on") : ""));
  return interrupted && !options.follow ? exit_failed : exit_good;
}

}  // namespace onboarding::app

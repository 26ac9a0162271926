// events export: the log as lines, to a file or standard output, resumable, with a progress bar.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>

#include "events/codec/json.hpp"
#include "events/export/event_export.hpp"
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
        if (interrupted && !owned_) return failure(std::make_error_code(std::errc::interrupted));  // nobody may ever read on
        continue;
      }
      if (written < 0 && errno == EPIPE) {
        gone_ = true;  // `… | head` has what it wanted: an end, not an error
        return {};
      }
      if (written < 0) return tl::unexpected(about_file("the export"));
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

/// FILE.cursor: the bytes of FILE that count and the cursor after them, and on a second line what FILE is an export of.
struct Mark {
  std::uint64_t bytes = 0;
  std::string cursor, of;
};
std::optional<Mark> read_mark(const std::string& file) {
  std::ifstream in(file);
  Mark mark;
  if (in >> mark.bytes >> mark.cursor && in.ignore() && std::getline(in, mark.of)) return mark;
  return std::nullopt;
}
bool write_mark(const std::string& file, const Mark& mark) {
  {
    std::ofstream out(file + ".new", std::ios::trunc);
    out << mark.bytes << ' ' << mark.cursor << '\n' << mark.of << '\n';
    if (!out.flush()) return false;
  }
  return ::rename((file + ".new").c_str(), file.c_str()) == 0;
}

/// The options that make one export another one. A person is named as the log names them.
std::string options_of(const ExportOptions& options, const exporting::Filter& filter) {
  std::string all;
  const auto add = [&](std::string_view name, std::string_view value = {}) {
    all.append(all.empty() ? "" : " ").append(name);
    if (!value.empty()) all.append(" ").append(value);
  };
  if (options.zstd) add("--zstd");
  if (options.open) add("--open");
  std::set<std::string> types(options.types.begin(), options.types.end());
  for (const std::string& type : types) add("--type", type);
  for (const auto& [name, value] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"--session", filter.session},
           {"--user", filter.blinded_user},
           {"--flow", filter.flow},
           {"--since", filter.since ? codec::format_time(*filter.since) : ""},
           {"--before", filter.before ? codec::format_time(*filter.before) : ""}})
    if (!value.empty()) add(name, value);
  return all.empty() ? "all events" : all;
}

/// FILE, and nobody else writes it. Nothing of it is changed yet.
result<int> lock_output(const std::string& file, bool make) {
  const int fd = ::open(file.c_str(), O_WRONLY | (make ? O_CREAT : 0) | O_CLOEXEC, 0600);
  if (fd < 0 && errno == ENOENT && !make) return failure(Errc::wrong_use, file + " is gone; without --resume it begins anew");
  if (fd < 0) return tl::unexpected(about_file(file));
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const bool taken = errno == EWOULDBLOCK;
  const Failure why = about_file(file);
  ::close(fd);
  return taken ? failure(Errc::wrong_use, file + ": another export writes it") : tl::unexpected(why);
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
    auto secrets = secrets_of(context);
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

  auto cursor = exporting::Cursor::parse(options.after, *opened->log);
  if (!cursor) return complain({Errc::wrong_use, cursor.error().detail});

  const std::string mark_file = options.output + ".cursor", of = options_of(options, *filter);
  std::error_code unknown;
  int fd = STDOUT_FILENO;
  if (!options.output.empty()) {
    const auto locked = lock_output(options.output, !options.resume || !std::filesystem::exists(mark_file, unknown));
    if (!locked) return complain(locked.error());
    fd = *locked;
  }
  Sink sink(fd, !options.output.empty(), options.zstd);
  auto mark = options.resume ? read_mark(mark_file) : std::nullopt;
  if (const auto size = std::filesystem::file_size(options.output, unknown); mark && (unknown || size < mark->bytes))
    return complain(
        {Errc::wrong_use, options.output + " is gone or shorter than " + mark_file + " says; without --resume it begins anew"});
  if (mark && mark->of != of)
    return complain({Errc::wrong_use, options.output + " is an export of: " + mark->of + ". This one is of: " + of +
                                          ". --resume goes on with the same options; without it the file begins anew"});
  if (options.resume && !mark && std::filesystem::exists(mark_file, unknown))
    return complain({Errc::wrong_use, mark_file + " does not say what " + options.output +
                                          " is an export of: it cannot be resumed; without --resume it begins anew"});
  if (options.resume && !mark) note("there is nothing to resume: beginning");
  if (mark) cursor = exporting::Cursor::parse(mark->cursor, *opened->log);
  if (!cursor) return complain({Errc::wrong_use, cursor.error().detail});

  if (!options.output.empty()) {
    struct stat is {};
    const bool is_file = ::fstat(fd, &is) == 0 && S_ISREG(is.st_mode);
    if (is_file && (::ftruncate(fd, mark ? static_cast<off_t>(mark->bytes) : 0) != 0 || ::lseek(fd, 0, SEEK_END) < 0))
      return complain(about_file(options.output));
  }
  // The mark of an earlier export must not outlive its file.
  if (!options.output.empty() && !mark) std::filesystem::remove(mark_file, unknown);
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
        (!sink.sync() || !write_mark(mark_file, {sink.bytes(), events.cursor().text(opened->log->log_id()), of})))
      return complain(about_file(mark_file));
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

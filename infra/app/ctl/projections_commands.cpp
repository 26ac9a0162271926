// projections …: how far the read models are, and what operators do to them, over the running server's admin listener.
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <thread>
#include <utility>

#include "infra/app/ctl/admin_client.hpp"
#include "infra/app/ctl/commands.hpp"
#include "infra/app/ctl/progress.hpp"

namespace onboarding::app {
namespace {

using codec::find_member;
using codec::string_member;
using namespace admin;

constexpr const char* all = "/api/admin/projections";

std::string path_of(const std::string& name) {
  std::string path = all;
  path.push_back('/');
  return path.append(name);
}

bool good_name(const std::string& name) {
  return !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
}

std::string who() {
  const passwd* user = ::getpwuid(::geteuid());
  return user == nullptr ? "operator" : user->pw_name;
}

void show_projection(const Value& p) {
  std::cout << std::left << std::setw(14) << string_member(p, "name") << "v" << std::setw(3) << number(p, "version")
            << std::setw(9) << string_member(p, "state") << std::right << std::setw(9) << number(p, "lag_events") << " events "
            << std::fixed << std::setprecision(1) << std::setw(7) << real(p, "lag_seconds") << " s behind " << std::setw(8)
            << std::setprecision(0) << real(p, "events_per_second") << "/s  " << number(p, "parked") << " parked, revision "
            << number(p, "revision");
  if (const auto detail = string_member(p, "detail"); !detail.empty()) std::cout << "  " << detail;
  std::cout << "\n";
  if (const auto* stalled = find_member(p, "stalled"); stalled && stalled->IsArray())
    for (const auto& of : stalled->GetArray())
      std::cout << "    stalled at " << string_member(of, "position") << " since " << string_member(of, "stalled_since") << ", "
                << number(of, "lag_events") << " events behind\n";
  for (const auto& g : part(p, "generations").GetArray()) {
    const auto events = number(g, "events"), of = number(g, "of_events");
    std::cout << "    generation " << number(g, "generation") << " (v" << number(g, "version")
              << "): " << string_member(g, "state");
    if (const auto phase = string_member(g, "phase"); !phase.empty()) std::cout << ", " << phase;
    std::cout << ", " << events << " of " << of << " events";
    if (string_member(g, "phase") == "filling" && events < of)
      std::cout << ", " << std::setprecision(0) << real(g, "events_per_second") << "/s, " << real(g, "eta_seconds") << " s left";
    if (const auto parked = number(g, "parked"); parked > 0) std::cout << ", " << parked << " parked";
    if (const auto detail = string_member(g, "detail"); !detail.empty()) std::cout << ": " << detail;
    std::cout << "\n";
  }
}

void show_comparison(const Value& found) {
  if (number(found, "other_version") != 0)
    std::cout << "not compared: the live tables were of version " << number(found, "other_version") << "\n";
  for (const auto& table : part(found, "tables").GetArray()) {
    const bool same = string_member(table, "live_checksum") == string_member(table, "rebuilt_checksum") &&
                      number(table, "live_rows") == number(table, "rebuilt_rows");
    std::cout << std::left << std::setw(26) << string_member(table, "table") << std::right << std::setw(12)
              << number(table, "live_rows") << " rows live " << std::setw(12) << number(table, "rebuilt_rows") << " rebuilt  "
              << (same ? "equal" : "DIFFERENT") << "\n";
    for (const auto& line : part(table, "differences").GetArray())
      std::cout << "    " << std::string_view(line.GetString(), line.GetStringLength()) << "\n";
  }
}

/// The projection's status, or why there is none: its exit code is in `code` then.
std::optional<rapidjson::Document> status_of(const Context& context, HttpClient& client, const std::string& name, int& code) {
  const auto answer = ask(context, client, path_of(name));
  std::optional<rapidjson::Document> status;
  code = finish(answer, false, [&](const Value&) {
    if (auto parsed = codec::parse_json(answer->body)) status = std::move(*parsed);
  });
  return status;
}

const Value* building_of(const Value& status) {
  for (const auto& g : part(status, "generations").GetArray())
    if (string_member(g, "state") == "building") return &g;
  return nullptr;
}

std::string body_of(const ProjectionAction& action, std::optional<std::int64_t> revision, const std::string& swap,
                    const std::string& after = {}) {
  rapidjson::StringBuffer buffer;
  codec::JsonWriter w(buffer);
  const auto member = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    codec::write_key(w, name);
    codec::write_string(w, value);
  };
  w.StartObject();
  member("actor", who());
  member("reason", action.reason);
  member("key", action.key);
  member("position", action.position);
  member("swap", swap);
  member("after", after);
  if (revision) {
    codec::write_key(w, "revision");
    w.Int64(*revision);
  }
  w.EndObject();
  return std::string(codec::written(buffer));
}

/// Follows a build until it is live, gone, or waits for somebody. Good is only what `wish` (as `swap` of a rebuild) asks for.
int watch_build(const Context& context, HttpClient& client, const std::string& name, std::int64_t generation,
                const std::string& wish, bool json) {
  note("rebuilding " + name + " beside the live tables, as generation " + std::to_string(generation) +
       "; Ctrl-C ends the watching, not the rebuild (onboardctl projections cancel " + name + " does)");
  std::optional<Progress> progress;
  std::string waits;
  for (;;) {
    int code = exit_good;
    const auto status = status_of(context, client, name, code);
    if (!status) return code;
    const Value* building = building_of(*status);
    const std::string detail(building ? string_member(*building, "detail") : "");
    if (building && number(*building, "generation") == generation && string_member(*building, "phase") == "filling") {
      const auto events = static_cast<std::uint64_t>(number(*building, "events"));
      if (!progress) progress.emplace("events", events);
      progress->show(events, static_cast<std::uint64_t>(number(*building, "of_events")));
      if (std::exchange(waits, detail) != detail && !detail.empty()) {
        progress.reset();
        note(detail);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      continue;
    }
    progress.reset();
    const Value& last = part(*status, "last_comparison");
    const bool compared = number(last, "generation") == generation;
    const bool live = number(*status, "generation") == generation;
    const bool equal = compared && truth(part(last, "found"), "equal");
    if (json) {
      rapidjson::StringBuffer buffer;
      codec::JsonWriter w(buffer);
      status->Accept(w);
      std::cout << codec::written(buffer) << "\n";
    } else if (compared) {
      show_comparison(part(last, "found"));
    }
    const bool was_to_stay = wish == "never" || wish == "compare_only";
    if (live) {
      note("generation " + std::to_string(generation) + " is live" + (was_to_stay ? ": somebody else asked for that" : "") +
           "; back again: onboardctl projections rollback " + name);
      return was_to_stay ? exit_failed : exit_good;
    }
    if (building) {
      const std::string go_on = "onboardctl projections rebuild " + name;
      if (!detail.empty()) note("it does not go live: " + detail + "; then " + go_on + (wish == "always" ? " --yes" : ""));
      else if (equal)
        note(std::string("equal; it waits and follows") + (wish == "never" ? "" : ", as somebody else asked") +
             ": make it live with " + go_on + " --yes, or cancel it");
      else note("the live tables differ; take the rebuilt ones with " + go_on + " --yes, or cancel");
      return equal && wish == "never" && detail.empty() ? exit_good : exit_failed;
    }
    if (!compared) {
      note("the rebuild was cancelled");
      return exit_failed;
    }
    note(std::string(equal ? "equal" : "the live tables differ from what the log says") +
         (wish == "compare_only" ? "" : "; the rebuilt ones did not go live: somebody else asked for a comparison only"));
    return equal && wish == "compare_only" ? exit_good : exit_failed;
  }
}

/// Retries go on until all is done: the server ends each of its answers in time.
int act_on_parked(const Context& context, HttpClient& client, ProjectionAction action, std::uint64_t keys) {
  std::int64_t events = 0, free = 0, parked = 0;
  std::string after;
  Progress progress("keys", 0);
  for (bool complete = false; !complete;) {
    const auto answer =
        ask(context, client, path_of(action.name) + "/" + action.verb, body_of(action, std::nullopt, "", after), "POST");
    const int code = finish(answer, false, [&](const Value& done) {
      events += number(done, "released_events");
      free += number(done, "released_keys");
      parked += number(done, "still_parked");
      complete = truth(done, "complete");
      after = string_member(done, "after");
    });
    if (code != exit_good) return code;
    progress.show(static_cast<std::uint64_t>(free + parked), keys);
    action.verb = "retry";  // a skip's one event is skipped at once: what takes long is behind it
    action.position.clear();
  }
  progress.done();
  if (action.json)
    std::cout << "{\"released_events\":" << events << ",\"released_keys\":" << free << ",\"still_parked\":" << parked << "}\n";
  else std::cout << events << " events and " << free << " keys are free, " << parked << " keys are still parked\n";
  return exit_good;
}

}  // namespace

int projections_list(const Context& context, bool json, bool watch) {
  return look(context, all, json, watch, [](const Value& answer) {
    const auto& projections = part(answer, "projections");
    if (!projections.IsArray() || projections.Empty()) std::cout << "no projections run: postgres.url is not set\n";
    else
      for (const auto& p : projections.GetArray()) show_projection(p);
  });
}

int projections_parked(const Context& context, const std::string& name, bool json) {
  if (!good_name(name)) return complain({Errc::not_found, "there is no projection " + name});
  HttpClient client;
  std::string after;
  for (bool any = false;; any = true) {
    const std::string page = path_of(name) + "/parked" + (after.empty() ? "" : "?after=" + escaped(after));
    after.clear();
    const auto answer = ask(context, client, page);
    const int code = finish(answer, false, [&](const Value& found) {
      after = string_member(found, "after");
      if (json && (!any || !after.empty())) std::cout << answer->body << "\n";
      if (!any && after.empty()) note("nothing is parked");
      if (json) return;
      for (const auto& row : part(found, "parked").GetArray())
        std::cout << string_member(row, "key") << "  " << string_member(row, "position")
                  << (string_member(row, "state") == "building"
                          ? " of generation " + std::to_string(number(row, "generation")) + ", which is being built"
                          : "")
                  << "  " << number(row, "waiting_events") << " events wait since " << string_member(row, "parked_at") << "  "
                  << string_member(row, "error") << "\n";
    });
    if (code != exit_good || after.empty()) return code;
  }
}

int projections_act(const Context& context, const ProjectionAction& action) {
  if (!good_name(action.name)) return complain({Errc::not_found, "there is no projection " + action.name});
  HttpClient client;
  int code = exit_good;
  const auto status = status_of(context, client, action.name, code);
  if (!status) return code;
  if (action.verb == "retry" || action.verb == "skip")
    return act_on_parked(context, client, action, static_cast<std::uint64_t>(number(*status, "parked")));
  if (action.verb == "reset" && !action.yes) {
    note("reset empties the live tables of " + action.name + " and fills them again: readers see that. `projections rebuild " +
         action.name + "` does it unseen. With --yes it is done.");
    return exit_wrong_use;
  }
  const std::string body = body_of(action, action.revision.value_or(number(*status, "revision")), "");
  return finish(ask(context, client, path_of(action.name) + "/" + action.verb, body, "POST"), action.json,
                [&](const Value&) { std::cout << action.name << ": " << action.verb << " is done\n"; });
}

int projections_rebuild(const Context& context, const ProjectionAction& action, bool compare_only, bool no_swap) {
  if (!good_name(action.name)) return complain({Errc::not_found, "there is no projection " + action.name});
  HttpClient client;
  int code = exit_good;
  auto status = status_of(context, client, action.name, code);
  if (!status) return code;
  const Value* building = building_of(*status);
  const std::string wish = compare_only ? "compare_only" : no_swap ? "never" : action.yes ? "always" : "if_equal";
  std::int64_t generation = building ? number(*building, "generation") : 0;
  // One that somebody began already is only watched; whether it does what is wanted here, its end tells.
  if (!building || wish != "if_equal" || action.revision || string_member(*building, "phase") != "filling") {
    const auto answer = ask(context, client, path_of(action.name) + "/rebuild", body_of(action, action.revision, wish), "POST");
    std::int64_t revision = 0;
    code = finish(answer, false, [&](const Value& done) {
      revision = number(done, "revision");
      generation = number(done, "generation");
    });
    if (code != exit_good) return code;
    // What the server tells is half a second old at most: wait until it knows of this.
    for (int i = 0; i < 100; ++i) {
      status = status_of(context, client, action.name, code);
      if (!status) return code;
      if (number(*status, "revision") >= revision) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  return watch_build(context, client, action.name, generation, wish, action.json);
}

}  // namespace onboarding::app

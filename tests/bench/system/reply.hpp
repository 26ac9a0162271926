// What the load generator reads of an answer: no JSON document is made, so that its CPU stays small beside the server's.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace onboarding::bench {

struct Reply {
  int status = 0;  // 0: not whole yet, -1: not one of our server's answers
  std::string body;
};

/// Takes the whole answer out of what was received (one request at a time: nothing can follow it).
inline Reply take_reply(std::string& received) {
  const std::string_view all = received;
  const auto head = all.find("\r\n\r\n");
  if (head == all.npos) return {};
  const auto length_at = all.substr(0, head).find("Content-Length: ");
  std::size_t length = 0;
  Reply reply;
  if (all.size() < 12 || length_at == all.npos) return {-1, {}};
  std::from_chars(all.data() + length_at + 16, all.data() + head, length);
  std::from_chars(all.data() + 9, all.data() + 12, reply.status);
  if (all.size() < head + 4 + length) return {};
  reply.body = all.substr(head + 4, length);
  received.clear();
  return reply;
}

/// The string member's value, as it stands (the values asked for hold no escapes but texts, of which only the length matters).
inline std::string_view member(std::string_view body, std::string_view name) {
  const std::string key = "\"" + std::string(name) + "\":\"";
  const auto at = body.find(key);
  if (at == body.npos) return {};
  const auto begin = at + key.size();
  auto end = body.find('"', begin);
  while (end != body.npos && body[end - 1] == '\\') end = body.find('"', end + 1);
  return end == body.npos ? std::string_view() : body.substr(begin, end - begin);
}

/// The provider says in its reply how long it really took: what is left of the latency is the server's own.
inline std::int64_t told_delay_us(std::string_view body) {
  constexpr std::string_view mark = "[delay_us=";
  const auto at = body.find(mark);
  std::int64_t delay = 0;
  if (at != body.npos) std::from_chars(body.data() + at + mark.size(), body.data() + body.size(), delay);
  return delay;
}

}  // namespace onboarding::bench

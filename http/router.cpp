#include "http/router.hpp"

#include <algorithm>

#include "events/codec/json.hpp"

namespace onboarding::http {
namespace {

constexpr std::array<std::string_view, 7> method_names{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// "/a/b" → {"a","b"}; "/" → {}. Views into the path.
std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> segments;
  segments.reserve(8);
  path.remove_prefix(1);
  while (!path.empty()) {
    const auto slash = path.find('/');
    segments.push_back(path.substr(0, slash));
    if (slash == path.npos) break;
    path.remove_prefix(slash + 1);
    if (path.empty()) segments.emplace_back();  // a trailing slash is another path
  }
  return segments;
}

bool is_parameter(std::string_view segment) { return !segment.empty() && segment.front() == '{'; }

}  // namespace

std::string_view to_string(Method method) { return method_names[static_cast<std::size_t>(method)]; }

std::optional<Method> method_of(std::string_view name) {
  const auto found = std::find(method_names.begin(), method_names.end(), name);
  if (found == method_names.end()) return std::nullopt;
  return static_cast<Method>(found - method_names.begin());
}

const std::string* Request::query_value(std::string_view name) const {
  const auto found = std::find_if(query.begin(), query.end(), [&](const auto& entry) { return entry.first == name; });
  return found == query.end() ? nullptr : &found->second;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return std::nullopt;
      decoded.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    } else {
      decoded.push_back(plus_is_space && text[i] == '+' ? ' ' : text[i]);
    }
  }
  if (!codec::is_text(decoded)) return std::nullopt;
  return decoded;
}

std::string percent_encode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
        c == '~') {
      encoded.push_back(c);
    } else {
      constexpr char digits[] = "0123456789ABCDEF";
      encoded += {'%', digits[static_cast<unsigned char>(c) >> 4], digits[static_cast<unsigned char>(c) & 15]};
    }
  }
  return encoded;
}

std::optional<std::vector<std::pair<std::string, std::string>>> parse_query(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> query;
  while (!text.empty()) {
    const auto end = std::min(text.find('&'), text.size());
    const auto part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (part.empty()) continue;
    const auto equals = part.find('=');
    auto name = percent_decode(part.substr(0, equals), true);
    auto value = percent_decode(equals == part.npos ? std::string_view() : part.substr(equals + 1), true);
    if (!name || !value || query.size() == 32) return std::nullopt;
    if (std::any_of(query.begin(), query.end(), [&](const auto& q) { return q.first == *name; })) return std::nullopt;
    query.emplace_back(std::move(*name), std::move(*value));
  }
  return query;
}

void Router::add(Route route) {
  Template parsed;
  for (const auto segment : split(route.path)) parsed.segments.emplace_back(segment);
  templates_.push_back(std::move(parsed));
  routes_.push_back(std::move(route));
}

Router::Match Router::match(Method method, std::string_view path) const {
  Match match;
  if (path.empty() || path.front() != '/') return match;
  const auto wanted = method == Method::head ? Method::get : method;
  const auto segments = split(path);
  bool get_allowed = false;
  for (std::size_t i = 0; i < templates_.size(); ++i) {
    const auto& parts = templates_[i].segments;
    if (parts.size() != segments.size()) continue;
    bool fits = true;
    for (std::size_t k = 0; fits && k < parts.size(); ++k)
      fits = is_parameter(parts[k]) ? !segments[k].empty() : parts[k] == segments[k];
    if (!fits) continue;
    if (routes_[i].method != wanted) {
      if (!match.allowed.empty()) match.allowed += ", ";
      match.allowed += to_string(routes_[i].method);
      get_allowed = get_allowed || routes_[i].method == Method::get;
      continue;
    }
    match = {};
    match.route = &routes_[i];
    for (std::size_t k = 0; k < parts.size(); ++k) {
      if (!is_parameter(parts[k])) continue;
      auto decoded = percent_decode(segments[k]);
      if (!decoded) {
        match.route = nullptr;
        match.malformed = true;
        return match;
      }
      match.parameters.push_back(std::move(*decoded));
    }
    return match;
  }
  if (!match.allowed.empty()) match.allowed += get_allowed ? ", HEAD, OPTIONS" : ", OPTIONS";
  return match;
}

}  // namespace onboarding::http

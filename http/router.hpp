// Path templates, percent-decoding and query parsing. Immutable once the server runs; read by all threads.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.hpp"

namespace onboarding::http {

/// nullopt for a malformed escape, a NUL or what is not UTF-8.
std::optional<std::string> percent_decode(std::string_view, bool plus_is_space = false);
std::string percent_encode(std::string_view);  // as one path segment
/// nullopt when malformed, a name is given twice, or there are more than 32.
std::optional<std::vector<std::pair<std::string, std::string>>> parse_query(std::string_view);

class Router {
 public:
  struct Match {
    const Route* route = nullptr;  // nullptr: see the others
    std::vector<std::string> parameters;
    bool malformed = false;  // the path cannot be decoded: 400
    std::string allowed;     // not empty: the path is there, the method is not: 405 with this Allow
  };

  void add(Route);
  /// HEAD is answered by GET's route.
  Match match(Method, std::string_view path) const;
  const std::deque<Route>& routes() const { return routes_; }

 private:
  struct Template {
    std::vector<std::string> segments;  // "{" in front: a parameter
  };
  std::deque<Route> routes_;  // addresses stay
  std::vector<Template> templates_;
};

}  // namespace onboarding::http

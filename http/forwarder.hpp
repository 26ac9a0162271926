// Requests that another server answers for: passed on to its internal listener as they came, and its answer given as if it were ours,
// streams piece by piece. One hop: whoever gets a request that was passed on answers it, or says 503.
//
// One thread ("http-forward") with all transfers; nothing else waits. While nobody is known to answer (a partition moves) a request waits
// for a moment; then it is told 503 with Retry-After. An owner that was replaced while it was asked is not waited for: what may be repeated
// (reads, and whatever carries an Idempotency-Key) is asked of its successor.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "http/http_server.hpp"
#include "http/message.hpp"

namespace onboarding::http {

class Forwarder {
 public:
  static constexpr std::string_view credential_header = "x-onboarding-instance";

  /// `peers` outlives it.
  Forwarder(const Peers& peers, const std::string& instance_key, prometheus::Registry&);
  ~Forwarder();  // as stop()

  /// Any thread; answers the request, sooner or later. Called again for a request whose handler ended so again, it goes on where it was.
  void forward(const Responder&, std::uint32_t partition);
  /// What is under way is answered 503; joins the thread. Idempotent.
  void stop();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace onboarding::http

// One connection: the strict reader on the way in, our own descriptor on the way out, one request at a time, and a close
// that is never a reset. Knows no Pistache: whoever polls calls on_bytes() and on_peer_gone().
//
//   open ── answer(close) / refusal / idle time-out ──▶ flushing ── all sent, FIN ──▶ lingering ── peer gone, or time over ──▶ closed
//
// Threads: every method from any thread; the state is under one mutex, which is never held while a request is handled.
// The descriptor is a duplicate that this object owns until it closes it: its number cannot come to mean somebody else.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

#include "http/http_server.hpp"
#include "http/reader.hpp"
#include "http/writer.hpp"

namespace onboarding::http {

class Connection;

/// What a connection asks of the server. Outlives every connection.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual std::size_t body_limit(const RawRequest& head) = 0;
  /// Exactly one answer() must follow, from any thread, at any time.
  virtual void on_request(const std::shared_ptr<Connection>&, RawRequest) = 0;
  /// The whole response to what could not be read; the connection closes after it. Also counts it.
  virtual std::string refusal(ReaderErrc) = 0;
  virtual std::string timed_out() = 0;
  virtual void on_cut(std::string_view reason) = 0;  // bytes that were owed are dropped
  virtual void on_closed() = 0;                      // once a connection
  /// Whoever is connected is waited for when the server ends, since it may ask once more.
  virtual bool waits_for_peers() const { return true; }
};

class Connection final : public Channel, public std::enable_shared_from_this<Connection> {
 public:
  /// Takes the descriptor.
  Connection(int fd, std::string client, Writer&, const HttpLimits&, ConnectionOwner&);
  ~Connection() override;

  const std::string& client() const { return client_; }
  void on_bytes(std::string_view);
  /// The peer sends no more (it may still read). What it sent is still answered.
  void on_peer_gone();
  void answer(std::string_view bytes, bool then_close);
  /// A piece of an answer of which more will come. False: the peer is gone, or so slow that it was cut.
  bool answer_piece(std::string_view bytes);
  std::size_t unsent() const;
  bool gone() const;  // the client has closed, or was cut off
  /// Answers without a request (too many connections), then closes.
  void turn_away(std::string_view bytes);
  void close_when_idle() override;
  bool owes() const override;
  bool may_ask() const override;
  void cut(std::string_view reason) override;

  void on_writable() override;
  void on_deadline(std::int64_t now_ms) override;

 private:
  using Lock = std::unique_lock<std::mutex>;
  void pump(Lock&, std::string_view fresh);
  void write(Lock&, std::string_view bytes);
  void flush(Lock&);
  void finish(Lock&);
  void settle(Lock&);
  void time_phase();
  void cut_locked(Lock&, std::string_view reason);
  void close_descriptor(Lock&);
  void set_deadline(std::chrono::milliseconds from_now) {
    deadline_ms.store(monotonic_ms() + from_now.count(), std::memory_order_relaxed);
  }

  const std::string client_;
  Writer& writer_;
  const HttpLimits& limits_;
  ConnectionOwner& owner_;

  mutable std::mutex mutex_;
  int fd_;
  RequestReader reader_;
  enum class Phase { idle, head, body } phase_ = Phase::idle;  // which one the deadline belongs to
  std::string pending_in_;                                     // bytes behind the request in flight
  std::string out_;                                            // what the socket did not take yet
  std::size_t out_at_ = 0;
  bool watched_ = false;
  bool in_flight_ = false;    // a request was handed over and is not answered
  bool streamed_ = false;     // its answer came in pieces: nobody waits until the last of them is taken
  bool pumping_ = false;      // a thread is inside pump()
  bool closing_ = false;      // no further request is read
  bool close_after_ = false;  // close once the request in flight is answered
  bool lingering_ = false;    // all is sent, FIN too
  bool peer_gone_ = false;
};

}  // namespace onboarding::http

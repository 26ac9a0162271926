#include "http/connection.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "events/domain/assertion.hpp"

namespace onboarding::http {
namespace {
// After our FIN: how long the peer may take to close its side before we stop reading. Closing at once could make the
// kernel send a reset over an answer that is still on its way.
constexpr std::chrono::milliseconds linger_time{2'000};
}  // namespace

Connection::Connection(int fd, std::string client, Writer& writer, const HttpLimits& limits, ConnectionOwner& owner)
    : client_(std::move(client)),
      writer_(writer),
      limits_(limits),
      owner_(owner),
      fd_(fd),
      reader_({.max_head_bytes = limits.max_head_bytes, .max_target_bytes = limits.max_head_bytes / 2, .max_fields = 100}) {
  set_deadline(limits_.idle_timeout);
}

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
}

void Connection::on_bytes(std::string_view bytes) {
  Lock lock(mutex_);
  if (closing_ || fd_ < 0) return;  // read over, so that our close is no reset
  if (in_flight_ || pumping_) {
    // Pipelined: waits for its turn. Pistache cannot be told to stop reading, so the bound is a close.
    if (pending_in_.size() + bytes.size() > limits_.max_head_bytes + limits_.max_body_bytes) close_after_ = closing_ = true;
    else pending_in_.append(bytes);
    return;
  }
  pump(lock, bytes);
}

void Connection::pump(Lock& lock, std::string_view fresh) {
  pumping_ = true;
  std::string kept = std::move(pending_in_);
  pending_in_.clear();
  if (!kept.empty()) {
    kept.append(fresh);
    fresh = kept;
  }
  const auto self = shared_from_this();
  while (!in_flight_ && !closing_ && fd_ >= 0) {
    fresh.remove_prefix(reader_.feed(fresh));
    if (reader_.state() == RequestReader::State::head_done) {
      reader_.accept_body(reader_.request().has_body ? owner_.body_limit(reader_.request()) : 0);
      if (reader_.state() == RequestReader::State::body) {
        if (!fresh.empty()) continue;
        if (reader_.request().expects_continue) write(lock, "HTTP/1.1 100 Continue\r\n\r\n");
      }
    }
    if (reader_.state() == RequestReader::State::failed) {
      write(lock, owner_.refusal(reader_.error()));
      finish(lock);
    } else if (reader_.state() == RequestReader::State::complete) {
      in_flight_ = true;
      streamed_ = false;
      deadline_ms.store(never, std::memory_order_relaxed);
      auto request = reader_.take();
      phase_ = Phase::idle;
      if (!request.keep_alive) close_after_ = closing_ = true;
      pending_in_.assign(fresh);
      lock.unlock();
      owner_.on_request(self, std::move(request));
      lock.lock();
      kept = std::move(pending_in_);
      pending_in_.clear();
      fresh = kept;
      continue;
    } else {
      break;  // needs more bytes
    }
  }
  if (!closing_) pending_in_.assign(fresh);
  pumping_ = false;
  if (!in_flight_ && !closing_ && out_.empty()) time_phase();
  settle(lock);
}

void Connection::answer(std::string_view bytes, bool then_close) {
  Lock lock(mutex_);
  ONBOARDING_ASSERT(in_flight_, "an answer belongs to a request");
  in_flight_ = false;
  if (fd_ < 0) return;
  write(lock, bytes);
  if (then_close || close_after_) {
    finish(lock);
  } else if (!pumping_ && !pending_in_.empty()) {
    writer_.post([self = shared_from_this()] {
      Lock inner(self->mutex_);
      if (!self->in_flight_ && !self->pumping_) self->pump(inner, {});
    });
    return;
  } else if (out_.empty()) {
    time_phase();
  }
  settle(lock);
}

bool Connection::answer_piece(std::string_view bytes) {
  Lock lock(mutex_);
  ONBOARDING_ASSERT(in_flight_, "a piece of an answer belongs to a request");
  if (peer_gone_) return false;
  streamed_ = true;
  write(lock, bytes);
  return fd_ >= 0;
}

std::size_t Connection::unsent() const {
  Lock lock(mutex_);
  return out_.size() - out_at_;
}

bool Connection::gone() const {
  Lock lock(mutex_);
  return fd_ < 0 || peer_gone_;
}

/// A phase's time runs from its beginning, however many packets it takes.
void Connection::time_phase() {
  const auto now = !reader_.begun() ? Phase::idle : reader_.state() == RequestReader::State::body ? Phase::body : Phase::head;
  if (now == phase_ && now != Phase::idle && deadline_ms.load(std::memory_order_relaxed) != never) return;
  phase_ = now;
  set_deadline(now == Phase::idle ? limits_.idle_timeout : now == Phase::head ? limits_.head_timeout : limits_.body_timeout);
}

void Connection::turn_away(std::string_view bytes) {
  Lock lock(mutex_);
  write(lock, bytes);
  finish(lock);
}

void Connection::close_when_idle() {
  Lock lock(mutex_);
  if (fd_ < 0 || closing_) return;
  if (in_flight_ || pumping_ || reader_.begun() || !pending_in_.empty()) close_after_ = true;
  else finish(lock);
}

bool Connection::owes() const {
  Lock lock(mutex_);
  return fd_ >= 0 && (in_flight_ || (!out_.empty() && !streamed_));
}

bool Connection::may_ask() const {
  Lock lock(mutex_);
  return fd_ >= 0 && !closing_ && !close_after_ && !peer_gone_ && owner_.waits_for_peers();
}

void Connection::cut(std::string_view reason) {
  Lock lock(mutex_);
  cut_locked(lock, reason);
}

void Connection::write(Lock& lock, std::string_view bytes) {
  if (fd_ < 0) return;
  if (out_.empty()) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno != EINTR) {
        break;
      }
    }
    if (bytes.empty()) return;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return cut_locked(lock, "peer_gone");
  }
  if (out_.size() - out_at_ + bytes.size() > limits_.max_unsent_bytes) return cut_locked(lock, "too_much_unsent");
  const bool first = out_.empty();
  out_.append(bytes);
  if (!first) return;
  set_deadline(limits_.write_timeout);
  watched_ = true;
  if (!writer_.watch(fd_, *this)) cut_locked(lock, "not_watched");
}

void Connection::on_writable() {
  Lock lock(mutex_);
  flush(lock);
}

void Connection::flush(Lock& lock) {
  while (fd_ >= 0 && out_at_ < out_.size()) {
    const auto sent = ::send(fd_, out_.data() + out_at_, out_.size() - out_at_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      out_at_ += static_cast<std::size_t>(sent);
      set_deadline(limits_.write_timeout);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!writer_.watch(fd_, *this)) cut_locked(lock, "not_watched");
      return;
    } else if (errno != EINTR) {
      return cut_locked(lock, "peer_gone");
    }
  }
  out_ = std::string();
  out_at_ = 0;
  if (fd_ < 0) return;
  if (closing_ && !in_flight_) finish(lock);
  else if (in_flight_) deadline_ms.store(never, std::memory_order_relaxed);
  else time_phase();
  settle(lock);
}

void Connection::finish(Lock& lock) {
  closing_ = true;
  pending_in_ = std::string();
  if (fd_ < 0 || !out_.empty() || lingering_) return;
  lingering_ = true;
  ::shutdown(fd_, SHUT_WR);
  set_deadline(linger_time);
  settle(lock);
}

void Connection::on_peer_gone() {
  Lock lock(mutex_);
  peer_gone_ = true;
  settle(lock);
}

/// Closes once the peer is gone and nothing is owed to it.
void Connection::settle(Lock& lock) {
  if (peer_gone_ && !in_flight_ && !pumping_ && pending_in_.empty() && out_.empty()) close_descriptor(lock);
}

void Connection::on_deadline(std::int64_t now) {
  Lock lock(mutex_);
  if (fd_ < 0 || deadline_ms.load(std::memory_order_relaxed) > now) return;
  if (!out_.empty()) return cut_locked(lock, "slow_reader");
  if (lingering_) return cut_locked(lock, "");
  if (in_flight_ || pumping_) return deadline_ms.store(never, std::memory_order_relaxed);
  if (reader_.begun()) write(lock, owner_.timed_out());
  finish(lock);
}

void Connection::cut_locked(Lock& lock, std::string_view reason) {
  if (fd_ < 0) return;
  if (!reason.empty()) owner_.on_cut(reason);
  closing_ = true;
  out_ = std::string();
  out_at_ = 0;
  pending_in_ = std::string();
  ::shutdown(fd_, SHUT_RDWR);  // whoever polls sees the end and lets go of his descriptor
  close_descriptor(lock);
}

void Connection::close_descriptor(Lock&) {
  if (fd_ < 0) return;
  if (watched_) writer_.unwatch(fd_);
  ::close(fd_);
  fd_ = -1;
  deadline_ms.store(never, std::memory_order_relaxed);
  writer_.remove(*this);
  owner_.on_closed();
}

}  // namespace onboarding::http

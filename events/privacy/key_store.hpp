// A key per user, wrapped by the master key. Erasing it makes every copy of the log forget that user.
// The embedded store is keys.db, apart from the log; with Kafka it is a compacted topic.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "events/domain/result.hpp"

namespace onboarding::privacy {

enum class Errc {
  unreachable = 1,  // the key store cannot be read or written now: answer 503
  erased,           // the key was erased: silence
  lost,             // the key is gone, and nobody erased it: an older keys.db lies under the log; 503, for operators
  forged,           // a sealed text does not open: wrong key, moved or altered
  bad_secret_file   // a secret's file is missing, readable by others or of the wrong size
};
std::error_code make_error_code(Errc);

/// 32 bytes, wiped when dropped. Never printed.
struct SealingKey {
  std::string id;  // 16 hex digits, random; each record names the key it is sealed with
  std::array<std::uint8_t, 32> bytes{};
  ~SealingKey();
};
using SealingKeyPtr = std::shared_ptr<const SealingKey>;

class KeyStore {
 public:
  virtual ~KeyStore() = default;
  using Obtained = std::function<void(result<SealingKeyPtr>)>;
  /// The user's key, made when there is none; durable before `done` is called (on a thread of the store, or the caller's
  /// when cached). `user` is the user key of the envelope, not the client's user_id.
  virtual void obtain(std::string user, Obtained done) = 0;
  /// An existing key, cached; may read the disk: not for actor threads. Errc::erased when it is gone (or never was).
  virtual result<SealingKeyPtr> find(std::string_view user, std::string_view key_id) = 0;
  /// Forgets all keys of the user, durably, also in the file's free pages, before `done`.
  virtual void erase(std::string user, std::function<void(result<void>)> done) = 0;

  using Confirm = std::function<void(std::function<void(result<void>)>)>;
  /// The same, once `confirm` has said that nobody else let the person back in; else all keys stay, and `done` gets its error. It may answer
  /// on any thread, or never: then nothing goes. A store that servers share asks once it knows which keys there are, and takes none that is
  /// made later; one that has a single server, as here, takes all.
  virtual void erase_if(std::string user, Confirm confirm, std::function<void(result<void>)> done) {
    confirm([this, user = std::move(user), done = std::move(done)](result<void> confirmed) {
      if (confirmed) erase(user, done);
      else done(std::move(confirmed));
    });
  }
};

}  // namespace onboarding::privacy

template <>
struct std::is_error_code_enum<onboarding::privacy::Errc> : std::true_type {};

#include "events/clock.hpp"

#include <sodium.h>
#include <sys/mman.h>

#include <cstring>

#include "events/domain/assertion.hpp"

namespace onboarding {
namespace {

class SystemClock final : public Clock {
 public:
  domain::Timestamp now() const override {
    return std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
  }
};

/// Random bytes of one thread, drawn many at a time: a system call for 16 of them costs more than what they are for. What
/// was handed out is wiped; after a fork the child finds its page empty and draws its own.
class RandomPage {
 public:
  RandomPage() {
    void* const made = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) return;
    if (::madvise(made, sizeof(Page), MADV_WIPEONFORK) == 0) page_ = static_cast<Page*>(made);
    else ::munmap(made, sizeof(Page));
  }
  ~RandomPage() {
    if (!page_) return;
    sodium_memzero(page_, sizeof(Page));
    ::munmap(page_, sizeof(Page));
  }
  RandomPage(const RandomPage&) = delete;
  RandomPage& operator=(const RandomPage&) = delete;

  void fill(std::span<std::uint8_t> bytes) {
    if (!page_ || bytes.size() > sizeof page_->bytes / 8) return randombytes_buf(bytes.data(), bytes.size());
    if (page_->left < bytes.size()) {
      randombytes_buf(page_->bytes, sizeof page_->bytes);
      page_->left = sizeof page_->bytes;
    }
    page_->left -= bytes.size();
    std::memcpy(bytes.data(), page_->bytes + page_->left, bytes.size());
    sodium_memzero(page_->bytes + page_->left, bytes.size());
  }

 private:
  struct Page {
    std::size_t left;  // 0 in a fresh page
    std::uint8_t bytes[2048];
  };
  Page* page_ = nullptr;  // null where the system has no such pages: nothing is kept then
};

class SystemRandom final : public RandomSource {
 public:
  SystemRandom() { ONBOARDING_ASSERT(sodium_init() >= 0, "the machine gives no randomness"); }
  void fill(std::span<std::uint8_t> bytes) override {
    thread_local RandomPage page;
    page.fill(bytes);
  }
};

}  // namespace

Clock& system_clock() {
  static SystemClock clock;
  return clock;
}

RandomSource& system_random() {
  static SystemRandom random;
  return random;
}

}  // namespace onboarding

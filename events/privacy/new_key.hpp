// How a sealing key comes to be; the same for every store. Private to this folder.
#pragma once

#include "events/clock.hpp"
#include "events/privacy/key_store.hpp"

namespace onboarding::privacy {

/// 32 random bytes under an id of 8 more.
SealingKeyPtr new_key(RandomSource&);

}  // namespace onboarding::privacy

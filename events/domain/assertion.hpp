// A broken invariant is a bug: say where and stop, in release too. Nothing is acknowledged by a process in doubt.
#pragma once

#include <cstdio>
#include <cstdlib>

#define ONBOARDING_ASSERT(condition, sentence)                                                                \
  do {                                                                                                        \
    if (!(condition)) [[unlikely]] {                                                                          \
      std::fprintf(stderr, "assertion failed at %s:%d: %s (%s)\n", __FILE__, __LINE__, sentence, #condition); \
      std::abort();                                                                                           \
    }                                                                                                         \
  } while (false)

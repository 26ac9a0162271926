// What back-ups and moves need of this folder: copies of keys.db, and a file's digest.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "events/domain/result.hpp"

namespace onboarding::privacy {

/// keys.db as it stands at one moment, also while another process writes it; on the disk before this returns. `to` must not exist.
result<void> copy_keys(const std::filesystem::path& from, const std::filesystem::path& to);

/// A copy of the keys in the topic becomes an embedded store with the same keys, whole or not at all. Nobody has it open.
result<void> keys_from_copy(const std::filesystem::path&, const std::string& topic,
                            const std::array<std::uint8_t, 32>& wrapping_key);

/// Hex SHA-256 of a file of any size.
result<std::string> sha256_of_file(const std::filesystem::path&);

}  // namespace onboarding::privacy

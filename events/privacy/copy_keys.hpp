// What a back-up needs of this folder: a copy of keys.db beside its writer, and a file's digest.
#pragma once

#include <filesystem>
#include <string>

#include "events/domain/result.hpp"

namespace onboarding::privacy {

/// keys.db as it stands at one moment, also while another process writes it; on the disk before this returns. `to` must not exist.
result<void> copy_keys(const std::filesystem::path& from, const std::filesystem::path& to);

/// Hex SHA-256 of a file of any size.
result<std::string> sha256_of_file(const std::filesystem::path&);

}  // namespace onboarding::privacy

// A secret in a file that only its owner may read. Private to this folder.
#pragma once

#include <filesystem>
#include <string>

#include "events/domain/result.hpp"

namespace onboarding::privacy {

/// The file's one line. When there is no file, `make`'s line is written first: whole or not at all, on disk before this
/// returns, mode 0600; when two make it at once, both read the one that came first. Errc::bad_secret_file when it is no plain
/// file, belongs to somebody else, or others may read it.
result<std::string> load_or_create_secret(const std::filesystem::path&, std::string (*make)());

/// Flushes a folder's entries: what was created or renamed in it is still there after a power cut.
result<void> sync_folder(const std::filesystem::path&);

}  // namespace onboarding::privacy

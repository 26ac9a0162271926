// A small file that is there as a whole or not at all, and after a crash, too.
#pragma once

#include <filesystem>
#include <string>

#include "events/domain/result.hpp"

namespace onboarding::app {

/// Mode 0600; durable when it returns. Errc::bad_data_folder.
result<void> replace_file(const std::filesystem::path& file, const std::string& content);

}  // namespace onboarding::app

// server-id in the data folder: by what name servers that share something know this one. Made at the first start: 32 random hex digits.
// Not that of the log, which several servers may have in common, nor in a back-up, so that what is restored from one is another
// server.
#pragma once

#include <filesystem>
#include <string>

#include "events/domain/result.hpp"

namespace onboarding {
class RandomSource;
namespace app {

/// Errc::bad_data_folder: it cannot be read or written, or is damaged.
result<std::string> server_id(const std::filesystem::path& data, RandomSource&);

}  // namespace app
}  // namespace onboarding

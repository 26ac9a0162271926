#include "infra/app/server/server_id.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "events/clock.hpp"
#include "infra/app/config/config.hpp"
#include "infra/app/server/replace_file.hpp"

namespace onboarding::app {
namespace {

constexpr std::size_t kBytes = 16;

}  // namespace

result<std::string> server_id(const std::filesystem::path& data, RandomSource& random) {
  const auto file = data / "server-id";
  result<std::string> id{std::string()};
  if (std::filesystem::exists(file)) {
    std::ifstream(file) >> *id;
    if (id->size() == 2 * kBytes && id->find_first_not_of("0123456789abcdef") == id->npos) return id;
    return failure(Errc::bad_data_folder, file.string() +
                                              " is damaged; delete it, and this server takes a new place among those that share "
                                              "limits (its old one comes free after a day)");
  }
  std::array<std::uint8_t, kBytes> bytes{};
  random.fill(bytes);
  for (const auto b : bytes) *id += fmt::format("{:02x}", b);
  if (auto written = replace_file(file, *id + "\n"); !written) return tl::unexpected(written.error());
  return id;
}

}  // namespace onboarding::app

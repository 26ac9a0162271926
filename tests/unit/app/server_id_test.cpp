#include "infra/app/server/server_id.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "events/clock.hpp"

namespace onboarding::app {
namespace {

TEST(ServerId, is_made_once_and_a_damaged_one_is_told) {
  std::string name = "/tmp/server_id_XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(name.data()), other = folder / "other";
  std::filesystem::create_directory(other);
  const auto id = server_id(folder, system_random());
  ASSERT_TRUE(id);
  EXPECT_EQ(server_id(folder, system_random()), *id);
  EXPECT_NE(server_id(other, system_random()), *id);
  std::ofstream(folder / "server-id") << "12";
  const auto damaged = server_id(folder, system_random());
  ASSERT_FALSE(damaged);
  EXPECT_NE(damaged.error().message().find("server-id is damaged; delete it"), std::string::npos);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace onboarding::app

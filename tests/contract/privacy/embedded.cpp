#include "events/privacy/memory_key_store.hpp"
#include "events/privacy/sqlite_key_store.hpp"
#include "tests/contract/privacy/key_store_contract.hpp"
#include "tests/unit/privacy/temporary_folder.hpp"

namespace onboarding::privacy {
namespace {

class Memory final : public KeyStorePlace {
 public:
  std::unique_ptr<KeyStore> open() override { return std::make_unique<MemoryKeyStore>(); }
};

class Sqlite final : public KeyStorePlace {
 public:
  std::unique_ptr<KeyStore> open() override { return SqliteKeyStore::open(folder_.path / "keys.db", {1, 2, 3}).value(); }

 private:
  TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Embedded, KeyStoreContract,
                         testing::Values(KeyStoreAdapter{"memory", [] { return std::make_unique<Memory>(); }, false},
                                         KeyStoreAdapter{"sqlite", [] { return std::make_unique<Sqlite>(); }}),
                         [](const auto& adapter) { return adapter.param.name; });

}  // namespace
}  // namespace onboarding::privacy

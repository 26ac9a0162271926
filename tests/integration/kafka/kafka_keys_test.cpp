// What the key store in Kafka does when servers, copies, brokers and erasures meet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include "events/codec/codec.hpp"
#include "events/fault_point.hpp"
#include "events/log/kafka/client.hpp"
#include "events/log/memory/memory_log.hpp"
#include "events/privacy/kafka/kafka_key_store.hpp"
#include "events/privacy/sqlite_key_store.hpp"
#include "tests/contract/privacy/key_store_contract.hpp"
#include "tests/integration/kafka/own_broker.hpp"

namespace onboarding::privacy {
namespace {

using testing::HasSubstr;

constexpr std::array<std::uint8_t, 32> wrapping{1, 2, 3};

bool is(Errc code, const result<SealingKeyPtr>& found) { return !found && found.error().code == code; }

struct KafkaKeys : testing::Test {
  KafkaKeyStoreOptions options_of(const std::string& server) {
    KafkaKeyStoreOptions options;
    options.brokers = brokers;
    options.topic = topic;
    options.partitions = 3;
    options.file = folder.path / server;
    options.answer_within = milliseconds(8000);
    options.repeat_after = milliseconds(300);
    options.on_note = notes.taker();
    return options;
  }
  result<std::unique_ptr<KafkaKeyStore>> try_open(KafkaKeyStoreOptions options, bool owner = true) {
    return KafkaKeyStore::open(std::move(options), wrapping, log, [owner](std::uint32_t) { return owner; });
  }
  std::unique_ptr<KafkaKeyStore> open(const std::string& server, bool owner = true) {
    auto store = try_open(options_of(server), owner);
    if (!store) throw std::runtime_error(store.error().message());
    return std::move(*store);
  }
  /// A record of the user's session, sealed with the key.
  void write(const std::string& user, const SealingKey& key, std::uint64_t version, const domain::Event& event) {
    codec::RecordMeta meta;
    meta.user = user;
    log::Append append;
    append.partition = 1;
    append.stream = "session of " + user;
    append.expected_version = version;
    append.record_id = std::string(16, '\0');
    system_random().fill({reinterpret_cast<std::uint8_t*>(append.record_id.data()), 16});
    append.count = 1;
    append.payload = codec::encode(meta, append.stream, version + 1, {}, {&event, 1}, &key).value();
    std::promise<bool> written;
    log.append(std::move(append),
               [&](log::AppendOutcome outcome) { written.set_value(std::holds_alternative<log::Durable>(outcome)); });
    ASSERT_TRUE(written.get_future().get());
  }
  /// As a server does that takes the partition over.
  void follow(KafkaKeyStore& store) {
    std::promise<void> followed;
    store.when_followed(1, log.head(1), [&] { followed.set_value(); });
    ASSERT_EQ(followed.get_future().wait_for(patience), std::future_status::ready);
  }
  /// What the topic holds under a key: the newest value, "" when it was deleted, nothing when it never was.
  std::optional<std::string> in_topic(const std::string& user, const std::string& key_id) {
    const std::string listed = output_of("kcat -C -e -q -b " + brokers + " -t " + topic + " -f '%k=%S=%s\\n' 2>/dev/null");
    const std::string name = "key " + user + " " + key_id + "=";
    const auto last = listed.rfind(name);
    if (last == listed.npos) return std::nullopt;
    const auto value = listed.find('=', last + name.size()) + 1;
    return listed.substr(value, listed.find('\n', value) - value);
  }
  void put_in_topic(const std::string& user, const std::string& key_id, const std::string& value) {
    std::ofstream(folder.path / "late") << "key " << user << " " << key_id << "=" << value << "\n";
    const auto partition = partition_of_user(user, 3);
    output_of("kcat -P -K= -b " + brokers + " -t " + topic + " -p " + std::to_string(partition) + " <" +
              (folder.path / "late").string());
  }

  ~KafkaKeys() override { FaultPoint::arm(""); }

  Folder folder;
  std::string brokers = shared_broker();
  std::string topic = folder.path.filename().string() + "-keys";
  log::MemoryLog log{log::make_memory_store(3)};
  Notes notes;
};

TEST_F(KafkaKeys, of_one_server_open_at_another_at_once_and_an_erasure_reaches_it) {
  auto first = open("first"), second = open("second");
  for (int i = 0; i < 20; ++i) {
    const std::string user = "user" + std::to_string(i);
    const auto key = obtain(*first, user).value();
    EXPECT_EQ(second->find(user, key->id).value()->bytes, key->bytes);
  }
  const auto zoe = obtain(*second, "zoe").value();
  EXPECT_EQ(first->find("zoe", zoe->id).value()->bytes, zoe->bytes);
  ASSERT_TRUE(erase(*first, "zoe"));
  EXPECT_EQ(first->find("zoe", zoe->id).error().code, Errc::erased);
  EXPECT_TRUE(comes_true([&] { return is(Errc::erased, second->find("zoe", zoe->id)); })) << "though it was in memory";
  EXPECT_NE(obtain(*second, "zoe").value()->id, zoe->id);
  EXPECT_EQ(in_topic("zoe", zoe->id), "") << "deleted";
}

TEST_F(KafkaKeys, are_read_anew_when_the_copy_is_damaged_or_gone_also_under_the_server) {
  auto store = open("server");
  const auto zoe = obtain(*store, "zoe").value(), ann = obtain(*store, "ann").value();
  ASSERT_TRUE(erase(*store, "ann"));
  store.reset();
  for (const bool gone : {true, false}) {
    if (gone) fs::remove(folder.path / "server");
    else std::ofstream(folder.path / "server", std::ios::in | std::ios::binary).seekp(4096) << std::string(4096, 'x');
    store = open("server");
    EXPECT_EQ(store->find("zoe", zoe->id).value()->bytes, zoe->bytes) << gone;
    EXPECT_EQ(store->find("ann", ann->id).error().code, Errc::erased) << gone;
    EXPECT_EQ(obtain(*store, "zoe").value()->id, zoe->id) << gone;
    store.reset();
  }
  EXPECT_THAT(notes.all(), HasSubstr("damaged"));
  store = open("server");
  fs::remove(folder.path / "server");
  EXPECT_TRUE(comes_true([&] { return fs::exists(folder.path / "server") && store->find("zoe", zoe->id).has_value(); }));
  EXPECT_TRUE(comes_true([&] { return obtain(*store, "eve").has_value(); }));
  EXPECT_EQ(store->find("ann", ann->id).error().code, Errc::erased);
}

TEST_F(KafkaKeys, are_refused_with_another_master_key) {
  auto first = open("first");
  const auto zoe = obtain(*first, "zoe").value();
  auto other = KafkaKeyStore::open(options_of("other"), {9}, log, [](std::uint32_t) { return true; });
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Errc::bad_secret_file);
  EXPECT_THAT(other.error().message(), HasSubstr("copy master.key"));
  EXPECT_EQ(obtain(*first, "zoe").value()->id, zoe->id);
  EXPECT_EQ(KafkaKeyStore::open(options_of("first"), wrapping, log, [](std::uint32_t) { return true; }).error().code,
            Errc::unreachable)
      << "a copy has one server";
}

TEST_F(KafkaKeys, of_an_embedded_store_are_moved_into_the_topic_but_for_what_it_has_or_was_erased) {
  std::vector<std::string> ids;
  {
    auto embedded = SqliteKeyStore::open(folder.path / "server", wrapping).value();
    for (int i = 0; i < 600; ++i) ids.push_back(obtain(*embedded, "user" + std::to_string(i)).value()->id);
  }
  auto other = open("other");
  write("user7", {ids[7], {}}, 0, domain::UserErased{});
  auto store = open("server");
  EXPECT_THAT(notes.all(), HasSubstr("599 keys"));
  for (const int i : {0, 6, 8, 599}) {
    const std::string user = "user" + std::to_string(i), id = ids[static_cast<std::size_t>(i)];
    EXPECT_EQ(obtain(*store, user).value()->id, id);
    EXPECT_TRUE(other->find(user, id));
  }
  EXPECT_EQ(store->find("user7", ids[7]).error().code, Errc::erased);
  EXPECT_EQ(in_topic("user7", ids[7]), std::nullopt);
  EXPECT_FALSE(fs::exists(folder.path / "server.embedded"));
  EXPECT_EQ(SqliteKeyStore::open(folder.path / "server", wrapping).error().code, Errc::unreachable) << "in use";
  ASSERT_TRUE(erase(*store, "user0"));
  store.reset();
  EXPECT_EQ(SqliteKeyStore::open(folder.path / "server", wrapping).error().code, Errc::bad_secret_file)
      << "a copy is no store of its own";
  store = open("server");
  EXPECT_EQ(store->find("user0", ids[0]).error().code, Errc::erased) << "it is moved once";
}

TEST_F(KafkaKeys, that_a_counted_erasure_names_seal_nothing_any_more_and_are_deleted_by_the_owner_as_often_as_they_come_back) {
  auto owner = open("owner"), other = open("other", false);
  const auto zoe = obtain(*owner, "zoe").value();
  const std::string wrapped = in_topic("zoe", zoe->id).value();
  ASSERT_EQ(wrapped.size(), 144U);
  domain::UserErased erased;
  // The owner dies between the event and the key: nobody calls erase().
  write("zoe", *zoe, 0, domain::SessionResumed{});
  write("zoe", *zoe, 1, erased);
  follow(*owner);
  EXPECT_NE(obtain(*owner, "zoe").value()->id, zoe->id);
  EXPECT_TRUE(comes_true([&] { return in_topic("zoe", zoe->id) == ""; }));
  EXPECT_TRUE(comes_true([&] { return is(Errc::erased, other->find("zoe", zoe->id)); }));

  put_in_topic("zoe", zoe->id, wrapped);  // a stalled owner's late key
  EXPECT_TRUE(comes_true([&] { return in_topic("zoe", zoe->id) == ""; }));
  EXPECT_EQ(owner->find("zoe", zoe->id).error().code, Errc::erased);
  put_in_topic("zoe", zoe->id, wrapped);
  auto late = open("late", false);
  EXPECT_TRUE(comes_true([&] { return is(Errc::erased, late->find("zoe", zoe->id)); }));
  EXPECT_TRUE(comes_true([&] { return in_topic("zoe", zoe->id) == ""; }));
  EXPECT_TRUE(obtain(*late, "zoe"));
}

/// An erasure that stops where it asks whether it may.
struct ErasureThatAsks {
  ErasureThatAsks(KafkaKeyStore& store, const std::string& user) {
    store.erase_if(
        user, [asked = asked](auto go_on) { asked->set_value(std::move(go_on)); },
        [ended = ended](auto how) { ended->set_value(std::move(how)); });
    auto question = asked->get_future();
    if (question.wait_for(patience) != std::future_status::ready) throw std::runtime_error("the erasure never asked");
    confirmed = question.get();
  }
  result<void> goes_on(result<void> how) {
    confirmed(std::move(how));
    auto end = ended->get_future();
    if (end.wait_for(patience) != std::future_status::ready) throw std::runtime_error("the erasure never ended");
    return end.get();
  }

  const std::shared_ptr<std::promise<std::function<void(result<void>)>>> asked =
      std::make_shared<std::promise<std::function<void(result<void>)>>>();
  const std::shared_ptr<std::promise<result<void>>> ended = std::make_shared<std::promise<result<void>>>();
  std::function<void(result<void>)> confirmed;
};

TEST_F(KafkaKeys, of_who_has_come_back_outlive_an_erasure_that_began_before) {
  auto owner = open("owner"), next = open("next");
  const auto zoe = obtain(*owner, "zoe").value();
  ErasureThatAsks erasure(*owner, "zoe");
  write("zoe", *zoe, 0, domain::SessionResumed{});
  write("zoe", *zoe, 1, domain::UserErased{});
  follow(*next);
  const auto back = obtain(*next, "zoe").value();
  ASSERT_NE(back->id, zoe->id);
  EXPECT_TRUE(erasure.goes_on({}));
  EXPECT_EQ(owner->find("zoe", zoe->id).error().code, Errc::erased);
  EXPECT_TRUE(comes_true([&] { return is(Errc::erased, next->find("zoe", zoe->id)); }));
  for (auto* store : {&owner, &next}) EXPECT_EQ((*store)->find("zoe", back->id).value()->bytes, back->bytes);
  EXPECT_EQ(in_topic("zoe", back->id).value_or("").size(), 144U);
  EXPECT_EQ(obtain(*next, "zoe").value()->id, back->id);
}

TEST_F(KafkaKeys, that_were_there_when_somebody_was_erased_or_a_partition_was_taken_seal_nothing_of_who_comes_back) {
  auto owner = open("owner"), next = open("next");
  // Of a server that was replaced: no counted record names it.
  const auto unnamed = obtain(*owner, "zoe").value();
  ASSERT_TRUE(next->find("zoe", unnamed->id));
  write("zoe", {"0123456789abcdef", {}}, 0, domain::SessionResumed{});
  write("zoe", {"0123456789abcdef", {}}, 1, domain::UserErased{});
  ErasureThatAsks erasure(*owner, "zoe");
  follow(*next);
  const auto back = obtain(*next, "zoe").value();
  EXPECT_NE(back->id, unnamed->id);
  EXPECT_EQ(obtain(*next, "zoe").value()->id, back->id) << "one is enough";
  EXPECT_TRUE(next->find("zoe", unnamed->id)) << "it still opens what it sealed";
  EXPECT_EQ(obtain(*next, "zoe").value()->id, back->id) << "also when both were read in between";
  EXPECT_TRUE(erasure.goes_on({}));
  EXPECT_TRUE(next->find("zoe", back->id));
  EXPECT_EQ(owner->find("zoe", unnamed->id).error().code, Errc::erased);

  ErasureThatAsks another(*owner, "zoe");  // it had the partition for a while
  follow(*next);
  const auto again = obtain(*next, "zoe").value();
  EXPECT_NE(again->id, back->id);
  EXPECT_TRUE(another.goes_on({}));
  EXPECT_TRUE(next->find("zoe", again->id));
  EXPECT_EQ(obtain(*next, "zoe").value()->id, again->id);
  const auto ann = obtain(*next, "ann").value();
  follow(*next);
  EXPECT_EQ(obtain(*next, "ann").value()->id, ann->id) << "who was never erased keeps theirs";
}

TEST_F(KafkaKeys, of_who_comes_back_as_a_partition_is_taken_over_are_made_again) {
  Broker broker;
  brokers = broker.brokers;
  auto store = open("server");
  ASSERT_TRUE(obtain(*store, "zoe"));
  ASSERT_TRUE(erase(*store, "zoe"));
  broker.freeze();
  std::promise<result<SealingKeyPtr>> obtained;
  store->obtain("zoe", [&](result<SealingKeyPtr> key) { obtained.set_value(std::move(key)); });
  follow(*store);
  broker.thaw();
  auto key = obtained.get_future();
  ASSERT_EQ(key.wait_for(patience), std::future_status::ready);
  const auto back = key.get();
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(obtain(*store, "zoe").value()->id, (*back)->id);
}

TEST_F(KafkaKeys, that_cannot_be_reached_are_not_erased) {
  Broker broker;
  brokers = broker.brokers;
  auto options = options_of("server");
  options.answer_within = milliseconds(1500);
  auto store = try_open(options).value();
  const auto zoe = obtain(*store, "zoe").value(), ann = obtain(*store, "ann").value();
  const auto bob = obtain(*store, "bob").value();
  ErasureThatAsks erasure(*store, "bob");
  broker.freeze();
  EXPECT_FALSE(erasure.goes_on({}));
  EXPECT_EQ(obtain(*store, "bob").error().code, Errc::unreachable) << "his deletion is on its way";
  EXPECT_EQ(obtain(*store, "zoe").value()->id, zoe->id);
  EXPECT_EQ(store->find("ann", ann->id).value()->bytes, ann->bytes);
  EXPECT_EQ(store->find("eve", "0123456789abcdef").error().code, Errc::unreachable);
  EXPECT_EQ(obtain(*store, "new").error().code, Errc::unreachable);
  EXPECT_EQ(erase(*store, "ann").error().code, Errc::unreachable);
  broker.thaw();
  EXPECT_TRUE(comes_true([&] { return obtain(*store, "new").has_value(); }));
  EXPECT_EQ(store->find("eve", "0123456789abcdef").error().code, Errc::erased);
  EXPECT_TRUE(comes_true([&] { return erase(*store, "ann").has_value(); }));
  EXPECT_EQ(store->find("ann", ann->id).error().code, Errc::erased);
  EXPECT_TRUE(comes_true([&] { return obtain(*store, "bob").has_value(); }));
  EXPECT_NE(obtain(*store, "bob").value()->id, bob->id);
}

TEST_F(KafkaKeys, that_another_process_reads_from_the_servers_copy_are_unreachable_until_they_are_there) {
  auto store = open("server");
  const auto zoe = obtain(*store, "zoe").value(), ann = obtain(*store, "ann").value();
  auto reader = SqliteKeyStore::open_read_only(folder.path / "server", wrapping).value();
  EXPECT_EQ(reader->find("zoe", zoe->id).value()->bytes, zoe->bytes);
  EXPECT_EQ(reader->find("eve", "0123456789abcdef").error().code, Errc::unreachable) << "it may be on its way";
  EXPECT_EQ(reader->find("ann", ann->id).value()->bytes, ann->bytes);
  ASSERT_TRUE(erase(*store, "ann"));
  EXPECT_EQ(reader->find("ann", ann->id).error().code, Errc::erased);
}

TEST_F(KafkaKeys, are_unreachable_for_a_moment_when_a_message_or_the_producer_fails) {
  auto store = open("server");
  FaultPoint::arm("keys.kafka.before_send=error@1");
  EXPECT_EQ(obtain(*store, "zoe").error().code, Errc::unreachable);
  EXPECT_TRUE(obtain(*store, "zoe"));
  FaultPoint::arm("keys.kafka.producer_fails=error@1");
  EXPECT_TRUE(comes_true([&] { return obtain(*store, "ann").has_value(); }));
  EXPECT_THAT(notes.all(), HasSubstr("made anew"));
  FaultPoint::arm("keys.before_commit=error@1");
  (void)obtain(*store, "eve");
  EXPECT_TRUE(comes_true([&] { return obtain(*store, "eve").has_value(); })) << "what was not written is read again";
  FaultPoint::arm("");
  EXPECT_TRUE(comes_true([&] { return obtain(*store, "zoe").has_value(); }));
}

TEST_F(KafkaKeys, are_not_kept_in_a_topic_that_would_lose_them_or_keep_them_too_long) {
  using namespace log::kafka;
  const auto consumer = Client::make(Client::Side::consumer, reading_settings(brokers, {}), {}).value();
  ASSERT_TRUE(find_or_make_topic(*consumer, {topic, 3, true, 1, keeps_everything()}, patience, brokers));
  auto refused = try_open(options_of("server"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("cleanup.policy is delete and must be compact"));
  Settings slow = keeps_newest();
  for (auto& [name, value] : slow)
    if (name == "max.compaction.lag.ms") value = "7200000";
  topic += "-slow";
  ASSERT_TRUE(find_or_make_topic(*consumer, {topic, 3, true, 1, slow}, patience, brokers));
  refused = try_open(options_of("server"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("max.compaction.lag.ms"));
}

TEST_F(KafkaKeys, that_were_erased_are_gone_from_the_brokers_disk_once_its_cleaner_has_run) {
  Broker broker;
  brokers = broker.brokers;
  using namespace log::kafka;
  Settings quick = keeps_newest();
  for (auto& [name, value] : quick)
    if (name == "max.compaction.lag.ms") value = "1000";
  {
    const auto consumer = Client::make(Client::Side::consumer, reading_settings(brokers, {}), {}).value();
    ASSERT_TRUE(find_or_make_topic(*consumer, {topic, 3, true, 1, quick}, patience, brokers));
  }
  auto options = options_of("server");
  options.contact_every = milliseconds(500);
  auto store = try_open(options).value();
  const auto zoe = obtain(*store, "zoe").value(), ann = obtain(*store, "ann").value();
  const std::string wrapped = in_topic("zoe", zoe->id).value(), kept = in_topic("ann", ann->id).value();
  ASSERT_TRUE(comes_true([&] { return broker.holds(wrapped); })) << "else this test proves nothing";
  ASSERT_TRUE(erase(*store, "zoe"));
  EXPECT_TRUE(comes_true([&] { return !broker.holds(wrapped); }));
  EXPECT_TRUE(broker.holds(kept));
}

}  // namespace
}  // namespace onboarding::privacy

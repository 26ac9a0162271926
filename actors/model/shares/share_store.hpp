// The port to whoever keeps the books of shared limits for all servers. The adapter on PostgreSQL is projections/postgres/share_store.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "actors/model/shares/share_book.hpp"
#include "events/domain/result.hpp"

namespace onboarding::model {

struct ShareRequest {
  std::string server_id;  // of the data folder: the same after a restart
  struct Want {
    std::int64_t limit = 0;   // the whole
    std::int64_t wanted = 0;  // beyond the floor; 0 gives the share back
  };
  std::map<std::string, Want> wants;  // by the limit's name
};

struct ShareAnswer {
  std::optional<std::uint32_t> slot;  // none: there are more servers than max_servers
  Shares shares;                      // beyond the floor
};

class ShareStore {
 public:
  virtual ~ShareStore() = default;
  using Done = std::function<void(result<ShareAnswer>)>;
  /// One transaction over all limits. Asynchronous; `done` exactly once, on a thread of the store. An error: nobody can say
  /// what was lent; the holder goes on with what it has until that ends.
  virtual void renew(ShareRequest, Done) = 0;
};

}  // namespace onboarding::model

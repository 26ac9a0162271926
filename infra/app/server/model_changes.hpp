// What operators change of the model supervisor at run time, kept in the data folder so that a restart does not undo it:
// model-changes.json, mode 0600, above the configuration. Take a provider's change back by deleting the file, or by changing it again.
#pragma once

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "actors/model/control.hpp"

namespace onboarding::app {

class ModelChanges final : public model::Control {
 public:
  /// Errc::bad_data_folder when the file is there and cannot be read: what an operator decided is not dropped in silence.
  static result<std::unique_ptr<ModelChanges>> load(const std::filesystem::path& data);

  /// Puts what was changed earlier over the configuration. These are the providers that can be changed.
  void apply(std::vector<model::ProviderSettings>&, model::QueueSettings&);
  /// The supervisor that runs; must outlive every call.
  void attach(model::Control& running) { running_ = &running; }

  void status(Done done) override { running_->status(std::move(done)); }
  /// Written down first, on the caller's thread (which may be kept by the disk), then carried out: what was answered holds after a
  /// kill -9, too.
  void change(model::ProviderChange, Done) override;
  void set_queue_mode(model::QueueMode, Done) override;
  const std::vector<std::string>& plans() const override { return running_->plans(); }

 private:
  struct Kept;
  explicit ModelChanges(std::shared_ptr<Kept> kept) : kept_(std::move(kept)) {}

  std::shared_ptr<Kept> kept_;
  std::set<std::string> known_;
  model::Control* running_ = nullptr;
};

}  // namespace onboarding::app

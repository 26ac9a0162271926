#include "events/codec/codec.hpp"
#include "projections/models/models.hpp"
#include "projections/models/rows.hpp"

namespace onboarding::projections {

namespace {

using namespace rows;

enum ModelTable : std::size_t { flow_fields };
namespace field {
enum Column : std::size_t { flow, flow_version, place, name, type, required };
}

std::vector<Table> flow_tables() {
  return {{.name = "flow_fields",
           .columns = {{"flow", "text", Combine::key},
                       {"flow_version", "integer", Combine::key},
                       {"place", "integer", Combine::key},
                       {"field", "text"},
                       {"type", "text"},
                       {"required", "boolean"}}}};
}

class FlowsProjection : public NamedProjection {
 public:
  FlowsProjection() : NamedProjection("flows", 1, flow_tables()) {}

  result<void> apply(const codec::DecodedEvent& event, RowOperations& out) const override {
    const auto* published = std::get_if<domain::FlowPublished>(&event.recorded.event);
    if (published == nullptr) return {};
    const auto flow = codec::parse_flow(published->definition);
    if (!flow) return tl::unexpected(flow.error());
    std::int64_t place = 0;
    for (const domain::FieldSpec& spec : flow->fields) {
      Row(flow_fields, published->name, std::int64_t{published->version}, ++place)
          .set(field::name, spec.name)
          .set(field::type, std::string(domain::to_string(spec.type)))
          .set(field::required, spec.required)
          .into(out);
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<Projection> make_flows_projection() { return std::make_unique<FlowsProjection>(); }

}  // namespace onboarding::projections

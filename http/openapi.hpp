// The OpenAPI document: written by hand in openapi.yaml, embedded, served as JSON.
#pragma once

#include <rapidjson/document.h>

#include <string>
#include <string_view>

#include "events/domain/result.hpp"

namespace onboarding::http {

/// The part of YAML that openapi.yaml is written in: block mappings and sequences, flow ones on one line, plain and
/// double-quoted scalars, comments. For our own file, not for anybody's; the detail of an error names the line.
result<rapidjson::Document> parse_yaml(std::string_view text);

/// openapi.yaml as JSON.
const std::string& openapi_json();

}  // namespace onboarding::http

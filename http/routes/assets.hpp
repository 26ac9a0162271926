// The files of web/ and openapi.yaml, as they were when the program was built.
#pragma once

#include <string_view>

namespace onboarding::http {

/// By file name, e.g. "chat.js". Which files there are is settled at build time; any other name is a bug.
std::string_view asset(std::string_view file_name);

}  // namespace onboarding::http

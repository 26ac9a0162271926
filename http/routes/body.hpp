// Reading a JSON body member by member, so that one answer names all that is wrong with it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "events/codec/json.hpp"
#include "http/message.hpp"

namespace onboarding::http {

class BodyReader {
 public:
  /// An absent body is an empty object.
  static result<BodyReader> parse(const std::string& body);

  /// The member as text of at most max_bytes; nullopt when it is absent or null; wrong ones are noted.
  std::optional<std::string> text(std::string_view name, std::size_t max_bytes);
  /// As text(), and without control characters: what is shown in a line, or compared, holds none.
  std::optional<std::string> line(std::string_view name, std::size_t max_bytes);
  /// As text(), and made of these characters only, not empty.
  std::optional<std::string> word(std::string_view name, std::size_t max_bytes, std::string_view characters);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::uint64_t> whole(std::string_view name, std::uint64_t most);
  /// Any other member is noted as unknown: a change that is misspelt must not look as if it was made.
  void only(std::initializer_list<std::string_view> names);
  std::string required_text(std::string_view name, std::size_t max_bytes);
  /// Of a member that is well-formed and wrong all the same.
  void note(std::string_view name, std::string detail);

  bool valid() const { return errors_.empty(); }
  Problem problem() { return problem_of(Errc::invalid, {}, std::move(errors_)); }
  /// Hex SHA-256 of the body in canonical form.
  std::string fingerprint() const;

 private:
  explicit BodyReader(rapidjson::Document document) : document_(std::move(document)) {}

  rapidjson::Document document_;
  std::vector<InvalidMember> errors_;
};

/// The Idempotency-Key, 1 to 255 visible ASCII characters. Answers 400 and returns false for anything else.
bool idempotency_key(const Responder&, std::optional<std::string>& key);

}  // namespace onboarding::http

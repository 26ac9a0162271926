#include "http/reader.hpp"

#include <gtest/gtest.h>

namespace onboarding::http {
namespace {

using State = RequestReader::State;

constexpr std::size_t body_limit = 64;

/// Feeds all bytes, in pieces of at most `piece`; stops at the first whole request or refusal. Returns what was consumed.
std::size_t feed(RequestReader& reader, std::string_view bytes, std::size_t piece = SIZE_MAX) {
  std::size_t at = 0;
  while (reader.state() != State::complete && reader.state() != State::failed) {
    if (reader.state() == State::head_done) {
      reader.accept_body(body_limit);
      continue;
    }
    if (at == bytes.size()) break;
    at += reader.feed(bytes.substr(at, std::min(piece, bytes.size() - at)));
  }
  return at;
}

std::string with(std::string_view fields, std::string_view body = {}, std::string_view line = "POST /a HTTP/1.1") {
  return std::string(line) + "\r\nHost: h\r\n" + std::string(fields) + "\r\n" + std::string(body);
}

TEST(RequestReader, reads_a_request_whatever_the_pieces_it_comes_in) {
  const std::string text = with("X-A:  some value \t\r\nContent-Length: 5\r\n", "hello");
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    RequestReader reader;
    EXPECT_EQ(feed(reader, text + "GET", piece), text.size());
    ASSERT_EQ(reader.state(), State::complete) << piece;
    const auto request = reader.take();
    EXPECT_EQ(request.method(), "POST");
    EXPECT_EQ(request.target(), "/a");
    EXPECT_EQ(request.header("x-a"), "some value");
    EXPECT_EQ(request.body, "hello");
    EXPECT_TRUE(request.keep_alive);
    EXPECT_FALSE(reader.begun());
  }
}

TEST(RequestReader, reads_a_chunked_body_split_at_every_byte) {
  const std::string text =
      with("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0A;ext=\"x\"\r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n");
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    RequestReader reader;
    const auto first = feed(reader, text.substr(0, cut));
    ASSERT_EQ(first, cut);
    ASSERT_EQ(feed(reader, text.substr(cut)), text.size() - cut);
    ASSERT_EQ(reader.state(), State::complete) << cut;
    EXPECT_EQ(reader.take().body, "hello0123456789");
  }
}

TEST(RequestReader, leaves_what_belongs_to_the_next_request) {
  RequestReader reader;
  const std::string first = with("Content-Length: 2\r\n", "ab");
  EXPECT_EQ(feed(reader, first + first), first.size());
  reader.take();
  EXPECT_EQ(feed(reader, "\r\n" + first), first.size() + 2) << "one empty line before a request is read over";
  EXPECT_EQ(reader.state(), State::complete);
}

struct Refused {
  std::string what, bytes;
  ReaderErrc error;
};

class Refusals : public ::testing::TestWithParam<Refused> {};

TEST_P(Refusals, are_the_same_in_one_piece_and_byte_by_byte) {
  for (const std::size_t piece : {SIZE_MAX, std::size_t{1}, std::size_t{7}}) {
    RequestReader reader;
    feed(reader, GetParam().bytes, piece);
    ASSERT_EQ(reader.state(), State::failed) << GetParam().what << ", pieces of " << piece;
    EXPECT_EQ(describe(reader.error()).name, describe(GetParam().error).name) << GetParam().what;
  }
}

using enum ReaderErrc;
INSTANTIATE_TEST_SUITE_P(
    RequestReader, Refusals,
    ::testing::Values(
        Refused{"two differing lengths", with("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), bad_content_length},
        Refused{"two equal lengths", with("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), bad_content_length},
        Refused{"a list of lengths", with("Content-Length: 5, 5\r\n", "hello"), bad_content_length},
        Refused{"a signed length", with("Content-Length: +5\r\n", "hello"), bad_content_length},
        Refused{"a negative length", with("Content-Length: -5\r\n", "hello"), bad_content_length},
        Refused{"a hexadecimal length", with("Content-Length: 0x5\r\n", "hello"), bad_content_length},
        Refused{"an empty length", with("Content-Length:\r\n", "hello"), bad_content_length},
        Refused{"a length and a coding", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                bad_content_length},
        Refused{"white space before the colon", with("Content-Length : 5\r\n", "hello"), bad_field},
        Refused{"a folded line", with("A: b\r\n c\r\n"), bad_field}, Refused{"an empty name", with(": b\r\n"), bad_field},
        Refused{"a line without a colon", with("nonsense\r\n"), bad_field},
        Refused{"a NUL in a value", with(std::string("A: b\0c\r\n", 8)), bad_field},
        Refused{"a bare CR in a value", with("A: b\rc\r\n"), bad_field},
        Refused{"a bare LF after a field", with("A: b\n"), bad_line_ending},
        Refused{"a bare LF after the request line", "GET / HTTP/1.1\nHost: h\r\n\r\n", bad_line_ending},
        Refused{"a lone LF instead of the empty line", "GET / HTTP/1.1\r\nHost: h\r\n\n", bad_line_ending},
        Refused{"no host", "GET / HTTP/1.1\r\n\r\n", bad_host}, Refused{"two hosts", with("Host: h\r\n"), bad_host},
        Refused{"a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", bad_host},
        Refused{"a host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", bad_host},
        Refused{"two hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", bad_host},
        Refused{"another coding", with("Transfer-Encoding: gzip\r\n"), unsupported_transfer_coding},
        Refused{"chunked and another", with("Transfer-Encoding: gzip, chunked\r\n"), bad_transfer_encoding},
        Refused{"chunked twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), bad_transfer_encoding},
        Refused{"chunked with a vertical tab",
                with("Transfer-Encoding: \x0b"
                     "chunked\r\n"),
                bad_field},
        Refused{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", bad_transfer_encoding},
        Refused{"a chunk without a size", with("Transfer-Encoding: chunked\r\n", "\r\n"), bad_chunk},
        Refused{"a chunk size with a sign", with("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n"), bad_chunk},
        Refused{"a chunk size with 0x", with("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n"), bad_chunk},
        Refused{"a chunk size with a space", with("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n"), bad_chunk},
        Refused{"a chunk size that overflows", with("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n"),
                bad_chunk},
        Refused{"a chunk longer than its size", with("Transfer-Encoding: chunked\r\n", "4\r\nhello\r\n"), bad_chunk},
        Refused{"a chunk size ended by a bare LF", with("Transfer-Encoding: chunked\r\n", "5\nhello\r\n"), bad_line_ending},
        Refused{"chunk data ended by a bare LF", with("Transfer-Encoding: chunked\r\n", "5\r\nhello\n0\r\n\r\n"), bad_chunk},
        Refused{"an endless chunk extension", with("Transfer-Encoding: chunked\r\n", "5;" + std::string(300, 'a') + "\r\n"),
                bad_chunk},
        Refused{"a malformed trailer", with("Transfer-Encoding: chunked\r\n", "0\r\nA : b\r\n\r\n"), bad_field},
        Refused{"trailers without end",
                with(
                    "Transfer-Encoding: chunked\r\n", "0\r\n" +
                                                          [] {
                                                            std::string t;
                                                            for (int i = 0; i < 2000; ++i) t += "Aaaa: bbbb\r\n";
                                                            return t;
                                                          }()),
                head_too_large},
        Refused{"chunks beyond the limit", with("Transfer-Encoding: chunked\r\n", "30\r\n" + std::string(48, 'a') + "\r\n30\r\n"),
                body_too_large},
        Refused{"a body beyond the limit, told by the head", with("Content-Length: 65\r\n"), body_too_large},
        Refused{"a length beyond any integer", with("Content-Length: 99999999999999999999999999\r\n"), body_too_large},
        Refused{"an expectation nobody knows", with("Expect: 200-ok\r\n"), bad_expectation},
        Refused{"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", unsupported_version},
        Refused{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", unsupported_version},
        Refused{"HTTP/0.9", "GET /\r\n", bad_request_line},
        Refused{"a lower-case protocol", "GET / http/1.1\r\n", bad_request_line},
        Refused{"a long version", "GET / HTTP/1.10\r\n", bad_request_line},
        Refused{"a tab between the parts", "GET\t/\tHTTP/1.1\r\n", bad_request_line},
        Refused{"two spaces", "GET  / HTTP/1.1\r\n", bad_target},
        Refused{"a space in the target", "GET /a b HTTP/1.1\r\n", bad_target},
        Refused{"a fragment", "GET /a#b HTTP/1.1\r\n", bad_target},
        Refused{"bytes beyond ASCII in the target", "GET /\xc3\xa4 HTTP/1.1\r\n", bad_target},
        Refused{"authority form", "CONNECT h:443 HTTP/1.1\r\n", bad_target},
        Refused{"an asterisk that is no OPTIONS", "GET * HTTP/1.1\r\n", bad_target},
        Refused{"another scheme", "GET ftp://h/ HTTP/1.1\r\n", bad_target},
        Refused{"a method with a bracket", "G(T / HTTP/1.1\r\n", bad_request_line},
        Refused{"two empty lines before a request", "\r\n\r\nGET / HTTP/1.1\r\n", bad_request_line},
        Refused{"TLS", std::string("\x16\x03\x01\x02\x00\x01\x00\n", 8), bad_line_ending},
        Refused{"a target without end", "GET /" + std::string(9'000, 'a'), target_too_long},
        Refused{"a field without end", "GET / HTTP/1.1\r\nA: " + std::string(17'000, 'a'), head_too_large},
        Refused{"too many fields", with([] {
                  std::string t;
                  for (int i = 0; i < 101; ++i) t += "A: b\r\n";
                  return t;
                }()),
                head_too_large}));

TEST(RequestReader, takes_the_path_of_an_absolute_target) {
  RequestReader reader;
  feed(reader, "GET HTTP://example.org:80/a?b=c HTTP/1.1\r\nHost: h\r\n\r\n");
  ASSERT_EQ(reader.state(), State::complete);
  EXPECT_EQ(reader.take().target(), "/a?b=c");
}

TEST(RequestReader, knows_from_version_and_connection_whether_to_keep_alive) {
  const auto keep_alive = [](const std::string& text) {
    RequestReader reader;
    feed(reader, text);
    return reader.take().keep_alive;
  };
  EXPECT_TRUE(keep_alive("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_FALSE(keep_alive("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, CLOSE\r\n\r\n"));
  EXPECT_FALSE(keep_alive("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keep_alive("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
  EXPECT_FALSE(keep_alive("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
}

TEST(RequestReader, a_field_given_twice_has_no_value) {
  RequestReader reader;
  feed(reader, with("Authorization: a\r\nAuthorization: b\r\n"));
  const auto request = reader.take();
  EXPECT_EQ(request.header("authorization"), std::nullopt);
  EXPECT_TRUE(request.repeats("authorization"));
}

TEST(RequestReader, every_error_has_a_name_a_status_and_a_sentence) {
  for (int code = 1; code <= static_cast<int>(last_reader_errc); ++code) {
    const auto& info = describe(static_cast<ReaderErrc>(code));
    EXPECT_FALSE(info.name.empty() || info.sentence.empty()) << code;
    EXPECT_GE(info.status, 400) << code;
  }
}

}  // namespace
}  // namespace onboarding::http

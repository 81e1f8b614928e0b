// Messages are counted before they are parsed.
#include <string>

#include "binding/wire.h"
#include "check.h"

using namespace paddleinfer;

namespace {

// Of the first type: a text (1), a part (2) and a cut field (3); of the part: a number (1) and a cut field (5).
const std::vector<wire::Message> kTypes{
    {{1, 1, 4, -1, false}, {2, 3, 100, 1, false}, {3, 2, 100, -1, true}},
    {{1, 2, 8, -1, false}, {5, 1, 100, -1, true}},
};
const wire::Limits kLimits{20, 64};

wire::Walked walk(const std::string& body, const wire::Limits& limits = kLimits) {
  return wire::walk(reinterpret_cast<const std::uint8_t*>(body.data()), body.size(), kTypes, limits);
}

wire::Fault count(const std::string& body, wire::Counts& counts, std::uint64_t most_steps = 100) {
  return wire::count_numbers(reinterpret_cast<const std::uint8_t*>(body.data()), 0, body.size(), most_steps, counts);
}

template <class Number>
bool read(const std::string& body, std::uint32_t field, std::vector<Number>& numbers) {
  return wire::read_numbers(reinterpret_cast<const std::uint8_t*>(body.data()), 0, body.size(), field, numbers.data());
}

}  // namespace

TEST("what the table knows stays, in parts that are told their new sizes, and nothing else does") {
  const std::string unknown = "\x7a\x02hi\x78\x05";
  const auto walked = walk("\x0a\x01m" + unknown + "\x12\x07\x08\x07\x2a\x03raw");
  CHECK(walked.fault == wire::Fault::none);
  CHECK_EQ(walked.rest, std::string("\x0a\x01m\x12\x82\x80\x80\x80\x00\x08\x07", 11));
}

TEST("what is cut is found again, with the place of its message among those like it") {
  const auto walked = walk(std::string("\x12\x00", 2) + "\x12\x05\x2a\x03raw\x1a\x02xy");
  REQUIRE(walked.fault == wire::Fault::none);
  REQUIRE(walked.cut.size() == 2);
  CHECK_EQ(walked.cut[0].owner, 1u);
  CHECK_EQ(walked.cut[0].number, 5u);
  CHECK_EQ(walked.cut[1].owner, 0u);
  CHECK_EQ(walked.cut[1].size, 2u);
}

TEST("a field that is there too often, or too long, is named") {
  auto walked = walk("\x0a\x01m\x0a\x01m");
  CHECK(walked.fault == wire::Fault::times);
  CHECK_EQ(walked.number, 1u);
  walked = walk("\x12\x06\x08\x01\x08\x01\x08\x01");
  CHECK(walked.fault == wire::Fault::times);
  CHECK_EQ(walked.message, 1);
  walked = walk(
      "\x0a\x05"
      "abcde");
  CHECK(walked.fault == wire::Fault::bytes);
  CHECK_EQ(walked.found, 5u);
}

TEST("a walk ends at the limit of fields, also of those that nobody knows and of groups") {
  std::string unknown;
  for (int i = 0; i < 1000; ++i) unknown += "\x78\x01";
  CHECK(walk(unknown).fault == wire::Fault::fields);
  CHECK(walk("\x7b" + unknown + "\x7c").fault == wire::Fault::fields);
  CHECK(walk(unknown.substr(0, 40)).fault == wire::Fault::none);
}

TEST("what is not cut has a limit of bytes") {
  CHECK(walk("\x0a\x04"
             "abcd",
             {20, 6})
            .fault == wire::Fault::none);
  CHECK(walk("\x0a\x04"
             "abcd",
             {20, 5})
            .fault == wire::Fault::rest);
}

TEST("bytes that are no message are damaged") {
  for (const std::string& body :
       {std::string("\x0a"), std::string("\x0a\x05m"), std::string(10, '\xff') + "m", std::string("\x12\x03\x0a\x05x"),
        std::string("\x0b\x0b\x0b"), std::string("\x7b\x8c\x01"), std::string("\x0d\x01"), std::string("\x09\x01"),
        std::string("\x0f\x01"), std::string("\x00\x01", 2), std::string(200, '\x0b')}) {
    const auto fault = walk(body).fault;
    CHECK(fault == wire::Fault::damaged || fault == wire::Fault::fields);
  }
}

TEST("numbers are counted and read, packed, one by one, and both") {
  const std::string body("\x12\x03\x01\x80\x01\x10\x07\x35\x00\x00\x80\x3f\x12\x00", 14);
  wire::Counts counts;
  REQUIRE(count(body, counts) == wire::Fault::none);
  CHECK_EQ(counts[2], 3u);
  CHECK_EQ(counts[6], 1u);
  std::vector<std::int32_t> integers(3);
  REQUIRE(read(body, 2, integers));
  CHECK_EQ(integers[0], 1);
  CHECK_EQ(integers[1], 128);
  CHECK_EQ(integers[2], 7);
  std::vector<float> floats(1);
  REQUIRE(read(body, 6, floats));
  CHECK(floats[0] == 1.0f);
}

TEST("negative numbers are themselves") {
  const std::string body = "\x12\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
  wire::Counts counts;
  REQUIRE(count(body, counts) == wire::Fault::none);
  std::vector<std::int32_t> integers(1);
  REQUIRE(read(body, 2, integers));
  CHECK_EQ(integers[0], -1);
}

TEST("damaged numbers are found before they are read, or as they are") {
  wire::Counts counts;
  for (const std::string& body : {std::string("\x12\x02\x01\x80"),
                                  std::string("\x32\x03"
                                              "abc"),
                                  std::string("\x12\x05\x01"), std::string("\x10"), std::string("\x13")}) {
    CHECK(count(body, counts) == wire::Fault::damaged);
  }
  const std::string body = "\x12\x0c" + std::string(11, '\xff') + "\x01";
  REQUIRE(count(body, counts) == wire::Fault::none);
  std::vector<std::int32_t> integers(1);
  CHECK(!read(body, 2, integers));
}

TEST("numbers that are not packed take a step each, and have a limit") {
  std::string body;
  for (int i = 0; i < 1000; ++i) body += "\x10\x01";
  wire::Counts counts;
  CHECK(count(body, counts) == wire::Fault::fields);
}

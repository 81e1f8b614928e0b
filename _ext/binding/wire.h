// The wire format of protocol buffers: a message's fields are counted, and large ones left out, before a parser
// makes objects of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace paddleinfer::wire {

enum Type : unsigned { kVarint = 0, kFixed64 = 1, kBytes = 2, kGroup = 3, kEndGroup = 4, kFixed32 = 5 };

// A range of bytes that is read from its front.
class Cursor {
 public:
  Cursor(const std::uint8_t* data, std::size_t at, std::size_t end) noexcept : data_(data), at_(at), end_(end) {}

  std::size_t at() const noexcept { return at_; }
  bool at_end() const noexcept { return at_ >= end_; }

  // False where the bytes break off, or are no varint.
  bool varint(std::uint64_t& value) noexcept {
    value = 0;
    for (unsigned shift = 0; shift < 64 && at_ < end_; shift += 7) {
      const std::uint8_t byte = data_[at_++];
      value |= std::uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool tag(std::uint32_t& number, unsigned& type) noexcept {
    std::uint64_t value;
    if (!varint(value) || value > std::numeric_limits<std::uint32_t>::max()) return false;
    number = std::uint32_t(value >> 3);
    type = unsigned(value & 7);
    return number != 0;
  }

  bool skip(std::uint64_t bytes) noexcept {
    if (bytes > end_ - at_) return false;
    at_ += std::size_t(bytes);
    return true;
  }

  // Past a value that is neither a group nor bytes.
  bool skip_scalar(unsigned type) noexcept {
    std::uint64_t ignored;
    if (type == kVarint) return varint(ignored);
    return (type == kFixed32 && skip(4)) || (type == kFixed64 && skip(8));
  }

  // The range of a value of bytes, past which this goes.
  bool range(std::size_t& first, std::size_t& size) noexcept {
    std::uint64_t bytes;
    if (!varint(bytes)) return false;
    first = at_;
    size = std::size_t(bytes);
    return skip(bytes);
  }

 private:
  const std::uint8_t* data_;
  std::size_t at_;
  std::size_t end_;
};

// What one field of a message may be.
struct Field {
  std::uint32_t number;
  std::uint32_t most;        // in one message
  std::uint64_t most_bytes;  // of each
  int message;               // the place of its type in the table; -1: it is no message
  bool is_cut;               // left out, and its place noted
};

using Message = std::vector<Field>;
constexpr std::size_t kMostFields = 16;  // of one type of message

struct Limits {
  std::uint64_t fields;      // in all, those of messages within among them
  std::uint64_t rest_bytes;  // of what is not cut
};

// Bytes of a field that was left out.
struct Span {
  std::uint32_t owner;  // which of its message's like it stands in
  std::uint32_t number;
  std::size_t first;
  std::size_t size;
};

enum class Fault : unsigned char { none, damaged, fields, rest, times, bytes };

struct Walked {
  Fault fault = Fault::none;
  int message = -1;  // of the faulty field
  std::uint32_t number = 0;
  std::uint64_t found = 0;
  std::string rest;
  std::vector<Span> cut;
};

// Goes over one message, the first type of the table, as far as its limits let it. What no field of the table names is
// left out. At most `limits.fields` steps, however long the message is.
class Walk {
 public:
  Walk(const std::uint8_t* data, const std::vector<Message>& types, const Limits& limits)
      : data_(data), types_(types), limits_(limits) {}

  Walked over(std::size_t size) {
    walk(Cursor(data_, 0, size), size, 0, 0);
    return std::move(walked_);
  }

 private:
  bool fail(Fault fault, int message = -1, std::uint32_t number = 0, std::uint64_t found = 0) {
    walked_.fault = fault;
    walked_.message = message;
    walked_.number = number;
    walked_.found = found;
    return false;
  }

  bool count() { return ++fields_ <= limits_.fields || fail(Fault::fields, -1, 0, fields_); }

  bool walk(Cursor cursor, std::size_t end, int type, std::uint32_t owner) {
    const Message& known = types_[std::size_t(type)];
    std::array<std::uint32_t, kMostFields> seen{};
    while (cursor.at() < end) {
      const std::size_t start = cursor.at();
      std::uint32_t number;
      unsigned kind;
      if (!count()) return false;
      if (!cursor.tag(number, kind)) return fail(Fault::damaged);
      std::size_t first = 0;
      std::size_t size = 0;
      if (kind == kBytes   ? !cursor.range(first, size)
          : kind == kGroup ? !skip_group(cursor, number)
                           : !cursor.skip_scalar(kind)) {
        return walked_.fault != Fault::none ? false : fail(Fault::damaged);
      }
      const auto field = std::find_if(known.begin(), known.end(), [&](const Field& f) { return f.number == number; });
      if (field == known.end() || kind == kGroup) continue;
      std::uint32_t& times = seen[std::size_t(field - known.begin())];
      if (++times > field->most) return fail(Fault::times, type, number, times);
      if (size > field->most_bytes) return fail(Fault::bytes, type, number, size);
      const bool has_parts = field->is_cut || field->message >= 0;
      if (has_parts && kind != kBytes) continue;  // as unknown as another number
      if (field->is_cut) {
        walked_.cut.push_back({owner, number, first, size});
      } else if (field->message >= 0) {
        if (!walk_part(number, first, size, field->message, times - 1)) return false;
      } else if (!append(start, cursor.at() - start)) {
        return false;
      }
    }
    return true;
  }

  // A message within: its size is known only when it has been walked over, and has room for any.
  bool walk_part(std::uint32_t number, std::size_t first, std::size_t size, int type, std::uint32_t owner) {
    append_varint(std::uint64_t(number) << 3 | kBytes);
    const std::size_t place = walked_.rest.size();
    walked_.rest.append(kSizeBytes, '\0');
    if (!walk(Cursor(data_, first, first + size), first + size, type, owner)) return false;
    std::uint64_t written = walked_.rest.size() - place - kSizeBytes;
    for (std::size_t byte = 0; byte < kSizeBytes; ++byte, written >>= 7) {
      walked_.rest[place + byte] = char((written & 0x7f) | (byte + 1 < kSizeBytes ? 0x80 : 0));
    }
    return true;
  }

  bool append(std::size_t first, std::size_t size) {
    if (walked_.rest.size() + size > limits_.rest_bytes) return fail(Fault::rest);
    walked_.rest.append(reinterpret_cast<const char*>(data_) + first, size);
    return true;
  }

  void append_varint(std::uint64_t value) {
    for (; value > 0x7f; value >>= 7) walked_.rest.push_back(char((value & 0x7f) | 0x80));
    walked_.rest.push_back(char(value));
  }

  bool skip_group(Cursor& cursor, std::uint32_t number) {
    std::vector<std::uint32_t> open{number};
    while (!open.empty()) {
      unsigned kind;
      std::size_t first;
      std::size_t size;
      if (!count()) return false;
      if (!cursor.tag(number, kind)) return false;
      if (kind == kGroup) {
        if (open.size() == kMostGroups) return false;
        open.push_back(number);
      } else if (kind == kEndGroup) {
        if (open.back() != number) return false;
        open.pop_back();
      } else if (kind == kBytes ? !cursor.range(first, size) : !cursor.skip_scalar(kind)) {
        return false;
      }
    }
    return true;
  }

  static constexpr std::size_t kSizeBytes = 5;  // a varint of 32 bits, whatever its value
  static constexpr std::size_t kMostGroups = 100;

  const std::uint8_t* data_;
  const std::vector<Message>& types_;
  const Limits& limits_;
  std::uint64_t fields_ = 0;
  Walked walked_;
};

// What a message of the first type of the table holds.
inline Walked walk(const std::uint8_t* data, std::size_t size, const std::vector<Message>& types,
                   const Limits& limits) {
  return Walk(data, types, limits).over(size);
}

// -- Numbers, whose message has nothing else: for each type a repeated field, packed or not.

constexpr std::size_t kMostNumbersFields = 8;
using Counts = std::array<std::uint64_t, kMostNumbersFields + 1>;  // by the field's number

namespace detail {

// Bytes of each number of a packed field; 0: they are varints.
inline std::size_t width_of(std::uint32_t number) noexcept { return number == 6 ? 4 : number == 7 ? 8 : 0; }

inline unsigned kind_of(std::uint32_t number) noexcept {
  return number == 6 ? kFixed32 : number == 7 ? kFixed64 : number == 8 ? kBytes : kVarint;
}

}  // namespace detail

// How many there are in each field. What is not packed takes a step each, of which there are so many at most.
inline Fault count_numbers(const std::uint8_t* data, std::size_t first, std::size_t size, std::uint64_t most_steps,
                           Counts& counts) noexcept {
  counts.fill(0);
  Cursor cursor(data, first, first + size);
  while (!cursor.at_end()) {
    std::uint32_t number;
    unsigned kind;
    if (most_steps-- == 0) return Fault::fields;
    if (!cursor.tag(number, kind)) return Fault::damaged;
    std::size_t start = 0;
    std::size_t bytes = 0;
    if (kind == kBytes ? !cursor.range(start, bytes) : !cursor.skip_scalar(kind)) return Fault::damaged;
    if (number > kMostNumbersFields) continue;
    if (kind != kBytes || number == 8) {
      counts[number] += kind == detail::kind_of(number);
      continue;
    }
    const std::size_t width = detail::width_of(number);
    if (width != 0) {
      if (bytes % width != 0) return Fault::damaged;
      counts[number] += bytes / width;
    } else {
      if (bytes != 0 && data[start + bytes - 1] >= 0x80) return Fault::damaged;
      counts[number] += std::uint64_t(
          std::count_if(data + start, data + start + bytes, [](std::uint8_t byte) { return byte < 0x80; }));
    }
  }
  return Fault::none;
}

// Writes those of one field, which count_numbers() has counted; false where one is longer than any varint.
template <class Number>
bool read_numbers(const std::uint8_t* data, std::size_t first, std::size_t size, std::uint32_t field,
                  Number* out) noexcept {
  const auto read_one = [&](Cursor& from) {
    if constexpr (std::is_floating_point_v<Number>) {
      std::memcpy(out++, data + from.at(), sizeof(Number));
      return from.skip(sizeof(Number));
    } else {
      std::uint64_t value;
      if (!from.varint(value)) return false;
      *out++ = std::is_same_v<Number, bool> ? Number(value != 0) : Number(value);
      return true;
    }
  };
  Cursor cursor(data, first, first + size);
  while (!cursor.at_end()) {
    std::uint32_t number;
    unsigned kind;
    if (!cursor.tag(number, kind)) return false;
    std::size_t start = 0;
    std::size_t bytes = 0;
    if (kind == kBytes) {
      if (!cursor.range(start, bytes)) return false;
      if (number != field) continue;
      Cursor packed(data, start, start + bytes);
      while (!packed.at_end()) {
        if (!read_one(packed)) return false;
      }
    } else if (number == field && kind == detail::kind_of(number)) {
      if (!read_one(cursor)) return false;
    } else if (!cursor.skip_scalar(kind)) {
      return false;
    }
  }
  return true;
}

// The same, of whatever type the field has.
inline bool read_field(const std::uint8_t* data, std::size_t first, std::size_t size, std::uint32_t field,
                       void* out) noexcept {
  switch (field) {
    case 1:
      return read_numbers(data, first, size, field, static_cast<bool*>(out));
    case 2:
      return read_numbers(data, first, size, field, static_cast<std::int32_t*>(out));
    case 3:
      return read_numbers(data, first, size, field, static_cast<std::int64_t*>(out));
    case 4:
      return read_numbers(data, first, size, field, static_cast<std::uint32_t*>(out));
    case 5:
      return read_numbers(data, first, size, field, static_cast<std::uint64_t*>(out));
    case 6:
      return read_numbers(data, first, size, field, static_cast<float*>(out));
    case 7:
      return read_numbers(data, first, size, field, static_cast<double*>(out));
    default:
      return false;
  }
}

}  // namespace paddleinfer::wire

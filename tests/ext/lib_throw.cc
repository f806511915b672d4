// A C++ helper library that throws.
#include "libs.h"

#include <stdexcept>

namespace lib {
Error::~Error() = default;
const char *Error::what() const { return "lib::Error"; }

static long unwound_;
static volatile long argument = 4;
static const long constructed_ = weak<long>(argument);

long constructed() { return constructed_; }

namespace {
struct Guard {
    ~Guard() { unwound_++; }
};
} // namespace

void fail(long code) {
    Guard guard;
    if (code == 0) {
        throw std::runtime_error("zero");
    }
    throw Error(code);
}

void call_back(void (*function)()) {
    Guard guard;
    function();
}

long unwound() { return unwound_; }
} // namespace lib

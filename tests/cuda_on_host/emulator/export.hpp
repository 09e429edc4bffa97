// How a kernel is called from outside: by an array of pointers to its arguments.
#pragma once
#include <type_traits>
#include <utility>

#include "numbers.hpp"

namespace emulator {

struct Entry {
    const char* name;
    void (*call)(void** arguments);
    const char* (*signature)();
};

// "in" or "out" (pointers to const or not) or "by" (values), then kind and bytes as NumPy has
// them: "in:f2 out:i4 by:u8".
template <class T> void describe(char*& text) {
    using Pointee = std::remove_pointer_t<T>;
    using U = std::remove_cv_t<Pointee>;
    const char* way = !std::is_pointer_v<T> ? "by" : std::is_const_v<Pointee> ? "in" : "out";
    char kind = 'V';  // of NumPy's void: a structure
    if (std::is_same_v<U, half> || std::is_floating_point_v<U>) kind = 'f';
    else if (std::is_same_v<U, __nv_bfloat16> || std::is_unsigned_v<U>) kind = 'u';
    else if (std::is_integral_v<U>) kind = 'i';
    text += std::sprintf(text, "%s:%c%d ", way, kind, int(sizeof(U)));
}

template <class T> __attribute__((no_sanitize("thread"))) T argument(void** arguments, size_t i) {
    return *static_cast<T*>(arguments[i]);
}

template <auto Kernel> struct Export;
template <class... A, void (*Kernel)(A...)> struct Export<Kernel> {
    template <size_t... I> static void call_with(void** arguments, std::index_sequence<I...>) {
        Kernel(argument<A>(arguments, I)...);
    }
    static void call(void** arguments) {
        call_with(arguments, std::index_sequence_for<A...>{});
    }
    static const char* signature() {
        static char text[12 * sizeof...(A) + 1];
        char* end = text;
        (describe<A>(end), ...);
        return text;
    }
};

}  // namespace emulator

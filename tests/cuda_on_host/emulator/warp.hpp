// Operations that the lanes of a warp do together.
#pragma once
#include <cstring>
#include <type_traits>

#include "execution.hpp"

namespace emulator {

enum class Operation { sync, shuffle, vote, match, reduce, mma, ldmatrix };

// Waits until every lane of `mask` has come with the same operation and place; then `all`
// is run once, on the arguments of the 32 lanes (null outside the mask).
using Together = void (*)(unsigned mask, void* const* arguments);
void collective(Operation operation, unsigned mask, void* argument, Together all, Place here);

template <class T> T shuffle(unsigned mask, T value, int source, Place here) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    struct Argument {
        uint64_t value;
        int source;
        uint64_t result;
    } argument{0, source, 0};
    std::memcpy(&argument.value, &value, sizeof(T));
    collective(Operation::shuffle, mask, &argument, [](unsigned m, void* const* arguments) {
        for (int l = 0; l < 32; ++l) {
            if (!(m >> l & 1)) continue;
            auto* own = static_cast<Argument*>(arguments[l]);
            if (!(m >> own->source & 1))
                fail("shuffle: lane %d reads lane %d, which is not in the mask", l, own->source);
            own->result = static_cast<Argument*>(arguments[own->source])->value;
        }
    }, here);
    std::memcpy(&value, &argument.result, sizeof(T));
    return value;
}

template <class Combine> unsigned reduce(unsigned mask, unsigned value, Combine, Place here) {
    collective(Operation::reduce, mask, &value, [](unsigned m, void* const* arguments) {
        unsigned result = *static_cast<unsigned*>(arguments[__builtin_ctz(m)]);
        for (int l = 0; l < 32; ++l)
            if (m >> l & 1) result = Combine{}(result, *static_cast<unsigned*>(arguments[l]));
        for (int l = 0; l < 32; ++l)
            if (m >> l & 1) *static_cast<unsigned*>(arguments[l]) = result;
    }, here);
    return value;
}

// The lane itself, where `source` is outside the segment of `width` lanes.
inline int within(int source, int own, int width) {
    const int first = own & ~(width - 1);
    return source < first || source >= first + width ? own : source;
}

}  // namespace emulator

inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATOR_HERE) {
    emulator::collective(emulator::Operation::sync, mask, nullptr, [](unsigned, void* const*) {},
                         here);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATOR_HERE) {
    const int first = emulator::lane() & ~(width - 1);
    return emulator::shuffle(mask, value, first | (source & (width - 1)), here);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATOR_HERE) {
    const int l = emulator::lane();
    return emulator::shuffle(mask, value, emulator::within(l ^ bits, l, width), here);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int distance, int width = 32, EMULATOR_HERE) {
    const int l = emulator::lane();
    return emulator::shuffle(mask, value, emulator::within(l + distance, l, width), here);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int distance, int width = 32, EMULATOR_HERE) {
    const int l = emulator::lane();
    return emulator::shuffle(mask, value, emulator::within(l - distance, l, width), here);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATOR_HERE) {
    struct Argument {
        int predicate;
        unsigned result;
    } argument{predicate, 0};
    emulator::collective(emulator::Operation::vote, mask, &argument,
                         [](unsigned m, void* const* arguments) {
        unsigned votes = 0;
        for (int l = 0; l < 32; ++l)
            if (m >> l & 1 && static_cast<Argument*>(arguments[l])->predicate) votes |= 1u << l;
        for (int l = 0; l < 32; ++l)
            if (m >> l & 1) static_cast<Argument*>(arguments[l])->result = votes;
    }, here);
    return argument.result;
}
inline int __any_sync(unsigned mask, int predicate, EMULATOR_HERE) {
    return __ballot_sync(mask, predicate, here) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATOR_HERE) {
    return __ballot_sync(mask, !predicate, here) == 0;
}
inline unsigned __match_any_sync(unsigned mask, int value, EMULATOR_HERE) {
    struct Argument {
        int value;
        unsigned result;
    } argument{value, 0};
    emulator::collective(emulator::Operation::match, mask, &argument,
                         [](unsigned m, void* const* arguments) {
        for (int l = 0; l < 32; ++l)
            for (int k = 0; k < 32; ++k)
                if (m >> l & m >> k & 1 && static_cast<Argument*>(arguments[l])->value ==
                                               static_cast<Argument*>(arguments[k])->value)
                    static_cast<Argument*>(arguments[l])->result |= 1u << k;
    }, here);
    return argument.result;
}
// Of compute capability 8.0 and newer.
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, EMULATOR_HERE) {
    return emulator::reduce(mask, value, [](unsigned a, unsigned b) { return a > b ? a : b; }, here);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, EMULATOR_HERE) {
    return emulator::reduce(mask, value, [](unsigned a, unsigned b) { return a < b ? a : b; }, here);
}

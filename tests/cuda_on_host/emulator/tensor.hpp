// What portable.cuh wraps PTX for: tensor-core products, ldmatrix, asynchronous copies.
#pragma once
#include "numbers.hpp"
#include "warp.hpp"

namespace emulator {
enum class Operand { f16, bf16, tf32 };
struct Product {
    Operand kind;
    float* d;
    const unsigned *a, *b;
};
struct Load {
    unsigned* registers;
    const void* row;
    int count;
    bool transposed;
};
void multiply(unsigned mask, void* const* products);
void load_matrices(unsigned mask, void* const* loads);
void check_aligned(const void* p, int bytes, const char* what);
void copy_async(void* to, const void* from, int bytes, int bytes_from);
void commit_copies();
void wait_copies(int groups_left);

template <int A, int B>
void mma(Operand kind, float (&d)[4], const unsigned (&a)[A], const unsigned (&b)[B], Place here) {
    // by copies, so that what other lanes read here are plain stack variables
    float sum[4];
    unsigned left[A], right[B];
    std::memcpy(sum, d, sizeof sum);
    std::memcpy(left, a, sizeof left);
    std::memcpy(right, b, sizeof right);
    Product product{kind, sum, left, right};
    collective(Operation::mma, 0xffffffffu, &product, multiply, here);
    std::memcpy(d, sum, sizeof sum);
}
inline void ldmatrix(unsigned* registers, const void* row, int count, bool transposed, Place here) {
    check_aligned(row, 16, "ldmatrix");
    Load load{registers, row, count, transposed};
    collective(Operation::ldmatrix, 0xffffffffu, &load, load_matrices, here);
}
}  // namespace emulator

inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_HERE) {
    emulator::mma(emulator::Operand::f16, d, a, b, here);
}
inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_HERE) {
    emulator::mma(emulator::Operand::bf16, d, a, b, here);
}
inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], EMULATOR_HERE) {
    emulator::mma(emulator::Operand::tf32, d, a, b, here);
}
inline void ldmatrix_x4(unsigned (&r)[4], const void* row, EMULATOR_HERE) {
    emulator::ldmatrix(r, row, 4, false, here);
}
inline void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row, EMULATOR_HERE) {
    emulator::ldmatrix(r, row, 4, true, here);
}
inline void copy_async_16(void* to, const void* from, int bytes_from = 16) {
    emulator::copy_async(to, from, 16, bytes_from);
}
inline void copy_async_commit() { emulator::commit_copies(); }
template <int N> void copy_async_wait() { emulator::wait_copies(N); }

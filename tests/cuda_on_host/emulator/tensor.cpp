// Tensor-core products, ldmatrix and asynchronous copies.
//
// Fragments are laid out as in the PTX manual, sections on mma.m16n8k16, mma.m16n8k8 and
// ldmatrix. Sums are formed in double precision and rounded once, to nearest or, as tensor cores
// do, toward zero.
#include "machine.hpp"

namespace emulator {

// ---------------------------------------------------------------- mma

static float half_of(unsigned word, int part, Operand kind) {
    const auto bits = uint16_t(word >> 16 * part);
    if (kind == Operand::f16) return float(bits_as<_Float16>(bits));
    return bits_as<float>(unsigned(bits) << 16);
}

static float toward_zero(double x) {
    const float f = float(x);
    return std::fabs(double(f)) > std::fabs(x) ? std::nextafterf(f, 0.0f) : f;
}

// Lane l = 4 g + t holds of A, 16 by K, rows g and g + 8, of B, K by 8, column g: pairs of
// neighbours in k of 16-bit numbers, or single ones of tf32, whose low bits are ignored.
struct Operands {
    float a[16][16], b[16][8];
    int k;

    void take(int l, const Product& p) {
        const int g = l / 4, t = l % 4;
        if (p.kind == Operand::tf32) {
            k = 8;
            for (int i = 0; i < 4; ++i)
                a[g + i % 2 * 8][t + i / 2 * 4] = bits_as<float>(p.a[i] & 0xffffe000u);
            for (int i = 0; i < 2; ++i) b[t + i * 4][g] = bits_as<float>(p.b[i] & 0xffffe000u);
            return;
        }
        k = 16;
        for (int part = 0; part < 2; ++part) {
            for (int i = 0; i < 4; ++i)
                a[g + i % 2 * 8][2 * t + i / 2 * 8 + part] = half_of(p.a[i], part, p.kind);
            for (int i = 0; i < 2; ++i)
                b[2 * t + i * 8 + part][g] = half_of(p.b[i], part, p.kind);
        }
    }
};

void multiply(unsigned mask, void* const* products) {
    if (mask != ~0u) fail("mma: all 32 lanes of a warp take part");
    Operands operands;
    for (int l = 0; l < 32; ++l) operands.take(l, *static_cast<Product*>(products[l]));
    for (int l = 0; l < 32; ++l) {
        float* d = static_cast<Product*>(products[l])->d;
        for (int e = 0; e < 4; ++e) {
            const int row = l / 4 + e / 2 * 8, column = l % 4 * 2 + e % 2;
            double sum = d[e];
            for (int k = 0; k < operands.k; ++k)
                sum += double(operands.a[row][k]) * operands.b[k][column];
            d[e] = machine.configuration.rounds_toward_zero ? toward_zero(sum) : float(sum);
        }
    }
}

// ---------------------------------------------------------------- ldmatrix

// Lane l names row l % 8 of matrix l / 8, and gets of each matrix two neighbours in a row (of the
// matrix or, transposed, of its transpose).
void load_matrices(unsigned mask, void* const* loads) {
    if (mask != ~0u) fail("ldmatrix: all 32 lanes of a warp take part");
    const uint16_t* rows[32];
    for (int l = 0; l < 32; ++l) {
        rows[l] = static_cast<const uint16_t*>(static_cast<Load*>(loads[l])->row);
        if (!is_shared(rows[l])) fail("ldmatrix: the address of lane %d is not shared memory", l);
        note(rows[l], 16, Kind::read, __builtin_return_address(0));
    }
    for (int l = 0; l < 32; ++l) {
        const auto* load = static_cast<Load*>(loads[l]);
        const int g = l / 4, t = l % 4 * 2;
        for (int i = 0; i < load->count; ++i) {
            const uint16_t* const* matrix = rows + 8 * i;
            const unsigned first = load->transposed ? matrix[t][g] : matrix[g][t];
            const unsigned second = load->transposed ? matrix[t + 1][g] : matrix[g][t + 1];
            load->registers[i] = first | second << 16;
        }
    }
}

// ---------------------------------------------------------------- asynchronous copies

void check_aligned(const void* p, int bytes, const char* what) {
    if (reinterpret_cast<uintptr_t>(p) % bytes)
        fail("%s: an address is not aligned to %d bytes", what, bytes);
}

static void carry_out(Copy& copy) {
    if (copy.is_done) return;
    copy.is_done = true;
    const void* where = __builtin_return_address(0);
    if (copy.bytes_from) note(copy.from, copy.bytes_from, Kind::read, where);
    note(copy.to, copy.bytes, Kind::write, where);
    std::memcpy(copy.to, copy.from, copy.bytes_from);
    std::memset(static_cast<char*>(copy.to) + copy.bytes_from, 0, copy.bytes - copy.bytes_from);
}

void copy_async(void* to, const void* from, int bytes, int bytes_from) {
    check_aligned(to, bytes, "target of an asynchronous copy");
    check_aligned(from, bytes, "source of an asynchronous copy");
    if (!is_shared(to)) fail("the target of an asynchronous copy is not shared memory");
    auto& groups = self()->copies;
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, from, bytes, bytes_from, false});
    const auto schedule = machine.configuration.schedule;
    const bool at_once = schedule == Schedule::forward ||
                         (schedule == Schedule::random && random_number() >> 63);
    if (at_once) carry_out(groups.back().back());
}

void commit_copies() {
    auto& groups = self()->copies;
    if (groups.empty()) groups.emplace_back();
    groups.emplace_back();
}

void wait_copies(int groups_left) {
    auto& groups = self()->copies;
    while (groups.size() > size_t(groups_left) + 1) {
        for (Copy& copy : groups.front()) carry_out(copy);
        groups.erase(groups.begin());
    }
}

}  // namespace emulator

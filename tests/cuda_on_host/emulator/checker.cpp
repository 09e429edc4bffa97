// The access checker: races, reads of what nobody wrote, accesses outside every argument.
//
// Kernels are compiled with -fsanitize=thread and -fsanitize=bounds,alignment,..., but linked
// with this file instead of the compilers' runtimes: the calls that the compiler has put in come
// here. Two accesses are ordered if they are of the same thread, or a barrier lies between them:
// of the grid, of the block, or of the warp; or a message: the one comes before a release, and the
// other after an acquire of what was released, in the threads themselves or, by barriers and
// further messages, in others. Other atomic operations order nothing.
//
// Memory is watched in granules of two bytes, and of two readers between two writes.
#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "machine.hpp"

namespace emulator {

static std::vector<Shadow> arguments;
static std::unordered_map<const void*, Clock> messages;  // by the place that they are left at
constexpr int GRANULE = 2;

static std::vector<Cell> cells_for(size_t bytes) { return std::vector<Cell>(bytes / GRANULE + 1); }

void watch_arguments() {
    arguments.clear();
    messages.clear();
    for (uint32_t i = 0; i < machine.configuration.buffer_count; ++i) {
        const Buffer& b = machine.configuration.buffers[i];
        arguments.push_back({b.begin, b.begin + b.bytes, b.argument, b.is_initialised != 0,
                             cells_for(b.bytes)});
    }
}

void watch_shared(Block* block) {
    const size_t fixed = machine.shared_end - machine.shared_begin;
    const size_t dynamic = machine.configuration.dynamic_shared;
    unsigned char* begin = dynamic_shared_of(block);
    block->shadows.clear();
    block->shadows.push_back({machine.shared_begin, machine.shared_end, -1, false, cells_for(fixed)});
    block->shadows.push_back({begin, begin + dynamic, -2, false, cells_for(dynamic)});
}

static Shadow* shadow_of(const unsigned char* p) {
    for (Shadow& s : self()->home->shadows)
        if (p >= s.begin && p < s.end) return &s;
    for (Shadow& s : arguments)
        if (p >= s.begin && p < s.end) return &s;
    return nullptr;
}

static bool is_before_now(const Access& a) {
    if (a.thread < 0) return true;
    const Thread* t = self();
    const int threads = machine.threads_in_block();
    if (a.thread == t->home->index * threads + t->index) return true;
    if (a.grid_epoch < machine.grid_epoch) return true;
    if (t->known && a.time < (*t->known)[a.thread]) return true;
    if (a.thread / threads != t->home->index) return false;
    if (a.block_epoch < t->home->epoch) return true;
    return a.thread % threads / 32 == t->index / 32 && a.warp_epoch < t->warp_epoch;
}

// ---------------------------------------------------------------- messages

// What is known to either. Threads of a block ask this of the same two clocks one after another.
static Clock joined(const Clock& a, const Clock& b) {
    if (!a || a == b) return b;
    if (!b) return a;
    static Clock left, right, last;
    if (left == a && right == b) return last;
    auto both = std::make_shared<std::vector<uint32_t>>(*a);
    for (size_t i = 0; i < both->size(); ++i) (*both)[i] = std::max((*a)[i], (*b)[i]);
    left = a;
    right = b;
    return last = both;
}

void note_meeting(Thread* const* threads, int count, bool is_block) {
    if (!machine.is_checked) return;
    Clock all;
    for (int i = 0; i < count; ++i) all = joined(all, threads[i]->known);
    for (int i = 0; i < count; ++i) {
        Thread* t = threads[i];
        t->known = all;
        ++t->time;
        (is_block ? t->met_block : t->met_warp) = t->time;
    }
}

// All that is before now in this thread.
static Clock here_and_now() {
    const Thread* t = self();
    const Block* block = t->home;
    const int threads = machine.threads_in_block();
    auto clock = std::make_shared<std::vector<uint32_t>>(size_t(threads) * machine.blocks_in_grid());
    if (t->known) *clock = *t->known;
    for (const Thread* o : block->threads) {
        const bool is_near = o->index / 32 == t->index / 32;
        const uint32_t met = std::max(o->met_block, is_near ? o->met_warp : 0);
        uint32_t& time = (*clock)[block->index * threads + o->index];
        time = std::max(time, o == t ? t->time + 1 : met);
    }
    return clock;
}

// ---------------------------------------------------------------- accesses

// "{+0x12ab}", an offset in the library that module.py looks up in the debug information.
struct Where {
    char text[32];
    explicit Where(const void* address) {
        const long offset = static_cast<const unsigned char*>(address) - machine.module_begin;
        std::snprintf(text, sizeof text, "{+%#lx}", offset);
    }
};

[[noreturn]] static void report(const char* what, const Shadow& s, const unsigned char* p,
                                const Access& other, const void* where) {
    char memory[64], by[64] = "";
    const long offset = p - s.begin;
    if (s.argument >= 0)
        std::snprintf(memory, sizeof memory, "byte %ld of argument %d", offset, s.argument);
    else
        std::snprintf(memory, sizeof memory, "byte %ld of %s shared memory", offset,
                      s.argument == -1 ? "static" : "dynamic");
    const int threads = machine.threads_in_block();
    if (other.thread >= 0)
        std::snprintf(by, sizeof by, ", with block %d thread %d", other.thread / threads,
                      other.thread % threads);
    fail("%s, %s%s %s", what, memory, by, Where(where).text);
}

static void check(Cell& cell, const Shadow& s, const unsigned char* p, Kind kind,
                  const void* where) {
    const Thread* t = self();
    const bool is_atomic = kind == Kind::atomic || kind == Kind::atomic_read;
    const Access now{t->home->index * machine.threads_in_block() + t->index, machine.grid_epoch,
                     t->home->epoch, t->warp_epoch, t->time, is_atomic};
    // atomic operations of several threads on one place are no race among themselves
    const auto is_race = [&](const Access& other) {
        return !(is_atomic && other.is_atomic) && !is_before_now(other);
    };
    if (kind == Kind::read || kind == Kind::atomic_read) {
        if (!s.is_initialised && cell.written.thread < 0)
            report("read of what nobody wrote", s, p, {}, where);
        if (is_race(cell.written)) report("race, read after write", s, p, cell.written, where);
        if (cell.read.thread != now.thread) cell.read_before = cell.read;
        cell.read = now;
        return;
    }
    if (is_race(cell.written)) report("race, write after write", s, p, cell.written, where);
    for (const Access& read : {cell.read, cell.read_before})
        if (is_race(read)) report("race, write after read", s, p, read, where);
    cell.written = now;
}

void note(const void* address, int bytes, Kind kind, const void* where) {
    if (!machine.is_checked || !running) return;
    auto* p = static_cast<const unsigned char*>(address);
    auto* own = reinterpret_cast<const unsigned char*>(self());  // threadIdx and the like
    if (self()->fiber.owns(p) || (p >= own && p < own + sizeof(Thread))) return;
    ++machine.counts.accesses;
    Shadow* s = shadow_of(p);
    if (!s) {
        if (p >= machine.module_begin && p < machine.module_end) return;  // constants
        for (const Thread* t : self()->home->threads)  // what a collective hands to other lanes
            if (t->fiber.owns(p)) return;
        fail("%s of %d bytes outside all arguments and shared memory %s",
             kind == Kind::read ? "read" : "write", bytes, Where(where).text);
    }
    if (p + bytes > s->end)
        fail("access of %d bytes runs over the end of %s %d %s", bytes,
             s->argument >= 0 ? "argument" : "shared memory", s->argument, Where(where).text);
    const size_t first = (p - s->begin) / GRANULE, last = (p + bytes - 1 - s->begin) / GRANULE;
    for (size_t i = first; i <= last; ++i) check(s->cells[i], *s, p, kind, where);
    if (kind == Kind::write && !messages.empty()) messages.erase(p);
}

void note_atomic(void* p, int bytes) {
    ++machine.events;
    note(p, bytes, Kind::atomic, __builtin_return_address(0));
}

void note_release(void* p, int bytes) {
    ++machine.events;
    if (!machine.is_checked) return;
    note(p, bytes, Kind::atomic, __builtin_return_address(0));
    messages[p] = here_and_now();
    ++self()->time;
}

void note_acquire(const void* p, int bytes) {
    if (!machine.is_checked) return;
    note(p, bytes, Kind::atomic_read, __builtin_return_address(0));
    const auto found = messages.find(p);
    if (found != messages.end()) self()->known = joined(self()->known, found->second);
}

}  // namespace emulator

// ---------------------------------------------------------------- what the compiler calls

#define HIDDEN extern "C" __attribute__((visibility("hidden")))
#define HOOK(name, bytes, kind)                                                             \
    HIDDEN void name(void* p) {                                                             \
        emulator::note(p, bytes, emulator::Kind::kind, __builtin_return_address(0));        \
    }
#define HOOKS(bytes)                                  \
    HOOK(__tsan_read##bytes, bytes, read)             \
    HOOK(__tsan_write##bytes, bytes, write)           \
    HOOK(__tsan_unaligned_read##bytes, bytes, read)   \
    HOOK(__tsan_unaligned_write##bytes, bytes, write)
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)

HIDDEN void __tsan_read_range(void* p, size_t n) {
    emulator::note(p, int(n), emulator::Kind::read, __builtin_return_address(0));
}
HIDDEN void __tsan_write_range(void* p, size_t n) {
    emulator::note(p, int(n), emulator::Kind::write, __builtin_return_address(0));
}
HIDDEN void __tsan_func_entry(void*) {}
HIDDEN void __tsan_func_exit() {}
HIDDEN void __tsan_init() {}
HIDDEN void __tsan_vptr_update(void**, void*) {}

// Of the undefined-behaviour sanitizer: each handler is given a record that begins with the place.
struct Source {
    const char* file;
    unsigned line, column;
};
struct TypeName {
    unsigned short kind, info;
    char name[1];
};
struct OutOfBounds {
    Source source;
    const TypeName *array, *index;
};
struct Mismatch {
    Source source;
    const TypeName* type;
    unsigned char log_alignment, kind;
};

HIDDEN void __ubsan_handle_out_of_bounds(OutOfBounds* d, uintptr_t index) {
    emulator::fail("index %ld out of bounds of %s at %s:%u", long(index), d->array->name,
                   d->source.file, d->source.line);
}
HIDDEN void __ubsan_handle_type_mismatch_v1(Mismatch* d, uintptr_t address) {
    const unsigned alignment = 1u << d->log_alignment;
    if (address & (alignment - 1))
        emulator::fail("address of %s is not aligned to %u bytes at %s:%u", d->type->name,
                       alignment, d->source.file, d->source.line);
}
#define ARITHMETIC(name, what, ...)                                             \
    HIDDEN void __ubsan_handle_##name(Source* source, ##__VA_ARGS__) {          \
        emulator::fail(what " at %s:%u", source->file, source->line);           \
    }
ARITHMETIC(shift_out_of_bounds, "shift out of bounds", uintptr_t, uintptr_t)
ARITHMETIC(divrem_overflow, "integer division by zero, or overflow", uintptr_t, uintptr_t)
ARITHMETIC(add_overflow, "signed overflow of a sum", uintptr_t, uintptr_t)
ARITHMETIC(sub_overflow, "signed overflow of a difference", uintptr_t, uintptr_t)
ARITHMETIC(mul_overflow, "signed overflow of a product", uintptr_t, uintptr_t)
ARITHMETIC(negate_overflow, "signed overflow of a negation", uintptr_t)

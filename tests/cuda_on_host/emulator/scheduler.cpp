// Which thread goes next, and what threads wait for.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "machine.hpp"

namespace emulator {

Coordinates* running = nullptr;
Machine machine;

static Fiber scheduler;
static std::deque<Thread> pool;  // kept between launches, with their stacks
static size_t taken;
static std::vector<Thread*> idle;  // of blocks that have ended

uint64_t random_number() {
    uint64_t& s = machine.random_state;  // xorshift64
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s;
}

static size_t random_below(size_t n) { return size_t((random_number() >> 32) * n >> 32); }

static void switch_to(Thread* to) {  // nullptr: the scheduler
    Fiber& from = running ? self()->fiber : scheduler;
    running = to;
    switch_fibers(from, to ? to->fiber : scheduler);
}

void fail(const char* format, ...) {
    if (!machine.has_failed) {
        machine.has_failed = true;
        int n = 0;
        if (running) {
            const dim3 b = running->block, t = running->thread;
            n = std::snprintf(machine.message, machine.message_size,
                              "block (%u,%u,%u) thread (%u,%u,%u): ", b.x, b.y, b.z, t.x, t.y, t.z);
        }
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(machine.message + n, machine.message_size - n, format, arguments);
        va_end(arguments);
    }
    if (running) switch_to(nullptr);  // all threads are abandoned, and the launch returns
    std::fprintf(stderr, "%s\n", machine.message);
    std::abort();
}

// ---------------------------------------------------------------- choosing

static void make_ready(Thread* t) {
    t->state = State::ready;
    t->home->ready.push_back(t->index);
    // a heap by index, but for the random schedule
    const auto schedule = machine.configuration.schedule;
    auto& ready = t->home->ready;
    if (schedule == Schedule::forward)
        std::push_heap(ready.begin(), ready.end(), std::greater<>());
    else if (schedule == Schedule::reverse)
        std::push_heap(ready.begin(), ready.end());
}

static Thread* next_of(Block* block) {
    auto& ready = block->ready;
    if (ready.empty()) return nullptr;
    const auto schedule = machine.configuration.schedule;
    if (schedule == Schedule::forward)
        std::pop_heap(ready.begin(), ready.end(), std::greater<>());
    else if (schedule == Schedule::reverse)
        std::pop_heap(ready.begin(), ready.end());
    else
        std::swap(ready[random_below(ready.size())], ready.back());
    Thread* t = block->threads[ready.back()];
    ready.pop_back();
    return t;
}

// The running thread has said what it waits for: another one of its block goes on.
static void suspend() {
    Thread* next = next_of(self()->home);
    if (next != running) switch_to(next);
}

void yield() {
    Thread* t = self();
    t->state = State::ready;
    t->home->yielding.push_back(t->index);
    suspend();
}

// Now and then other blocks have a turn while this one could go on.
static bool gives_way() {
    return machine.resident.size() > 1 && machine.configuration.schedule == Schedule::random &&
           random_number() >> 63;
}

void give_way() {
    if (!gives_way()) return;
    make_ready(self());
    switch_to(nullptr);
}

// ---------------------------------------------------------------- waiting

static bool is_same(Place a, Place b) { return a.line == b.line && !std::strcmp(a.file, b.file); }

void block_barrier(Place here, int* vote) {
    ++machine.events;
    Thread* t = self();
    Block* block = t->home;
    t->place = here;
    t->vote = vote;
    t->state = State::block_barrier;
    if (block->ended)
        fail("barrier %s:%d after %d threads of the block have ended", here.file, here.line,
             block->ended);
    if (!block->at_barrier++) block->first_at_barrier = t;
    const Thread* other = block->first_at_barrier;
    if (!is_same(other->place, here))
        fail("divergent barrier: this thread is at %s:%d, thread %d at %s:%d", here.file,
             here.line, other->index, other->place.file, other->place.line);
    if (block->at_barrier == machine.threads_in_block()) {
        int votes = 0;
        for (const Thread* o : block->threads) votes += o->vote ? *o->vote : 0;
        for (Thread* o : block->threads) {
            if (o->vote) *o->vote = votes;
            make_ready(o);
        }
        block->at_barrier = 0;
        ++block->epoch;
        ++machine.counts.barriers;
        note_meeting(block->threads.data(), machine.threads_in_block(), true);
        if (gives_way()) return switch_to(nullptr);
    }
    suspend();
}

void grid_barrier(Place here) {
    if (!machine.configuration.is_cooperative)
        fail("grid_sync() at %s:%d in a launch that is not cooperative", here.file, here.line);
    ++machine.events;
    Thread* t = self();
    t->place = here;
    t->state = State::grid_barrier;
    ++t->home->at_grid_barrier;
    suspend();
}

int lane() { return self()->index & 31; }

void collective(Operation operation, unsigned mask, void* argument, Together all, Place here) {
    ++machine.counts.collectives;
    ++machine.events;
    Thread* t = self();
    Block* block = t->home;
    const int first = t->index & ~31;
    const int lanes = std::min(32, machine.threads_in_block() - first);
    const unsigned whole = lanes == 32 ? ~0u : (1u << lanes) - 1;
    mask &= whole;
    if (!(mask >> (t->index & 31) & 1))
        fail("%s:%d: a lane outside its own mask %08x", here.file, here.line, mask);
    t->operation = operation;
    t->mask = mask;
    t->argument = argument;
    t->place = here;
    t->state = State::warp_operation;
    void* arguments[32] = {};
    bool is_complete = true;
    for (int l = 0; l < lanes; ++l) {
        if (!(mask >> l & 1)) continue;
        const Thread* o = block->threads[first + l];
        if (o->state == State::ended)
            fail("%s:%d: lane %d of the mask has ended", here.file, here.line, l);
        if (o->state == State::block_barrier)
            fail("%s:%d: lane %d of the mask waits at the barrier %s:%d", here.file, here.line, l,
                 o->place.file, o->place.line);
        if (o->state != State::warp_operation) {
            is_complete = false;
            continue;
        }
        if (o->operation != operation || o->mask != mask || !is_same(o->place, here))
            fail("divergent warp operation: %s:%d with mask %08x, lane %d is at %s:%d with %08x",
                 here.file, here.line, mask, l, o->place.file, o->place.line, o->mask);
        arguments[l] = o->argument;
    }
    if (is_complete) {
        all(mask, arguments);
        // shuffles and votes order no accesses to memory
        const bool is_barrier = operation == Operation::sync && mask == whole;
        if (is_barrier) note_meeting(block->threads.data() + first, lanes, false);
        for (int l = 0; l < lanes; ++l) {
            if (!(mask >> l & 1)) continue;
            Thread* o = block->threads[first + l];
            if (is_barrier) ++o->warp_epoch;
            make_ready(o);
        }
    }
    suspend();
}

// ---------------------------------------------------------------- shared memory

unsigned char* dynamic_shared_of(Block* block) {
    unsigned char* p = block->dynamic_shared.data();
    return p + (-reinterpret_cast<uintptr_t>(p) & 127);
}

unsigned char* dynamic_shared() { return dynamic_shared_of(self()->home); }

bool is_shared(const void* p) {
    auto* q = static_cast<const unsigned char*>(p);
    if (q >= machine.shared_begin && q < machine.shared_end) return true;
    const unsigned char* begin = dynamic_shared();
    return q >= begin && q < begin + machine.configuration.dynamic_shared;
}

// ---------------------------------------------------------------- running

static void thread_main() {
    machine.entry->call(machine.arguments);
    Thread* t = self();
    Block* block = t->home;
    for (const auto& group : t->copies)
        for (const Copy& copy : group)
            if (!copy.is_done) fail("ends with an asynchronous copy that it did not wait for");
    if (block->at_barrier)
        fail("ends while thread %d waits at the barrier %s:%d", block->first_at_barrier->index,
             block->first_at_barrier->place.file, block->first_at_barrier->place.line);
    t->state = State::ended;
    ++block->ended;
    ++machine.events;
    suspend();
    std::abort();
}

static Thread* take_thread() {
    Thread* t;
    if (idle.empty()) {
        if (taken == pool.size()) pool.emplace_back();
        t = &pool[taken++];
    } else {
        t = idle.back();
        idle.pop_back();
    }
    allocate(t->fiber);
    if (!t->fiber.stack) fail("no memory for the stacks of the threads");
    return t;
}

void release_stacks() {
    for (Thread& t : pool) release(t.fiber);
    pool.clear();
}

static void start(Block* block) {
    const Configuration& c = machine.configuration;
    block->has_started = true;
    block->dynamic_shared.assign(c.dynamic_shared + 128, 0xff);  // NaN in every format
    std::memset(machine.shared_begin, 0xff, machine.shared_end - machine.shared_begin);
    block->threads.clear();
    for (int i = 0; i < machine.threads_in_block(); ++i) {
        Thread* t = take_thread();
        block->threads.push_back(t);
        t->thread = {i % c.block[0], i / c.block[0] % c.block[1], i / (c.block[0] * c.block[1])};
        t->block = block->coordinates;
        t->block_dim = {c.block[0], c.block[1], c.block[2]};
        t->grid_dim = {c.grid[0], c.grid[1], c.grid[2]};
        t->home = block;
        t->index = i;
        t->warp_epoch = t->time = t->met_block = t->met_warp = 0;
        t->known.reset();
        t->copies.clear();
        prepare(t->fiber, thread_main);
        make_ready(t);
    }
    if (machine.is_checked) watch_shared(block);
}

// Until no thread of the block can go on but those that wait in a loop, or it gives way.
static void run(Block* block) {
    const size_t bytes = machine.shared_end - machine.shared_begin;
    if (machine.block && machine.block != block)
        machine.block->saved_shared.assign(machine.shared_begin, machine.shared_end);
    if (!block->has_started) start(block);
    else if (machine.block != block)
        std::memcpy(machine.shared_begin, block->saved_shared.data(), bytes);
    machine.block = block;
    if (block->ready.empty()) {
        for (int index : block->yielding) make_ready(block->threads[index]);
        block->yielding.clear();
    }
    if (Thread* t = next_of(block)) switch_to(t);
}

static void report_deadlock(const Block* block) {
    machine.has_failed = true;
    if (!block->yielding.empty()) {
        std::snprintf(machine.message, machine.message_size,
                      "deadlock: block %d thread %d waits in a loop; %d of %d threads have ended",
                      block->index, block->yielding.front(), block->ended,
                      machine.threads_in_block());
        return;
    }
    for (const Thread* t : block->threads) {
        if (t->state == State::ready || t->state == State::ended) continue;
        const char* what = t->state == State::block_barrier ? "a barrier"
                         : t->state == State::grid_barrier  ? "a barrier of the grid"
                                                            : "a warp operation";
        std::snprintf(machine.message, machine.message_size,
                      "deadlock: block %d thread %d waits at %s, %s:%d; %d of %d threads have ended",
                      block->index, t->index, what, t->place.file, t->place.line, block->ended,
                      machine.threads_in_block());
        return;
    }
}

static void initialise(Block& block, int index) {
    const Configuration& c = machine.configuration;
    block = Block{};
    block.index = index;
    block.coordinates = {index % c.grid[0], index / c.grid[0] % c.grid[1],
                         index / (c.grid[0] * c.grid[1])};
}

static std::vector<int> order_of_blocks() {
    std::vector<int> order(machine.blocks_in_grid());
    for (size_t i = 0; i < order.size(); ++i) order[i] = int(i);
    const auto schedule = machine.configuration.schedule;
    if (schedule == Schedule::reverse) std::reverse(order.begin(), order.end());
    if (schedule == Schedule::random)
        for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
    return order;
}

// Whether all that is left are threads that wait in loops, each of which has looked so often.
struct Patience {
    uint64_t events = 0;
    int rounds = 0;

    bool is_over() {
        constexpr int MOST = 1000;
        if (events != machine.events) rounds = 0;
        events = machine.events;
        return ++rounds > MOST;
    }
};

// Makes room for the next block.
static void leave(Block* block) {
    idle.insert(idle.end(), block->threads.begin(), block->threads.end());
    if (machine.block == block) machine.block = nullptr;
    *block = Block{};
}

// All blocks of the grid, so many at once.
static void run_blocks(size_t at_once) {
    std::vector<Block> blocks(machine.blocks_in_grid());
    const std::vector<int> order = order_of_blocks();
    auto& resident = machine.resident;
    const int in_block = machine.threads_in_block(), in_grid = in_block * int(blocks.size());
    Patience patience;
    for (size_t begun = 0;;) {
        for (; begun < blocks.size() && resident.size() < at_once; ++begun) {
            resident.push_back(&blocks[order[begun]]);
            initialise(*resident.back(), order[begun]);
        }
        if (resident.empty()) return;
        bool has_moved = false;
        int waiting = 0;
        for (Block* block : resident) {
            if (!block->has_started || !block->ready.empty() || !block->yielding.empty()) {
                run(block);
                has_moved = true;
            }
            if (machine.has_failed) return;
            waiting += block->at_grid_barrier;
        }
        if (waiting == in_grid) {
            ++machine.grid_epoch;
            for (Block* block : resident) {
                block->at_grid_barrier = 0;
                ++block->epoch;
                for (Thread* t : block->threads) make_ready(t);
            }
        } else if (!has_moved || patience.is_over()) {
            return report_deadlock(resident.front());
        }
        for (Block* block : resident)
            if (block->ended == in_block) leave(block);
        std::erase_if(resident, [](const Block* block) { return !block->has_started; });
    }
}

void run_grid() {
    taken = 0;
    idle.clear();
    machine.block = nullptr;
    machine.grid_epoch = 0;
    machine.events = 0;
    machine.resident.clear();
    const Configuration& c = machine.configuration;
    run_blocks(c.is_cooperative ? machine.blocks_in_grid() : c.resident);
}

}  // namespace emulator

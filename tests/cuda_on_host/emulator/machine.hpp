// The state of a launch, shared by the parts of the runtime. Not included by kernels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda_on_host.hpp"
#include "fibers.hpp"

namespace emulator {

enum class State : uint8_t { ready, block_barrier, warp_operation, grid_barrier, ended };

struct Copy {
    void* to;
    const void* from;
    int bytes, bytes_from;
    bool is_done;
};

struct Block;

// Of each thread of the grid the time before which its accesses are known; null: of none.
using Clock = std::shared_ptr<const std::vector<uint32_t>>;

struct Thread : Coordinates {
    Fiber fiber;
    Block* home = nullptr;
    int index = 0;  // in its block
    State state = State::ready;
    Place place{};  // of what it waits for
    int* vote = nullptr;
    Operation operation{};
    unsigned mask = 0;
    void* argument = nullptr;
    uint32_t warp_epoch = 0;                 // whole-warp __syncwarps passed
    std::vector<std::vector<Copy>> copies;  // committed groups; the last one is open
    // Of the checker: barriers and releases passed, and how many when it last met its block and
    // its warp; what it has learnt by messages, and by barriers from who has had messages.
    uint32_t time = 0, met_block = 0, met_warp = 0;
    Clock known;
};

// A thread's access, for the checker. `thread` counts through the grid.
struct Access {
    int32_t thread = -1;
    uint32_t grid_epoch = 0, block_epoch = 0, warp_epoch = 0;
    uint32_t time : 31 = 0, is_atomic : 1 = 0;
};
struct Cell {
    Access written, read, read_before;  // the last two readers
};
struct Shadow {
    unsigned char *begin, *end;
    int argument;  // -1: static, -2: dynamic shared memory
    bool is_initialised;
    std::vector<Cell> cells;
};

struct Block {
    dim3 coordinates;
    int index = 0;
    bool has_started = false;
    std::vector<Thread*> threads;
    std::vector<int> ready, yielding;  // those go on when no other thread can
    int at_barrier = 0, at_grid_barrier = 0, ended = 0;
    Thread* first_at_barrier = nullptr;
    uint32_t epoch = 0;  // block barriers passed
    std::vector<unsigned char> dynamic_shared, saved_shared;
    std::vector<Shadow> shadows;
};

// Forward and reverse: the ready thread of lowest or highest index goes next, asynchronous copies
// happen at once or as late as allowed. Random: by the seed.
enum class Schedule : uint32_t { forward, reverse, random };

// Of Python's ctypes: `module.py` has the same.
struct Buffer {
    unsigned char* begin;
    uint64_t bytes;
    int32_t argument;
    int32_t is_initialised;
};
struct Configuration {
    uint32_t grid[3], block[3];
    uint32_t dynamic_shared, most_shared, is_cooperative, resident, rounds_toward_zero, flushes;
    Schedule schedule;
    uint32_t buffer_count;
    uint64_t seed;
    const Buffer* buffers;
};
struct Counts {
    uint64_t barriers, collectives, accesses;
};

struct Machine {
    Configuration configuration;
    Counts counts;
    const Entry* entry;
    void** arguments;
    std::vector<Block*> resident;  // if they are several
    uint64_t events = 0;           // what threads that wait in a loop may have waited for
    Block* block = nullptr;       // whose shared memory is in place
    uint32_t grid_epoch = 0;
    uint64_t random_state;
    bool is_checked, has_failed;
    char* message;
    size_t message_size;
    unsigned char *shared_begin, *shared_end;  // static shared memory
    unsigned char *module_begin, *module_end;  // code and data of the kernel's library

    int threads_in_block() const {
        return int(configuration.block[0] * configuration.block[1] * configuration.block[2]);
    }
    int blocks_in_grid() const {
        return int(configuration.grid[0] * configuration.grid[1] * configuration.grid[2]);
    }
};
extern Machine machine;

inline Thread* self() { return static_cast<Thread*>(running); }
unsigned char* dynamic_shared_of(Block* block);
bool is_shared(const void* p);
uint64_t random_number();

// Gives back the stacks, which are kept between launches: a process can map 65530 areas, and each
// stack takes two.
void release_stacks();

// Runs all blocks; on failure `machine` says so.
void run_grid();

// The checker: `where` is a return address inside the kernel.
enum class Kind { read, write, atomic, atomic_read };
void note(const void* p, int bytes, Kind kind, const void* where);
void watch_arguments();
void watch_shared(Block* block);
// A barrier of a block, or of a warp.
void note_meeting(Thread* const* threads, int count, bool is_block);

}  // namespace emulator

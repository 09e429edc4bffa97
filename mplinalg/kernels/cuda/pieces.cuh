// Lines dealt out in pieces to the blocks of any grid.
//
// A piece is AT_ONCE THREADS entries of a long line, or several lines if they are short, so that
// few long lines and many short ones keep a device busy alike. Of a piece each thread has AT_ONCE
// entries of one line, `width` apart, which it is to read before it writes the first.
#pragma once
#include "portable.cuh"

template <int THREADS, int AT_ONCE> struct Pieces {
    unsigned lines, length;
    unsigned width = 1;  // threads side by side on a line: a power of two

    __device__ __forceinline__ Pieces(int lines, int length) : lines(lines), length(length) {
        // a warp side by side before a thread takes a second entry
        while (width < THREADS && width * (width < 32 ? 1 : AT_ONCE) < this->length) width *= 2;
    }

    // visit(line, first entry), which takes the entries first + e width, e < AT_ONCE, that are
    // below `length`. There may be threads without any.
    template <class Visit> __device__ __forceinline__ void for_each(Visit visit) const {
        const unsigned across = length == 0 ? 0 : (length - 1) / (width * AT_ONCE) + 1;
        const unsigned height = THREADS / width, count = (lines + height - 1) / height * across;
        for (unsigned piece = blockIdx.x; piece < count; piece += gridDim.x) {
            const unsigned line = piece / across * height + threadIdx.x / width;
            const unsigned first = piece % across * width * AT_ONCE + threadIdx.x % width;
            if (line < lines) visit(line, first);
        }
    }
};

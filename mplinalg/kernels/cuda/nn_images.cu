// Columns of patches of images, and the largest entries of windows, forwards and backwards
//
// im2col:             cols[n, (c, u, v), (i, j)] = x[n, c, i sh + u - ph, j sw + v - pw], 0 outside
// col2im:             x[n, c, r, s] = the sum of the columns that hold it, by rising (u, v)
// max_pool:           y[n, c, i, j] = max_uv of the same entries of x, NaN if one is
// max_pool_gradient:  dx[n, c, r, s] = the sum of g over windows whose first largest entry it is
//
// x, y and g are contiguous; cols has unit stride in the last dimension, `image` and `line` numbers
// from one image and one row to the next. A kernel is (kh, kw), (down, across) its places.
//
// Launch: THREADS threads, any number of blocks; a thread has entries of what is written, so
// nothing is added up by two of them.
// Bytes: one write of the result; what is read comes mostly from the caches: im2col writes kh kw
// times what it reads. Indices are of 32 bits: fewer than 2^31 entries of any array.
#include "portable.cuh"

constexpr int THREADS = 256;

template <class T>
__global__ void __launch_bounds__(THREADS)
im2col(unsigned count, int channels, int height, int width, const T* __restrict__ x,
       T* __restrict__ cols, long long image, long long line, int kh, int kw, int sh, int sw,
       int ph, int pw, int down, int across) {
    const int positions = down * across, taps = channels * kh * kw;
    for (unsigned at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS) {
        const int position = at % positions, rest = at / positions;
        const int tap = rest % taps, v = tap % kw, u = tap / kw % kh, n = rest / taps;
        const int r = position / across * sh + u - ph, s = position % across * sw + v - pw;
        const bool is_inside = r >= 0 && r < height && s >= 0 && s < width;
        const int plane = n * channels + tap / (kw * kh);
        cols[n * image + tap * line + position] =
            is_inside ? x[(plane * height + r) * width + s] : T(0);
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
col2im(unsigned count, int channels, int height, int width, const T* __restrict__ cols,
       long long image, long long line, T* __restrict__ x, int kh, int kw, int sh, int sw, int ph,
       int pw, int down, int across) {
    for (unsigned at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS) {
        const int s = at % width + pw, r = at / width % height + ph;
        const int plane = at / width / height, c = plane % channels;
        const T* from = cols + plane / channels * image;
        T sum = T(0);
        for (int u = 0; u < kh; ++u) {
            if (r < u || (r - u) % sh || (r - u) / sh >= down) continue;
            for (int v = 0; v < kw; ++v) {
                if (s < v || (s - v) % sw || (s - v) / sw >= across) continue;
                const int tap = (c * kh + u) * kw + v;
                sum += from[tap * line + (r - u) / sh * across + (s - v) / sw];
            }
        }
        x[at] = sum;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
max_pool(unsigned count, int height, int width, const T* __restrict__ x, T* __restrict__ y, int kh,
         int kw, int sh, int sw, int ph, int pw, int down, int across) {
    for (unsigned at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS) {
        const int left = int(at % across) * sw - pw, top = int(at / across % down) * sh - ph;
        const T* plane = x + at / across / down * height * width;
        T most = static_cast<T>(__uint_as_float(0xff800000u));  // -infinity
        for (int r = max(top, 0); r < min(top + kh, height); ++r)
            for (int s = max(left, 0); s < min(left + kw, width); ++s) {
                const T entry = plane[r * width + s];
                most = most < entry || entry != entry ? entry : most;
            }
        y[at] = most;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
max_pool_gradient(unsigned count, int height, int width, const T* __restrict__ x,
                  const T* __restrict__ y, const T* __restrict__ g, T* __restrict__ dx, int kh,
                  int kw, int sh, int sw, int ph, int pw, int down, int across) {
    for (unsigned at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS) {
        const int s = at % width, r = at / width % height, plane = at / width / height;
        const T* from = x + plane * height * width;
        const T mine = x[at];
        T sum = T(0);
        for (int u = 0; u < kh; ++u) {
            const int i = r + ph - u;  // by rising place in a window, as that of the CPU
            if (i < 0 || i % sh || i / sh >= down) continue;
            for (int v = 0; v < kw; ++v) {
                const int j = s + pw - v;
                if (j < 0 || j % sw || j / sw >= across) continue;
                const int window = (plane * down + i / sh) * across + j / sw;
                if (y[window] != mine) continue;
                bool is_first = true;
                for (int e = 0; e < u * kw + v && is_first; ++e) {
                    const int row = i - ph + e / kw, column = j - pw + e % kw;
                    if (row < 0 || row >= height || column < 0 || column >= width) continue;
                    is_first = from[row * width + column] != mine;
                }
                if (is_first) sum += g[window];
            }
        }
        dx[at] = sum;
    }
}

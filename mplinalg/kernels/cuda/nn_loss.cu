// The loss of labelled rows with its gradient, and what an epoch adds up, in one launch each
//
// cross_entropy:  losses[i] = log sum_j e^(z_ij - m_i) - (z_il - m_i); m_i = max_j z_ij, l the label
//                 p[i, j] = (e^(z_ij - m_i) / sum_j e^(z_ij - m_i) - [j = l]) / rows
//                 and, of one block, loss = sum_i losses[i] / rows
// mean_loss:      loss = sum_i losses[i] / rows
// account:        totals += (rows loss, rows whose largest z_ij is at their label, 1 step), and the
//                 number of the first step whose loss is not finite, from 1
//
// z is contiguous, (rows, classes). Sums over rows are in double precision, in a fixed order. Of
// equal z_ij the first one is the largest. Labels are in range, as those that launch have checked.
//
// Launch: THREADS threads. cross_entropy: any number of blocks, the warps of all take rows in turn;
// mean_loss and account: one block.
// Bytes: one read of z, one write of p; account reads z once more. A batch of 100 rows of 10 is
// latency alone, 13 rows a warp.
#include "portable.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int LOSS = 0, RIGHT = 1, STEPS = 2, FIRST_BAD = 3;  // of `totals`

template <class T> __device__ __forceinline__ T warp_max(T value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, value, distance);
        value = value < other || other != other ? other : value;  // NaN is the largest
    }
    return value;
}

template <class T>
__device__ __forceinline__ void write_mean(int rows, const T* losses, double* partial, T* loss) {
    double sum = 0.0;
    for (int row = threadIdx.x; row < rows; row += THREADS) sum += double(losses[row]);
    sum = block_sum<THREADS>(sum, partial);
    if (threadIdx.x == 0) loss[0] = static_cast<T>(sum / rows);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
cross_entropy(int rows, int classes, const T* __restrict__ z, const long long* __restrict__ labels,
              T* p, T* losses, T* __restrict__ loss) {
    __shared__ double partial[WARPS];
    const int lane = threadIdx.x % 32;
    for (int row = blockIdx.x * WARPS + threadIdx.x / 32; row < rows; row += gridDim.x * WARPS) {
        const T* from = z + static_cast<long long>(row) * classes;
        T* to = p + static_cast<long long>(row) * classes;
        T most = lane < classes ? from[lane] : from[0];
        for (int j = lane + 32; j < classes; j += 32) {
            const T entry = from[j];
            most = most < entry || entry != entry ? entry : most;
        }
        most = warp_max(most);
        T sum = T(0);
#pragma unroll 1
        for (int j = lane; j < classes; j += 32) {
            const T part = exp(from[j] - most);
            to[j] = part;
            sum += part;
        }
        sum = warp_sum(sum);
        const int label = static_cast<int>(labels[row]);
#pragma unroll 1
        for (int j = lane; j < classes; j += 32)
            to[j] = (to[j] / sum - (j == label ? T(1) : T(0))) / T(rows);
        if (lane == 0) losses[row] = log(sum) - (from[label] - most);
    }
    if (gridDim.x != 1) return;
    __syncthreads();
    write_mean(rows, losses, partial, loss);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
mean_loss(int rows, const T* __restrict__ losses, T* __restrict__ loss) {
    __shared__ double partial[WARPS];
    write_mean(rows, losses, partial, loss);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
account(int rows, int classes, const T* __restrict__ z, const long long* __restrict__ labels,
        const T* __restrict__ loss, double* __restrict__ totals) {
    __shared__ int of_warp[WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int right = 0;
    if (labels) {
        for (int row = warp; row < rows; row += WARPS) {
            const T* from = z + static_cast<long long>(row) * classes;
            T most = lane < classes ? from[lane] : from[0];
            for (int j = lane + 32; j < classes; j += 32) {
                const T entry = from[j];
                most = most < entry || entry != entry ? entry : most;
            }
            most = warp_max(most);
            unsigned last = 0;  // as a maximum: that of what is left of it
            for (int j = lane; j < classes; j += 32)
                if (from[j] == most || from[j] != from[j])
                    last = max(last, static_cast<unsigned>(classes - j));
            last = warp_largest(last);
            right += static_cast<long long>(classes - last) == labels[row];
        }
    }
    if (lane == 0) of_warp[warp] = right;
    __syncthreads();
    if (threadIdx.x != 0) return;
#pragma unroll
    for (int other = 1; other < WARPS; ++other) right += of_warp[other];
    const double value = double(loss[0]), step = totals[STEPS] + 1.0;
    totals[LOSS] += value * rows;
    totals[RIGHT] += right;
    totals[STEPS] = step;
    if (!(fabs(value) <= 1.7976931348623157e308) && totals[FIRST_BAD] == 0.0)
        totals[FIRST_BAD] = step;
}

// What the kernels of batches of small matrices share: entries, real or complex, and where they
// lie.
//
// An entry is a T, or a Complex<T> if PARTS = 2: two neighbouring T, the real part first. A batch
// is given by its first entry and three strides, counted in entries: to the next member, row,
// column. Any of them may be 0 or negative. What a kernel makes is dense, row after row, member
// after member.
//
// A member fails for itself: `info` has 0, k if its pivot number k (from 1) is zero, or -k if that
// is infinite or NaN, the first one in either case. As CuPy compiles with -ftz=true, a pivot of
// single precision below 2^-126 counts as zero. Entries of A that are not finite come to a pivot
// in the end. Nothing is put in the place of such a pivot, and a solution of such a member is NaN.
//
// `kappa` is max |A| max |A^-1 z| for a z of pseudo-random numbers, in single precision the larger
// one for two of them: a lower bound on the condition number, but for a factor n, and hardly
// ever far below it (J. D. Dixon, SIAM J. Numer. Anal. 20 (1983) 812); infinite or NaN where a
// solution is.
#pragma once
#include "pivot.cuh"

template <class T> struct alignas(2 * sizeof(T)) Complex {
    T re, im;
};

template <class T, int PARTS> struct EntryOf {
    using Type = T;
};
template <class T> struct EntryOf<T, 2> {
    using Type = Complex<T>;
};
template <class T, int PARTS> using Entry = typename EntryOf<T, PARTS>::Type;

// ---------------------------------------------------------------- arithmetic

template <class N> struct RealOf {
    using Type = N;
    static __device__ __forceinline__ N number(N x) { return x; }
};
template <class T> struct RealOf<Complex<T>> {
    using Type = T;
    static __device__ __forceinline__ Complex<T> number(T x) { return {x, T(0)}; }
};
template <class N> using Real = typename RealOf<N>::Type;

// From parts that are given in double precision; a real number has the first.
template <class N> __device__ __forceinline__ N entry_of(double re, double im) {
    if constexpr (sizeof(N) == sizeof(Real<N>)) return static_cast<N>(re);
    else return {static_cast<Real<N>>(re), static_cast<Real<N>>(im)};
}

template <class N> __device__ __forceinline__ N number(Real<N> x) { return RealOf<N>::number(x); }

__device__ __forceinline__ float conjugate(float x) { return x; }
__device__ __forceinline__ double conjugate(double x) { return x; }
template <class T> __device__ __forceinline__ Complex<T> conjugate(Complex<T> x) {
    return {x.re, -x.im};
}

__device__ __forceinline__ float real_part(float x) { return x; }
__device__ __forceinline__ double real_part(double x) { return x; }
template <class T> __device__ __forceinline__ T real_part(Complex<T> x) { return x.re; }

__device__ __forceinline__ float imaginary_part(float) { return 0.0f; }
__device__ __forceinline__ double imaginary_part(double) { return 0.0; }
template <class T> __device__ __forceinline__ T imaginary_part(Complex<T> x) { return x.im; }

template <class T> __device__ __forceinline__ Complex<T> operator-(Complex<T> a, Complex<T> b) {
    return {a.re - b.re, a.im - b.im};
}

// |x|^2
__device__ __forceinline__ float squared(float x) { return x * x; }
__device__ __forceinline__ double squared(double x) { return x * x; }
template <class T> __device__ __forceinline__ T squared(Complex<T> x) {
    return fused(x.re, x.re, x.im * x.im);
}

__device__ __forceinline__ float scaled(float x, float by) { return x * by; }
__device__ __forceinline__ double scaled(double x, double by) { return x * by; }
template <class T> __device__ __forceinline__ Complex<T> scaled(Complex<T> x, T by) {
    return {x.re * by, x.im * by};
}

__device__ __forceinline__ float product(float a, float b) { return a * b; }
__device__ __forceinline__ double product(double a, double b) { return a * b; }
template <class T> __device__ __forceinline__ Complex<T> product(Complex<T> a, Complex<T> b) {
    return {fused(a.re, b.re, -(a.im * b.im)), fused(a.re, b.im, a.im * b.re)};
}

// c + a b
template <class T> __device__ __forceinline__ Complex<T> fused(Complex<T> a, Complex<T> b,
                                                               Complex<T> c) {
    return {fused(-a.im, b.im, fused(a.re, b.re, c.re)),
            fused(a.im, b.re, fused(a.re, b.im, c.im))};
}
// c - a b
template <class T> __device__ __forceinline__ T minus(T c, T a, T b) { return fused(-a, b, c); }
template <class T> __device__ __forceinline__ Complex<T> minus(Complex<T> c, Complex<T> a,
                                                               Complex<T> b) {
    return fused(Complex<T>{-a.re, -a.im}, b, c);
}

__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }

// A quotient by zero at run time, which no compiler folds away or warns of.
__device__ __forceinline__ float not_a_number(float) { return __int_as_float(0x7fc00000); }
__device__ __forceinline__ double not_a_number(double) {
    return __longlong_as_double(0x7ff8000000000000ll);
}
template <class T> __device__ __forceinline__ Complex<T> not_a_number(Complex<T>) {
    return {not_a_number(T()), not_a_number(T())};
}

// ---------------------------------------------------------------- pivots

template <class N> using Size = typename Element<Real<N>>::Size;

// In the order of |x|, or of |re| + |im|; a NaN is above infinity.
__device__ __forceinline__ Element<float>::Size size_of(float x) {
    return Element<float>::size(x);
}
__device__ __forceinline__ Element<double>::Size size_of(double x) {
    return Element<double>::size(x);
}
__device__ __forceinline__ Element<float>::Size size_of(Complex<float> x) {
    return Element<float>::size(fabsf(x.re) + fabsf(x.im));
}
__device__ __forceinline__ Element<double>::Size size_of(Complex<double> x) {
    return Element<double>::size(fabs(x.re) + fabs(x.im));
}

// The size as a number again.
__device__ __forceinline__ float number_of(unsigned size) { return __uint_as_float(size); }
__device__ __forceinline__ double number_of(unsigned long long size) {
    return __longlong_as_double(static_cast<long long>(size));
}

__device__ __forceinline__ bool is_zero(float x) { return fabsf(x) < 0x1p-126f; }
__device__ __forceinline__ bool is_zero(double x) { return x == 0.0; }
template <class T> __device__ __forceinline__ bool is_zero(Complex<T> x) {
    return is_zero(x.re) && is_zero(x.im);
}
__device__ __forceinline__ bool is_finite(float x) { return x - x == 0.0f; }
__device__ __forceinline__ bool is_finite(double x) { return x - x == 0.0; }
template <class T> __device__ __forceinline__ bool is_finite(Complex<T> x) {
    return is_finite(x.re) && is_finite(x.im);
}

// What pivot number j (from 0) makes of `info`.
template <class N> __device__ __forceinline__ int judged(int info, N pivot, int j) {
    if (info != 0) return info;
    return is_zero(pivot) ? j + 1 : is_finite(pivot) ? 0 : -(j + 1);
}

// The same for the diagonal entry d that Cholesky takes the root of.
template <class T> __device__ __forceinline__ int judged_minor(int info, T d, int j) {
    if (info != 0) return info;
    return !is_finite(d) ? -(j + 1) : d > T(0) && !is_zero(d) ? 0 : j + 1;
}

// 2^-e for the exponent e of x, as far as that is normal.
__device__ __forceinline__ float inverse_power(float x) {
    const int exponent = static_cast<int>(__float_as_uint(x) >> 23 & 0xffu);
    return __uint_as_float(static_cast<unsigned>(min(max(254 - exponent, 1), 253)) << 23);
}
__device__ __forceinline__ double inverse_power(double x) {
    const int exponent =
        static_cast<int>(static_cast<unsigned long long>(__double_as_longlong(x)) >> 52 & 0x7ffull);
    return __longlong_as_double(static_cast<long long>(min(max(2046 - exponent, 1), 2045)) << 52);
}

// For quotients by one number: x / p = (x scale) inverse, as Divisor of pivot.cuh has it for real
// numbers. For complex ones p scale is near 1 in magnitude, so that neither square overflows.
template <class N> struct Quotient {
    Divisor<N> by;
    __device__ __forceinline__ static Quotient of(N pivot) { return {divisor(pivot)}; }
    __device__ __forceinline__ static Quotient by_factor(N factor) { return {{N(1), factor}}; }
    __device__ __forceinline__ N operator()(N x) const { return x * by.scale * by.inverse; }
};
template <class T> struct Quotient<Complex<T>> {
    T scale;
    Complex<T> inverse;
    __device__ __forceinline__ static Quotient of(Complex<T> pivot) {
        const T re = pivot.re < T(0) ? -pivot.re : pivot.re;
        const T im = pivot.im < T(0) ? -pivot.im : pivot.im;
        Quotient q;
        q.scale = inverse_power(re < im ? im : re);
        q.inverse = {T(1), T(0)};
        if (is_zero(pivot)) {
            q.scale = T(1);
        } else {
            const Complex<T> p = {pivot.re * q.scale, pivot.im * q.scale};
            const T norm = fused(p.re, p.re, p.im * p.im);
            q.inverse = {p.re / norm, -p.im / norm};
        }
        return q;
    }
    __device__ __forceinline__ static Quotient by_factor(T factor) {
        return {T(1), {factor, T(0)}};
    }
    __device__ __forceinline__ Complex<T> operator()(Complex<T> x) const {
        return product(scaled(x, scale), inverse);
    }
};

__device__ __forceinline__ float infinity(float) { return __int_as_float(0x7f800000); }
__device__ __forceinline__ double infinity(double) {
    return __longlong_as_double(0x7ff0000000000000ll);
}

// Entry i of z number p: of either sign, in magnitude from 1/2 to 1.
template <class N> constexpr int PROBES = sizeof(Real<N>) == 4 ? 2 : 1;
template <class N> __device__ __forceinline__ N probe(int i, int p) {
    unsigned word = 0x9e3779b9u * (i + 1000 * p + 1);
    word = (word ^ word >> 15) * 0x85ebca6bu;
    word = (word ^ word >> 13) * 0xc2b2ae35u;
    word ^= word >> 16;
    const Real<N> size = Real<N>(0.5) + (word >> 8) * Real<N>(0x1p-25);
    return number<N>(word & 1u ? size : -size);
}

// ---------------------------------------------------------------- where entries lie

template <class N> struct Strided {
    const N* first;
    long long member, row, column;

    template <class T>
    __device__ __forceinline__ Strided(const T* first, long long member, long long row,
                                       long long column)
        : first(reinterpret_cast<const N*>(first)), member(member), row(row), column(column) {}
    __device__ __forceinline__ N operator()(long long m, int i, int j) const {
        return first[m * member + i * row + j * column];
    }
    // Whether neighbours in a row lie closer than those in a column.
    __device__ __forceinline__ bool is_by_rows() const {
        const long long down = row < 0 ? -row : row, across = column < 0 ? -column : column;
        return across <= down;
    }
};

// Entries of triangles: conjugates if asked for, and one triangle made of the other, as
// batched_triangles.cu says.
template <class N> struct Triangles {
    Strided<N> given;
    int mirrored, conjugated;

    __device__ __forceinline__ Triangles(const Strided<N>& given, int mirrored, int conjugated)
        : given(given), mirrored(mirrored), conjugated(conjugated) {}
    __device__ __forceinline__ N operator()(long long m, int i, int j) const {
        const bool is_mirror = mirrored == 1 ? j > i : mirrored == 2 && j < i;
        const N x = is_mirror ? given(m, j, i) : given(m, i, j);
        return is_mirror != (conjugated != 0) ? conjugate(x) : x;
    }
};

// Which row comes to row i by the n interchanges of piv, first to last.
__device__ __forceinline__ int moved_row(const int* piv, int n, int i) {
    for (int k = n - 1; k >= 0; --k) {
        const int p = piv[k];
        i = i == k ? p : i == p ? k : i;
    }
    return i;
}

// One number or two from another lane.
__device__ __forceinline__ float from_lane(float x, int lane) {
    return __shfl_sync(WHOLE_WARP, x, lane);
}
__device__ __forceinline__ double from_lane(double x, int lane) {
    return __shfl_sync(WHOLE_WARP, x, lane);
}
template <class T> __device__ __forceinline__ Complex<T> from_lane(Complex<T> x, int lane) {
    const T re = from_lane(x.re, lane);
    const T im = from_lane(x.im, lane);
    return {re, im};
}

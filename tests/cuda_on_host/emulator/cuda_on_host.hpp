// A subset of CUDA C++ on the CPU, for tests: every CUDA thread is a fiber of one OS thread.
// Kernels are compiled with this header in place of CUDA's; the runtime is compiled apart from
// them, so that the access checker sees the kernel's accesses and none of its own.
#pragma once
#include "atomics.hpp"
#include "execution.hpp"
#include "export.hpp"
#include "numbers.hpp"
#include "tensor.hpp"
#include "warp.hpp"

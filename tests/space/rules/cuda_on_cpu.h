// Runs a CUDA kernel of TVM on the CPU: the threads of a block are fibers, which take turns at barriers.
#include <ucontext.h>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>
// Only what TVM writes for float32 without tensor cores.
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
struct Dim { int x, y, z; };
static Dim threadIdx, blockIdx, blockDim;
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct uchar4 { unsigned char x, y, z, w; };
static inline float2 make_float2(float a, float b) { return {a, b}; }
static inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
static inline int2 make_int2(int a, int b) { return {a, b}; }
static inline int4 make_int4(int a, int b, int c, int d) { return {a, b, c, d}; }
template <class T> T max(T a, T b) { return a > b ? a : b; }
template <class T> T min(T a, T b) { return a < b ? a : b; }
#define __expf expf
static std::vector<ucontext_t> fibers;
static std::vector<char> ended;
static ucontext_t scheduler;
static int current, count;
static void turn() { int me = current; swapcontext(&fibers[me], &scheduler); threadIdx = {me % blockDim.x, me / blockDim.x, 0}; }
static void __syncthreads() { turn(); }
static float exchanged[1024];
static unsigned __activemask() { return 0xffffffffu; }
static float __shfl_sync(unsigned, float v, int lane, int width) {
  exchanged[current] = v; turn();
  float r = exchanged[current / width * width + lane % width]; turn(); return r; }
static float __shfl_down_sync(unsigned, float v, int by, int width) {
  exchanged[current] = v; turn();
  int l = current % width; float r = exchanged[l + by < width ? current + by : current]; turn(); return r; }
#define alignas(n) __attribute__((aligned(n)))

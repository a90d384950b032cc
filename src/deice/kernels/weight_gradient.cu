// Weight gradients of 3x3 convolutions with 32 channels: matrix products whose long side is all pixels.
//
// Activations X and gradients G lie as (b, y, x, 32) of bf16 or fp16 (ELEMENT_BF16 says which), 64 bytes a pixel.
// Sums are kept in fp32. Every block leaves its sums in `partial`, and a second kernel adds the blocks' in a fixed order:
// no atomics, the same bits every time.
//
//     weight_gradient           dW[o, ky, kx, i] = sum over p of G[p, o] X[p + k - 1, i]     the layers of 32 channels
//     correlate_picture         C[tap, o]        = sum over p of G[p, o] picture[p + tap - 1]  the first and last layer
//
// No header is included, so that NVRTC compiles it without a CUDA toolkit.

typedef unsigned int u32;
typedef long long i64;

#if ELEMENT_BF16
#define MMA_TYPE "bf16"
#define ONES 0x3F803F80u
#else
#define MMA_TYPE "f16"
#define ONES 0x3C003C00u
#endif

// ---------------------------------------------------------------------------------------------------- instructions

__device__ __forceinline__ void copy_16_bytes(u32 shared, const void* global, bool inside) {
    // asynchronous; what lies outside the picture is not read and becomes zeros
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(global), "r"(inside ? 16 : 0));
}

__device__ __forceinline__ void close_group() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

template <int PENDING>
__device__ __forceinline__ void wait_for_groups() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void load_transposed(u32 (&four)[4], u32 shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3]) : "r"(shared) : "memory");
}

__device__ __forceinline__ void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPE "." MMA_TYPE ".f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply(float (&sums)[2][4][4], const u32 (&g)[2][4], const u32 (&x)[2][4]) {
    // 32 outputs x 32 inputs, over 16 pixels
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) multiply_add(sums[m][n], g[m], x[n / 2][n % 2 * 2], x[n / 2][n % 2 * 2 + 1]);
}

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// ------------------------------------------------------------------------------------------ layers of 32 channels
//
// A block walks down strips STRIP pixels wide, six rows a stage. Of a stage it holds rows r of X (with a pixel more on
// either side) and rows r + 1 of G. Twelve warps: one of three kx, times one of four 16-pixel segments of the strip. At
// row r a warp loads X[r], shifted by kx, and G[r + 1]; G[r] and G[r - 1] it still has in registers; so each load from
// shared memory serves three taps: 24 products for 4 loads.

constexpr int STRIP = 64, ROWS = 6, SEGMENTS = STRIP / 16, THREADS = 3 * SEGMENTS * 32;
constexpr int PIXEL = 64;                                                     // bytes
constexpr int X_ROW = (STRIP + 2) * PIXEL, G_ROW = STRIP * PIXEL;             // bytes
constexpr int X_STAGE = ROWS * X_ROW, STAGE = X_STAGE + ROWS * G_ROW;         // bytes
constexpr int SUMS_A_WARP = (3 * 2 * 4 + 1) * 4;                              // 32 lanes each hold so many
constexpr int SUMS = 32 * 9 * 32 + 32;                                        // of a block: weights, bias

__device__ __forceinline__ u32 swizzled(int pixel, int chunk) {
    // eight neighbouring pixels at one chunk lie in different banks, from whichever pixel on
    return pixel * PIXEL + ((chunk ^ ((pixel >> 1) & 3)) << 4);
}

struct Walk {
    // the rows [row, end) of all strips of all pictures that a block has still to load
    i64 row, end;
    int height, width, strips, picture, x, y, last, at;  // rows y to last (not included) of a strip; `at`: X's next row

    __device__ void enter() {
        const i64 strip = row / height;
        y = (int)(row - strip * height);
        last = end - row < height - y ? y + (int)(end - row) : height;
        picture = (int)(strip / strips);
        x = (int)(strip - (i64)picture * strips) * STRIP;
        at = y - 1;
    }
    __device__ i64 place(int from_at, int from_x) const {  // bytes from the first pixel to one of the next stage
        return (((i64)picture * height + at + from_at) * width + x + from_x) * PIXEL;
    }
    __device__ bool first() const { return at == y - 1; }
    __device__ bool done() const { return row >= end; }
    __device__ void advance() {
        at += ROWS;
        if (at > last) {  // X[last] was the last row that this strip needs
            row += last - y;
            if (!done()) enter();
        }
    }
};

__device__ __forceinline__ void load_stage(u32 stage, const Walk& walk, const char* X, const char* G) {
    // 128 threads a row: a chunk of two pixels, 32 pixels apart, of X and of G
    const int pixel = (threadIdx.x >> 2) & 31, chunk = threadIdx.x & 3;
    const bool left = walk.x + pixel < walk.width, right = walk.x + pixel + 32 < walk.width;
#pragma unroll
    for (int row = threadIdx.x >> 7; row < ROWS; row += THREADS / 128) {
        const u32 x_to = stage + row * X_ROW + swizzled(pixel + 1, chunk);
        const u32 g_to = stage + X_STAGE + row * G_ROW + swizzled(pixel, chunk);
        const i64 from = walk.place(row, pixel) + chunk * 16;
        const char *x_from = X + from, *g_from = G + from + (i64)walk.width * PIXEL;
        const int x_row = walk.at + row;
        const bool x_inside = x_row >= 0 && x_row < walk.height, g_inside = x_row + 1 < walk.last;
        copy_16_bytes(x_to, x_from, x_inside && left);
        copy_16_bytes(x_to + 32 * PIXEL, x_from + 32 * PIXEL, x_inside && right);
        copy_16_bytes(g_to, g_from, g_inside && left);
        copy_16_bytes(g_to + 32 * PIXEL, g_from + 32 * PIXEL, g_inside && right);
        if ((threadIdx.x & 127) < 8) {  // a pixel of X more on either side
            const int side = (threadIdx.x >> 2) & 1, beside = side * (STRIP + 1), x = walk.x - 1 + beside;
            copy_16_bytes(stage + row * X_ROW + swizzled(beside, chunk), X + walk.place(row, beside - 1) + chunk * 16,
                          x_inside && x >= 0 && x < walk.width);
        }
    }
}

// Sum `column` of a block, of dW (32 outputs, 3, 3, 32 inputs) and then db (32,), from where its warps left them.
__device__ __forceinline__ float sum_of_block(const float* sums, int column) {
    const int output = column < 9216 ? column / 288 : column - 9216, o = output % 16;
    if (column >= 9216) {
        const float* bias = sums + (96 + o / 8 * 2 + output / 16) * 32 + o % 8 * 4;
        return bias[0] + bias[SUMS_A_WARP * 32] + bias[2 * SUMS_A_WARP * 32];
    }
    const int ky = column / 96 % 3, kx = column / 32 % 3, input = column % 32;
    const int index = ky * 32 + output / 16 * 16 + input / 8 * 4 + o / 8 * 2 + input % 2;
    return sums[(kx * SUMS_A_WARP + index) * 32 + o % 8 * 4 + input % 8 / 2];
}

// partial: (blocks, SUMS) floats. Dynamic shared memory: STAGES * STAGE bytes, 40 kB at least.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
weight_gradient(const char* X, const char* G, float* partial, int pictures, int height, int width) {
    extern __shared__ __align__(128) char shared[];
    __shared__ int starts[STAGES];  // whether a stage is the first of a strip
    const u32 ring = shared_address(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, kx = warp % 3, segment = warp / 3;

    Walk walk;
    walk.height = height;
    walk.width = width;
    walk.strips = (width + STRIP - 1) / STRIP;
    const i64 rows = (i64)pictures * walk.strips * height;
    walk.row = rows * blockIdx.x / gridDim.x;
    walk.end = rows * (blockIdx.x + 1) / gridDim.x;
    if (!walk.done()) walk.enter();

    int loaded = 0;
    auto load_next = [&]() {
        if (!walk.done()) {
            const int slot = loaded % STAGES;
            if (threadIdx.x == 0) starts[slot] = walk.first();
            load_stage(ring + slot * STAGE, walk, X, G);
            walk.advance();
            ++loaded;
        }
        close_group();
    };
    for (int ahead = 0; ahead < STAGES - 1; ++ahead) load_next();

    // of a matrix of 16 pixels x 16 channels: which pixel's chunk this lane points ldmatrix to
    const int g_pixel = segment * 16 + (lane & 7) + (lane >> 4) * 8, g_chunk = (lane >> 3) & 1;
    const int x_pixel = segment * 16 + kx + (lane & 7) + ((lane >> 3) & 1) * 8, x_chunk = lane >> 4;
    const u32 g_low = X_STAGE + swizzled(g_pixel, g_chunk), g_high = X_STAGE + swizzled(g_pixel, g_chunk + 2);
    const u32 x_low = swizzled(x_pixel, x_chunk), x_high = swizzled(x_pixel, x_chunk + 2);

    float sums[3][2][4][4] = {}, bias[4] = {};  // of ky, 16 outputs, 8 inputs
    const u32 ones[2] = {lane / 4 == 0 ? ONES : 0, lane / 4 == 1 ? ONES : 0};  // columns 0 and 1: of either 16 outputs
    u32 g[3][2][4] = {};                           // the last three rows of G
    for (int stage = 0; stage < loaded; ++stage) {
        wait_for_groups<STAGES - 2>();
        __syncthreads();
        const int slot = stage % STAGES;
        const u32 here = ring + slot * STAGE;
        if (starts[slot]) {
#pragma unroll
            for (int m = 0; m < 2; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i) g[1][m][i] = g[2][m][i] = 0;
        }
        u32 x[2][2][4];
        load_transposed(g[0][0], here + g_low);
        load_transposed(g[0][1], here + g_high);
        load_transposed(x[0][0], here + x_low);
        load_transposed(x[0][1], here + x_high);
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            const int before = (row + 1) % 3, next = row + 1;
            if (next < ROWS) {
                load_transposed(x[next % 2][0], here + next * X_ROW + x_low);
                load_transposed(x[next % 2][1], here + next * X_ROW + x_high);
            }
            multiply(sums[2], g[before], x[row % 2]);  // G[r - 1], whose registers the next row's G may then have
            if (next < ROWS) {
                load_transposed(g[before][0], here + next * G_ROW + g_low);
                load_transposed(g[before][1], here + next * G_ROW + g_high);
            }
            multiply(sums[1], g[(row + 2) % 3], x[row % 2]);
            multiply(sums[0], g[row % 3], x[row % 2]);
            if (row % 3 == kx) {  // the three warps of a segment share the sums of G
                multiply_add(bias, g[row % 3][0], ones[0], ones[0]);
                multiply_add(bias, g[row % 3][1], ones[1], ones[1]);
            }
        }
        load_next();
    }

    // the sums of the four segments, one after the other
    wait_for_groups<0>();
    float* total = (float*)shared + kx * SUMS_A_WARP * 32 + lane;
    for (int turn = 0; turn < SEGMENTS; ++turn) {
        __syncthreads();
        if (turn != segment) continue;
#pragma unroll
        for (int i = 0; i < SUMS_A_WARP; ++i) {
            const float mine = i < 96 ? sums[i / 32][i / 16 % 2][i / 4 % 4][i % 4] : bias[i % 4];
            total[i * 32] = turn == 0 ? mine : total[i * 32] + mine;
        }
    }
    __syncthreads();
    float* mine = partial + (i64)blockIdx.x * SUMS;
    for (int i = threadIdx.x; i < SUMS; i += THREADS) mine[i] = sum_of_block((const float*)shared, i);
}

// ---------------------------------------------------------------------------------------------- first and last layer
//
// Sixteen rows of taps (nine, one of ones for the bias, six of nothing) times 32 channels. Bound by memory: G goes from
// there into registers, 8 bytes a lane, and a byte permutation makes pairs of pixels of it, which mma wants. Which 16
// pixels are which k of the product is free: pixel 4 q + t is what lane (g, t) loads q-th.

constexpr int WARPS = 8, AT_ONCE = 4;  // pieces of 16 pixels in flight
constexpr int THIN_SUMS = 9 * 32 + 32;

__device__ __forceinline__ u32 pair(unsigned short low, unsigned short high) { return low | (u32)high << 16; }

__device__ __forceinline__ u32 pair(float low, float high) {
    u32 both;
#if ELEMENT_BF16
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(both) : "f"(high), "f"(low));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}

template <typename Grey>
__device__ __forceinline__ Grey grey_at(const Grey* row, int x, int width, bool inside) {
    return inside && x >= 0 && x < width ? row[x] : (Grey)0;
}

template <typename Grey>
__device__ __forceinline__ void correlate(const Grey* picture, const char* G, float* partial, int pictures, int height,
                                          int width, bool flipped) {
    __shared__ float shared[WARPS][4 * 4 * 32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float sums[4][4] = {};
    for (int row = blockIdx.x; row < pictures * height; row += gridDim.x) {
        const int y = row % height, y_tap = y + g / 3 - 1;
        const Grey* grey = picture + (i64)(row + g / 3 - 1) * width + g % 3 - 1;  // lane's tap at x = 0
        const Grey* grey_below = picture + (i64)(row + 1) * width + 1;            // tap 8, which has no lanes of its own
        const bool inside = y_tap >= 0 && y_tap < height, inside_below = g == 0 && y + 1 < height;
        const char* features = G + (i64)row * width * PIXEL + g * 8;
        for (int start = warp * 16; start < width; start += AT_ONCE * WARPS * 16) {
            u32 f[AT_ONCE][4][2];
#pragma unroll
            for (int piece = 0; piece < AT_ONCE; ++piece)
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    const int x = start + piece * WARPS * 16 + 4 * q + t;
                    f[piece][q][0] = f[piece][q][1] = 0;
                    if (x < width)
                        asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];\n"
                                     : "=r"(f[piece][q][0]), "=r"(f[piece][q][1]) : "l"(features + (i64)x * PIXEL));
                }
#pragma unroll
            for (int piece = 0; piece < AT_ONCE; ++piece) {
                const int x = start + piece * WARPS * 16 + t, dx = g % 3 - 1;
                Grey here[4], below[4];
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    const int at = x + 4 * q;
                    here[q] = grey_at(grey - dx, at + dx, width, inside);
                    below[q] = grey_at(grey_below - 1, at + 1, width, inside_below);
                }
                const u32 ones = g == 1 ? ONES : 0;
                const u32 taps[4] = {pair(here[0], here[1]), pair(below[0], below[1]) | ones,
                                     pair(here[2], here[3]), pair(below[2], below[3]) | ones};
#pragma unroll
                for (int n = 0; n < 4; ++n) {
                    const u32 select = n % 2 ? 0x7632 : 0x5410;
                    multiply_add(sums[n], taps, __byte_perm(f[piece][0][n / 2], f[piece][1][n / 2], select),
                                 __byte_perm(f[piece][2][n / 2], f[piece][3][n / 2], select));
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) shared[warp][i * 32 + lane] = sums[i / 4][i % 4];
    __syncthreads();
    for (int i = threadIdx.x; i < 10 * 32; i += WARPS * 32) {
        // channel 4 c + n of tap m is in column c of product n: lane 4 (m % 8) + c / 2, the sum of number 2 (m / 8) + c % 2
        const int tap = i / 32, channel = i % 32, n = channel % 4, c = channel / 4;
        const int from = (n * 4 + tap / 8 * 2 + c % 2) * 32 + tap % 8 * 4 + c / 2;
        float sum = 0;
        for (int w = 0; w < WARPS; ++w) sum += shared[w][from];
        const int column = tap == 9 ? 288 + channel : flipped ? (8 - tap) * 32 + channel : channel * 9 + tap;
        partial[(i64)blockIdx.x * THIN_SUMS + column] = sum;
    }
}

// partial: (blocks, 320): the weights' gradient as (32, 3, 3), or flipped as (3, 3, 32), then the sums of G's 32 channels.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
correlate_picture(const unsigned short* __restrict__ picture, const char* __restrict__ G, float* partial, int pictures,
                  int height, int width, int flipped) {
    correlate(picture, G, partial, pictures, height, width, flipped);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32)
correlate_picture_fp32(const float* __restrict__ picture, const char* __restrict__ G, float* partial, int pictures,
                       int height, int width, int flipped) {
    correlate(picture, G, partial, pictures, height, width, flipped);
}

// --------------------------------------------------------------------------------------------------- sums of blocks

// total[column] = sum over blocks of partial[block, column]. 256 threads: eight shares of the blocks, 32 columns.
extern "C" __global__ void add_blocks(const float* __restrict__ partial, float* total, int blocks, int columns) {
    __shared__ float shares[8][32];
    const int share = threadIdx.x / 32, lane = threadIdx.x % 32, column = blockIdx.x * 32 + lane;
    float sum = 0;
    if (column < columns)
#pragma unroll 4
        for (int block = share; block < blocks; block += 8) sum += partial[(i64)block * columns + column];
    shares[share][lane] = sum;
    __syncthreads();
    if (share != 0 || column >= columns) return;
    for (int other = 1; other < 8; ++other) sum += shares[other][lane];
    total[column] = sum;
}

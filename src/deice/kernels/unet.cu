// What a U-Net does between its convolutions, each as one pass over memory: bias and ReLU, pooling, enlarging, placing
// beside each other, the last 1x1 layer, and the gradients of all of them.
//
// Features are (b, z, y, x, channels) of bf16, or fp16 where FP16 is defined; a picture has one z. A thread works on
// chunks of eight channels, 16 bytes. `chunks` is how many a pixel has, a power of two up to 256; `stride` how many lie
// between two pixels where the features are part of wider ones. DEPTH is 2 where z is pooled too, else 1. Gradients of
// biases are sums over pixels: each block leaves its own in `partial`, a part of rows of `columns`, one row a block, which
// `add_blocks` adds in a fixed order.
//
// No header is included, so that NVRTC compiles it without a CUDA toolkit.

typedef unsigned int u32;
typedef long long i64;

constexpr int THREADS = 256, CORNERS = 4 * DEPTH;

// ------------------------------------------------------------------------------------------------------ eight channels

struct Eight {
    float of[8];
};

__device__ __forceinline__ void unpack(u32 both, float& low, float& high) {
#ifdef FP16
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(low), "=f"(high) : "r"(both));
#else
    low = __uint_as_float(both << 16);
    high = __uint_as_float(both & 0xFFFF0000u);
#endif
}

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
#ifdef FP16
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}

__device__ __forceinline__ float larger(float one, float other) {  // NaN where either is
    float found;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(found) : "f"(one), "f"(other));
    return found;
}

__device__ __forceinline__ Eight load(const uint4* from) {
    const uint4 raw = *from;
    Eight eight;
    unpack(raw.x, eight.of[0], eight.of[1]);
    unpack(raw.y, eight.of[2], eight.of[3]);
    unpack(raw.z, eight.of[4], eight.of[5]);
    unpack(raw.w, eight.of[6], eight.of[7]);
    return eight;
}

__device__ __forceinline__ void store(uint4* to, const Eight& eight) {
    *to = make_uint4(pack(eight.of[0], eight.of[1]), pack(eight.of[2], eight.of[3]), pack(eight.of[4], eight.of[5]),
                     pack(eight.of[6], eight.of[7]));
}

__device__ __forceinline__ Eight eight_floats(const float* from) {
    Eight eight;
#pragma unroll
    for (int i = 0; i < 8; ++i) eight.of[i] = from ? from[i] : 0.0f;
    return eight;
}

__device__ __forceinline__ void add_to(Eight& sum, const Eight& more) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.of[i] += more.of[i];
}

// --------------------------------------------------------------------------------------------------- which pixel, which sum

struct Coarse {
    // a pixel of the coarser grid (fewer than 2^31) and the 4 or 8 pixels of the finer grid that it covers
    i64 first;
    int row, plane;  // distances of the finer grid

    __device__ Coarse(i64 pixel, int height, int width) {
        const u32 line = (u32)pixel / (u32)width, slab = line / (u32)height;  // a slab: one z of one picture
        const u32 x = (u32)pixel - line * width, y = line - slab * height;
        row = 2 * width;
        plane = 4 * height * width;
        first = ((i64)slab * DEPTH * 2 * height + 2 * y) * row + 2 * x;
    }
    __device__ i64 corner(int number) const {
        return first + (number & 1) + (number >> 1 & 1) * (i64)row + (number >> 2) * (i64)plane;
    }
};

// partial[block x columns + channel]: the sums that the threads of one chunk hold.
__device__ __forceinline__ void leave(const Eight& sum, float* partial, int columns, int chunks) {
    __shared__ float sums[THREADS * 8];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[threadIdx.x * 8 + i] = sum.of[i];
    __syncthreads();
    for (int channel = threadIdx.x; channel < chunks * 8; channel += THREADS) {
        float total = 0;
        for (int at = channel; at < THREADS * 8; at += chunks * 8) total += sums[at];
        partial[(i64)blockIdx.x * columns + channel] = total;
    }
}

// A thread keeps its chunk: the number of threads is a multiple of `chunks`.
#define FOR_EACH_PIXEL(pixels)                                                                  \
    const int chunk = threadIdx.x % chunks;                                                     \
    for (i64 pixel = (blockIdx.x * (i64)THREADS + threadIdx.x) / chunks; pixel < (i64)(pixels); \
         pixel += (i64)gridDim.x * THREADS / chunks)

// ------------------------------------------------------------------------------------------------------------- forward

// features = ReLU(features + bias), in place.
extern "C" __global__ void __launch_bounds__(THREADS) bias_relu(uint4* features, const float* bias, int chunks, int pixels) {
    const Eight added = eight_floats(bias + threadIdx.x % chunks * 8);
    FOR_EACH_PIXEL(pixels) {
        Eight here = load(features + pixel * chunks + chunk);
#pragma unroll
        for (int i = 0; i < 8; ++i) here.of[i] = larger(here.of[i] + added.of[i], 0.0f);
        store(features + pixel * chunks + chunk, here);
    }
}

// ReLU(features + bias) into `placed`, and its maxima into `pooled`. slabs, height, width: of the coarser grid.
extern "C" __global__ void __launch_bounds__(THREADS)
place_and_pool(const uint4* features, const float* bias, uint4* placed, uint4* pooled, int chunks, int stride, int slabs,
               int height, int width) {
    const Eight added = eight_floats(bias ? bias + threadIdx.x % chunks * 8 : nullptr);
    FOR_EACH_PIXEL((i64)slabs * height * width) {
        const Coarse grid(pixel, height, width);
        Eight largest = {};
#pragma unroll
        for (int corner = 0; corner < CORNERS; ++corner) {
            const i64 fine = grid.corner(corner);
            Eight here = load(features + fine * chunks + chunk);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                here.of[i] = larger(here.of[i] + added.of[i], 0.0f);
                largest.of[i] = larger(largest.of[i], here.of[i]);
            }
            store(placed + fine * stride + chunk, here);
        }
        store(pooled + pixel * chunks + chunk, largest);
    }
}

// Each pixel of `features` four or eight times into `placed`. slabs, height, width: of the coarser grid.
extern "C" __global__ void __launch_bounds__(THREADS)
enlarge(const uint4* features, uint4* placed, int chunks, int stride, int slabs, int height, int width) {
    FOR_EACH_PIXEL((i64)slabs * height * width) {
        const Coarse grid(pixel, height, width);
        const uint4 here = features[pixel * chunks + chunk];
#pragma unroll
        for (int corner = 0; corner < CORNERS; ++corner) placed[grid.corner(corner) * stride + chunk] = here;
    }
}

// answer[pixel] = (added[pixel] if given) + bias + sum over channels of weight x feature; up to 32 chunks.
extern "C" __global__ void __launch_bounds__(THREADS)
project(const uint4* features, const float* weight, const float* bias, const float* added, float* answer, int chunks,
        int pixels) {
    const Eight factor = eight_floats(weight + threadIdx.x % chunks * 8);
    const i64 rounded = ((i64)pixels * chunks + 31) / 32 * 32 / chunks;  // whole warps: their lanes add up together
    FOR_EACH_PIXEL(rounded) {
        float sum = 0;
        if (pixel < pixels) {
            const Eight here = load(features + pixel * chunks + chunk);
#pragma unroll
            for (int i = 0; i < 8; ++i) sum += here.of[i] * factor.of[i];
        }
        for (int apart = 1; apart < chunks; apart *= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, apart);
        if (chunk == 0 && pixel < pixels) answer[pixel] = sum + bias[0] + (added ? added[pixel] : 0.0f);
    }
}

// ------------------------------------------------------------------------------------------------------------ gradients

// gradient x (features > 0), in place; partial: its sums.
extern "C" __global__ void __launch_bounds__(THREADS)
relu_gradient(uint4* gradient, const uint4* features, float* partial, int columns, int chunks, int pixels) {
    Eight sum = {};
    FOR_EACH_PIXEL(pixels) {
        Eight here = load(gradient + pixel * chunks + chunk);
        const Eight feature = load(features + pixel * chunks + chunk);
#pragma unroll
        for (int i = 0; i < 8; ++i) here.of[i] = feature.of[i] > 0.0f ? here.of[i] : 0.0f;
        store(gradient + pixel * chunks + chunk, here);
        add_to(sum, here);
    }
    leave(sum, partial, columns, chunks);
}

// Of `enlarge`, and of the ReLU that made the features it enlarged: into `out`; partial: its sums.
extern "C" __global__ void __launch_bounds__(THREADS)
enlarge_gradient(const uint4* gradient, const uint4* features, uint4* out, float* partial, int columns, int chunks,
                 int stride, int slabs, int height, int width) {
    Eight sum = {};
    FOR_EACH_PIXEL((i64)slabs * height * width) {
        const Coarse grid(pixel, height, width);
        Eight here = {};
#pragma unroll
        for (int corner = 0; corner < CORNERS; ++corner) add_to(here, load(gradient + grid.corner(corner) * stride + chunk));
        const Eight feature = load(features + pixel * chunks + chunk);
#pragma unroll
        for (int i = 0; i < 8; ++i) here.of[i] = feature.of[i] > 0.0f ? here.of[i] : 0.0f;
        store(out + pixel * chunks + chunk, here);
        add_to(sum, here);
    }
    leave(sum, partial, columns, chunks);
}

// Of `place_and_pool`: what comes back from where the features were placed, and to the first largest of each block what
// comes back from its maximum; where the features are above zero. partial: the sums.
extern "C" __global__ void __launch_bounds__(THREADS)
place_and_pool_gradient(const uint4* of_placed, const uint4* placed, const uint4* of_pooled, uint4* out, float* partial,
                        int columns, int chunks, int stride, int slabs, int height, int width) {
    Eight sum = {};
    FOR_EACH_PIXEL((i64)slabs * height * width) {
        const Coarse grid(pixel, height, width);
        Eight features[CORNERS], largest = {};
#pragma unroll
        for (int corner = 0; corner < CORNERS; ++corner) {
            features[corner] = load(placed + grid.corner(corner) * stride + chunk);
#pragma unroll
            for (int i = 0; i < 8; ++i) largest.of[i] = fmaxf(largest.of[i], features[corner].of[i]);
        }
        Eight still = load(of_pooled + pixel * chunks + chunk);  // to be given to the first largest
#pragma unroll
        for (int corner = 0; corner < CORNERS; ++corner) {
            const i64 fine = grid.corner(corner);
            Eight here = load(of_placed + fine * stride + chunk);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const float feature = features[corner].of[i];
                if (feature == largest.of[i]) here.of[i] += still.of[i], still.of[i] = 0.0f;
                if (!(feature > 0.0f)) here.of[i] = 0.0f;
            }
            store(out + fine * chunks + chunk, here);
            add_to(sum, here);
        }
    }
    leave(sum, partial, columns, chunks);
}

// Of `project`, and of the ReLU that made its features: into `out`; partial: its sums. of_weight: as partial, the sums of
// gradient x feature, which are the weight's gradient.
extern "C" __global__ void __launch_bounds__(THREADS)
project_gradient(const float* gradient, const float* weight, const uint4* features, uint4* out, float* of_weight,
                 float* partial, int columns, int chunks, int pixels) {
    const Eight factor = eight_floats(weight + threadIdx.x % chunks * 8);
    Eight weighted = {}, sum = {};
    FOR_EACH_PIXEL(pixels) {
        const float here = gradient[pixel];
        const Eight feature = load(features + pixel * chunks + chunk);
        Eight back;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            weighted.of[i] += here * feature.of[i];
            back.of[i] = feature.of[i] > 0.0f ? here * factor.of[i] : 0.0f;
        }
        store(out + pixel * chunks + chunk, back);
        add_to(sum, back);
    }
    leave(weighted, of_weight, columns, chunks);
    leave(sum, partial, columns, chunks);
}

// total[column] = sum over blocks of partial[block, column]: eight shares of the blocks, 32 columns.
extern "C" __global__ void __launch_bounds__(THREADS)
add_blocks(const float* partial, float* total, int blocks, int columns) {
    __shared__ float shares[8][32];
    const int share = threadIdx.x / 32, lane = threadIdx.x % 32, column = blockIdx.x * 32 + lane;
    float sum = 0;
    if (column < columns)
        for (int block = share; block < blocks; block += 8) sum += partial[(i64)block * columns + column];
    shares[share][lane] = sum;
    __syncthreads();
    if (share != 0 || column >= columns) return;
    for (int other = 1; other < 8; ++other) sum += shares[other][lane];
    total[column] = sum;
}

// 3×3 convolutions of 32 channels with what follows them, zeros around the picture; no header is needed.
//
// Activations are (b, y, x, 32) in bf16 or fp16 (macro FP16), sums are fp32. A worker is a warpgroup (4 warps) that owns a
// strip 64 pixels wide and walks down its rows. A row is copied once to a ring in shared memory, as four planes of
// [pixel][8 channels]: there a shift by one pixel is a shift by 16 bytes, so that nothing is gathered. Each input row is
// multiplied by the weights of all three ky at once, which adds to three output rows; their sums rotate through three sets
// of registers, and the oldest row is done. So every operand is fetched once for three output rows, and none of the
// arithmetic is wasted. Output channels are permuted in the packed weights so that a thread holds 8 neighbouring
// channels, which are one 16-byte store.

typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef FP16
#define TYPE "f16"
#else
#define TYPE "bf16"
#endif
#ifdef WGMMA
constexpr int WORKERS = 4;  // warpgroups in a block
constexpr int RING = 10;    // rows in flight
#else
constexpr int WORKERS = 2;
constexpr int RING = 8;
#endif

constexpr int STRIP = 64;                // pixels of a worker
constexpr int SPAN = STRIP + 2;          // and what they see
constexpr int PLANE = SPAN * 16;         // bytes of 8 channels; 32 beyond a multiple of 128, so that copies hit all banks
constexpr int ROW = 4 * PLANE;
constexpr int WORKER_BYTES = RING * ROW;

__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// 16 bytes to shared memory, zeros where not `inside`: then nothing is read, and the address may be anything.
__device__ __forceinline__ void copy16(u32 to, const void* from, bool inside) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}
__device__ __forceinline__ void meet(int worker) { asm volatile("bar.sync %0, 128;" ::"r"(worker + 1) : "memory"); }

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
    asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
__device__ __forceinline__ u32 pack_positive(float low, float high) {
    u32 both;
#ifdef FP16  // what is too large for fp16 is its largest number; NaN stays NaN
    asm("min.NaN.f32 %0, %0, 0f477FE000;" : "+f"(low));
    asm("min.NaN.f32 %0, %0, 0f477FE000;" : "+f"(high));
#endif
    asm("cvt.rn.relu." TYPE "x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
__device__ __forceinline__ u32 where_not_zero(u32 values, u32 active) {  // active: two numbers that are not negative
    u32 top = ((active & 0x7fff7fffu) + 0x7fff7fffu) & 0x80008000u;
    return values & ((top - (top >> 15)) | top);
}
__device__ __forceinline__ void store16(void* to, const u32* v) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
                 ::"l"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
}

__device__ __forceinline__ void load_fragment(u32* a, u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(address) : "memory");
}
__device__ __forceinline__ void multiply(float* d, const u32* a, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

extern __shared__ __align__(128) char memory[];

// The pictures, and how the work is shared: every strip is cut into pieces of `rows` rows. Neighbouring workers have
// neighbouring strips of the same rows, so that together they read memory in long stretches.
struct Picture {
    int batch, height, width, rows;
    int margin, step, across;  // pixels seen beyond the strip; pixels of it that are right; strips side by side
    __device__ __forceinline__ Picture(int b, int h, int w, int r, int layers)
        : batch(b), height(h), width(w), rows(r), margin(layers), step(STRIP + 2 - 2 * layers) {
        across = (w + step - 1) / step;
    }
};

// The ring of one worker: what it copies, row after row, and from where.
struct Ring {
    u32 to;             // this thread's first chunk in the first slot
    const char* from;   // and in the next row of the picture
    long long pitch;    // bytes of a row
    int row, height;    // the next row
    bool inside[3];     // this thread's pixels in the picture

    __device__ __forceinline__ void aim(const void* pictures, const Picture& p, int strip, int first, u32 ring, int t) {
        const int x = (strip % p.across) * p.step - p.margin + (t >> 2);
        row = first, height = p.height, pitch = (long long)p.width * 64;
        to = ring + (t & 3) * PLANE + (t >> 2) * 16;
        from = (const char*)pictures + ((strip / p.across) * (long long)height + first) * pitch + x * 64ll + (t & 3) * 16;
        for (int i = 0; i < 3; i++) inside[i] = x + 32 * i >= 0 && x + 32 * i < p.width;
    }
    __device__ __forceinline__ void fetch(int slot, bool last_pixels) {
        const bool there = row >= 0 && row < height;
        const u32 target = to + slot * ROW;
        copy16(target, from, there && inside[0]);
        copy16(target + 512, from + 2048, there && inside[1]);
        if (last_pixels) copy16(target + 1024, from + 4096, there && inside[2]);
        from += pitch, row++;
    }
};

// Three output rows of 64 pixels × 8·BLOCKS channels, the uppermost first: it is the next to be complete. Thread t of a warp
// holds pixels t/4 and t/4 + 8 of the warp's 16 and, of each block of 8 channels, 2·(t%4) and the next.
template <int BLOCKS> struct Sums {
    float of[3][BLOCKS][4];
    __device__ __forceinline__ void begin() {
#pragma unroll
        for (int a = 0; a < 3; a++) advance();
    }
    __device__ __forceinline__ void advance() {
#pragma unroll
        for (int j = 0; j < BLOCKS; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) of[0][j][i] = of[1][j][i], of[1][j][i] = of[2][j][i], of[2][j][i] = 0.f;
    }
};

// Weights in registers as mma fragments; on their way there in global memory as [ky][kx][half][block][lane][2].
template <int BLOCKS> struct Fragments {
    u32 of[3][3][2][BLOCKS][2];
    __device__ __forceinline__ void load(const void* packed, u32, int) {
        const uint2* from = (const uint2*)packed + (threadIdx.x & 31);
#pragma unroll
        for (int n = 0; n < 18 * BLOCKS; n++) {
            uint2 both = from[n * 32];
            ((u32*)of)[2 * n] = both.x, ((u32*)of)[2 * n + 1] = both.y;
        }
    }
    // Add an input row: by ky = 2 to the output row above it, by ky = 0 to the one below.
    __device__ __forceinline__ void start(Sums<BLOCKS>& sums, u32 slot, int t) const {
        u32 at = slot + (t >> 5) * 256 + (t & 15) * 16 + ((t >> 4) & 1) * PLANE;
#pragma unroll
        for (int kx = 0; kx < 3; kx++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                u32 a[4];
                load_fragment(a, at + kx * 16 + half * 2 * PLANE);
#pragma unroll
                for (int ky = 0; ky < 3; ky++)
#pragma unroll
                    for (int j = 0; j < BLOCKS; j++)
                        multiply(sums.of[2 - ky][j], a, of[ky][kx][half][j][0], of[ky][kx][half][j][1]);
            }
    }
    __device__ __forceinline__ void finish(Sums<BLOCKS>&) const {}
};

#ifdef WGMMA
__device__ __forceinline__ u64 descriptor(u32 address, u32 along_k, u32 along_rows) {
    return (u64)((address & 0x3ffff) >> 4) | ((u64)(along_k >> 4) << 16) | ((u64)(along_rows >> 4) << 32);
}
#define SUMS_4(d, n) "+f"(d[n]), "+f"(d[n + 1]), "+f"(d[n + 2]), "+f"(d[n + 3])
#define SUMS_16(d, n) SUMS_4(d, n), SUMS_4(d, n + 4), SUMS_4(d, n + 8), SUMS_4(d, n + 12)
#define SUMS_48(d) SUMS_16(d, 0), SUMS_16(d, 16), SUMS_16(d, 32)
#define PRODUCT0 "wgmma.mma_async.sync.aligned.m64n96k16.f32." TYPE "." TYPE " {" \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47}, a, b, add, 1, 1, 0, 0;\n"
#define PRODUCT1 "wgmma.mma_async.sync.aligned.m64n96k16.f32." TYPE "." TYPE " {" \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, a, b, add, 1, 1, 0, 0;\n"
// Then the next operands: the other half of the channels, or the first half a pixel further.
#define OTHER_HALF1 "add.s64 a, a, %50; add.s64 b, b, %52;\n"
#define NEXT_PIXEL1 "add.s64 a, a, %51; add.s64 b, b, %52;\n"
#define OTHER_HALF2 "add.s64 a, a, %100; add.s64 b, b, %102;\n"
#define NEXT_PIXEL2 "add.s64 a, a, %101; add.s64 b, b, %102;\n"

// Weights in shared memory, [kx, half][8 channels of k][ky = 2, 1, 0][32 outputs][8]: the order of the three sets of sums.
struct Shared {
    static constexpr int OUTPUTS = 96, PART = 2 * OUTPUTS * 16, BYTES = 6 * PART;
    u32 base;
    __device__ __forceinline__ void load(const void* packed, u32 to, int threads) {
        base = to;
        for (int i = threadIdx.x; i < BYTES / 16; i += threads) copy16(to + i * 16, (const char*)packed + i * 16, true);
        commit_copies();
        wait_copies<0>();
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
    }
    __device__ __forceinline__ void start(Sums<4>& sums, u32 slot, int) const {
        float* d = &sums.of[0][0][0];
        asm volatile(
            "{ .reg .pred add; .reg .b64 a, b; setp.eq.u32 add, 1, 1; mov.b64 a, %48; mov.b64 b, %49;\n"
            "wgmma.fence.sync.aligned;\n"
            PRODUCT0 OTHER_HALF1 PRODUCT0 NEXT_PIXEL1 PRODUCT0 OTHER_HALF1 PRODUCT0 NEXT_PIXEL1 PRODUCT0 OTHER_HALF1 PRODUCT0
            "wgmma.commit_group.sync.aligned; }"
            : SUMS_48(d)
            : "l"(descriptor(slot, PLANE, 128)), "l"(descriptor(base, OUTPUTS * 16, 128)), "n"(2 * PLANE / 16),
              "n"(1 - 2 * PLANE / 16), "n"(PART / 16)
            : "memory");
    }
    // The same of two layers at once, each with its own weights and row.
    __device__ __forceinline__ void start(Sums<4>& sums, u32 slot, const Shared& other, Sums<4>& sums_other, u32 row) const {
        float* d = &sums.of[0][0][0];
        float* e = &sums_other.of[0][0][0];
        asm volatile(
            "{ .reg .pred add; .reg .b64 a, b; setp.eq.u32 add, 1, 1; mov.b64 a, %96; mov.b64 b, %97;\n"
            "wgmma.fence.sync.aligned;\n"
            PRODUCT0 OTHER_HALF2 PRODUCT0 NEXT_PIXEL2 PRODUCT0 OTHER_HALF2 PRODUCT0 NEXT_PIXEL2 PRODUCT0 OTHER_HALF2 PRODUCT0
            "mov.b64 a, %98; mov.b64 b, %99;\n"
            PRODUCT1 OTHER_HALF2 PRODUCT1 NEXT_PIXEL2 PRODUCT1 OTHER_HALF2 PRODUCT1 NEXT_PIXEL2 PRODUCT1 OTHER_HALF2 PRODUCT1
            "wgmma.commit_group.sync.aligned; }"
            : SUMS_48(d), SUMS_48(e)
            : "l"(descriptor(slot, PLANE, 128)), "l"(descriptor(base, OUTPUTS * 16, 128)),
              "l"(descriptor(row, PLANE, 128)), "l"(descriptor(other.base, OUTPUTS * 16, 128)), "n"(2 * PLANE / 16),
              "n"(1 - 2 * PLANE / 16), "n"(PART / 16)
            : "memory");
    }
    __device__ __forceinline__ void finish(Sums<4>& sums) const {
        float* d = &sums.of[0][0][0];
        asm volatile("wgmma.wait_group.sync.aligned 0;" : SUMS_48(d) : : "memory");
    }
    __device__ __forceinline__ void finish(Sums<4>& sums, Sums<4>& sums_other) const {
        float* d = &sums.of[0][0][0];
        float* e = &sums_other.of[0][0][0];
        asm volatile("wgmma.wait_group.sync.aligned 0;" : SUMS_48(d), SUMS_48(e) : : "memory");
    }
};
#endif

// Walk a worker's pieces. `finished` takes row after row of outputs: begin() a row before its sums are complete (to fetch
// what it will need), keep() when they are, end() while the next row is being multiplied.
template <int BLOCKS, class Weights, class Finished>
__device__ __forceinline__ void walk(
    const void* pictures, const Picture& p, const Weights& weights, Finished& finished
) {
    const int worker = __shfl_sync(~0u, threadIdx.x >> 7, 0), t = threadIdx.x & 127;  // the same for a warp: no branches
    const u32 ring_at = shared_address(memory) + worker * WORKER_BYTES;
    const int strips = p.batch * p.across, pieces = strips * ((p.height + p.rows - 1) / p.rows);
    for (int piece = blockIdx.x * WORKERS + worker; piece < pieces; piece += gridDim.x * WORKERS) {
        const int strip = piece % strips, first = piece / strips * p.rows;
        const int last = min(first + p.rows, p.height);  // output rows first .. last - 1
        Ring ring;
        ring.aim(pictures, p, strip, first - 1, ring_at, t);
        finished.aim(p, strip, first, t);
        meet(worker);  // the ring may still be read for the piece before
        for (int i = 0; i < RING - 1; i++) {
            if (ring.row <= last) ring.fetch(i, t < 8);
            commit_copies();
        }
        Sums<BLOCKS> sums;
        sums.begin();
        int slot = 0;
        for (int row = first - 1; row <= last; row++) {  // input row `row` completes output row `row` - 1
            wait_copies<RING - 2>();
#ifdef WGMMA
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
            meet(worker);
            weights.start(sums, ring_at + slot * ROW, t);
            if (row > first + 1) finished.end();
            finished.begin(row >= first && row < last);
            if (ring.row <= last) ring.fetch(slot == 0 ? RING - 1 : slot - 1, t < 8);
            commit_copies();
            slot = slot == RING - 1 ? 0 : slot + 1;
            weights.finish(sums);
            finished.keep(sums.of[0]);
            sums.advance();
        }
        finished.end();
    }
    wait_copies<0>();
}

// Of the 32 biases this thread's 8, as its sums stand.
__device__ __forceinline__ void bias_of(float (*offset)[2], const float* bias) {
#pragma unroll
    for (int n = 0; n < 8; n++) offset[n / 2][n % 2] = bias[8 * (threadIdx.x & 3) + n];
}

// 32 channels to 32: bias and ReLU, or for the input gradient the mask of the activations that ReLU let through.
template <bool GRADIENT> struct Wide {
    char* out;          // outputs
    const char* mask;   // activations of the layer below
    float offset[4][2]; // bias
    char* to;           // this thread's first pixel in the next row
    const char* from;
    long long pitch;
    bool inside[2];
    u32 held[2][4], active[2][4], coming[2][4];

    __device__ __forceinline__ void aim(const Picture& p, int strip, int first, int t) {
        const int pixel = (t >> 5) * 16 + ((t & 31) >> 2), x = (strip % p.across) * p.step + pixel;
        pitch = (long long)p.width * 64;
        const long long place = ((strip / p.across) * (long long)p.height + first) * pitch + x * 64ll + (t & 3) * 16;
        to = out + place, from = mask + place;
        for (int i = 0; i < 2; i++) inside[i] = x + 8 * i < p.width && pixel + 8 * i < p.step;
    }
    __device__ __forceinline__ void begin(bool wanted) {
        if constexpr (GRADIENT) {
#pragma unroll
            for (int i = 0; i < 8; i++) active[i / 4][i % 4] = coming[i / 4][i % 4];
            if (!wanted) return;
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (inside[i]) {
                    const uint4 v = *(const uint4*)(from + i * 512);
                    coming[i][0] = v.x, coming[i][1] = v.y, coming[i][2] = v.z, coming[i][3] = v.w;
                }
            from += pitch;
        }
    }
    __device__ __forceinline__ void keep(const float (*sums)[4]) {
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float low = sums[j][2 * i], high = sums[j][2 * i + 1];
                held[i][j] = GRADIENT ? where_not_zero(pack(low, high), active[i][j])
                                      : pack_positive(low + offset[j][0], high + offset[j][1]);
            }
    }
    __device__ __forceinline__ void end() {
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (inside[i]) store16(to + i * 512, held[i]);
        to += pitch;
    }
};

template <bool GRADIENT>
__device__ __forceinline__ void wide(
    const void* pictures, void* out, const void* packed, const float* bias, const void* mask, const Picture& p
) {
#ifdef WGMMA
    Shared weights;
    weights.load(packed, shared_address(memory) + WORKERS * WORKER_BYTES, WORKERS * 128);
#else
    Fragments<4> weights;
    weights.load(packed, 0, 0);
#endif
    Wide<GRADIENT> finished;
    if (!GRADIENT) bias_of(finished.offset, bias);
    finished.out = (char*)out, finished.mask = (const char*)mask;
    walk<4>(pictures, p, weights, finished);
}

extern "C" __global__ void __launch_bounds__(WORKERS * 128, 1) layer(
    const void* pictures, void* out, const void* packed, const float* bias, int batch, int height, int width, int rows
) {
    wide<false>(pictures, out, packed, bias, nullptr, Picture(batch, height, width, rows, 1));
}

extern "C" __global__ void __launch_bounds__(WORKERS * 128, 1) layer_gradient(
    const void* gradient, void* out, const void* packed, const void* mask, int batch, int height, int width, int rows
) {
    wide<true>(gradient, out, packed, nullptr, mask, Picture(batch, height, width, rows, 1));
}

#ifdef WGMMA
// Two layers in one walk: rows of the first stay in shared memory. It makes 64 pixels of each row, one beyond the strip on
// either side, of which the second makes 62. A row behind the first, the second takes the row that was made a step ago.
constexpr int PAIR_WORKERS = 3;  // with two sets of sums, three warpgroups share the registers
constexpr int PAIR_BYTES = (RING + 2) * ROW;

// Where this thread puts rows of the first layer: into shared memory, with zeros where the row or the pixel is outside the
// picture, and, where they are wanted, the strip's own into `kept`.
struct Between {
    float offset[4][2];  // bias
    u32 at;
    char* to;  // this thread's first pixel in the next of the strip's own rows
    long long pitch;
    int height, top, bottom;
    bool inside[2], own[2];

    __device__ __forceinline__ void aim(const Picture& p, int strip, int first, u32 rows, void* kept, int t) {
        const int pixel = (t >> 5) * 16 + ((t & 31) >> 2), x = (strip % p.across) * p.step - 1 + pixel;
        at = rows + (t & 3) * PLANE + pixel * 16, pitch = (long long)p.width * 64;
        height = p.height, top = first, bottom = kept ? min(first + p.rows, height) : first;
        to = (char*)kept + ((strip / p.across) * (long long)height + first) * pitch + x * 64ll + (t & 3) * 16;
        for (int i = 0; i < 2; i++) {
            const int here = pixel + 8 * i;
            inside[i] = x + 8 * i >= 0 && x + 8 * i < p.width;
            own[i] = inside[i] && here >= 1 && here <= p.step;
        }
    }
    __device__ __forceinline__ void put(int row, int half, const float (*sums)[4]) {
        const bool there = row >= 0 && row < height, wanted = row >= top && row < bottom;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            u32 v[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                v[j] = there && inside[i]
                           ? pack_positive(sums[j][2 * i] + offset[j][0], sums[j][2 * i + 1] + offset[j][1]) : 0u;
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};"
                         ::"r"(at + half * ROW + i * 128), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
            if (wanted && own[i]) store16(to + i * 512, v);
        }
        if (wanted) to += pitch;
    }
};

extern "C" __global__ void __launch_bounds__(PAIR_WORKERS * 128, 1) two_layers(
    const void* pictures, void* out, const void* packed, const float* bias, const void* packed_second,
    const float* bias_second, void* kept, int batch, int height, int width, int rows
) {
    const Picture p(batch, height, width, rows, 2);
    Shared first, second;
    first.load(packed, shared_address(memory) + PAIR_WORKERS * PAIR_BYTES, PAIR_WORKERS * 128);
    second.load(packed_second, first.base + Shared::BYTES, PAIR_WORKERS * 128);
    const int worker = __shfl_sync(~0u, threadIdx.x >> 7, 0), t = threadIdx.x & 127;
    const u32 ring_at = shared_address(memory) + worker * PAIR_BYTES, between_at = ring_at + RING * ROW;
    Wide<false> finished;
    Between between;
    finished.out = (char*)out, finished.mask = nullptr;
    bias_of(between.offset, bias), bias_of(finished.offset, bias_second);
    const int strips = p.batch * p.across, pieces = strips * ((p.height + p.rows - 1) / p.rows);
    for (int piece = blockIdx.x * PAIR_WORKERS + worker; piece < pieces; piece += gridDim.x * PAIR_WORKERS) {
        const int strip = piece % strips, top = piece / strips * p.rows, bottom = min(top + p.rows, p.height);
        Ring ring;
        ring.aim(pictures, p, strip, top - 2, ring_at, t);
        between.aim(p, strip, top, between_at, kept, t);
        finished.aim(p, strip, top, t);
        meet(worker);  // the ring may still be read for the piece before
        for (int i = 0; i < RING - 1; i++) {
            if (ring.row <= bottom + 1) ring.fetch(i, t < 8);
            commit_copies();
        }
        Sums<4> sums, sums_second;
        sums.begin(), sums_second.begin();
        int slot = 0, half = 0;  // half: where the first layer's row - 1 goes, and row - 2 is not
        for (int row = top - 2; row <= bottom + 2; row++) {
            wait_copies<RING - 2>();
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
            meet(worker);
            first.start(sums, ring_at + slot * ROW, second, sums_second, between_at + (1 - half) * ROW);
            if (row > top + 3) finished.end();
            if (ring.row <= bottom + 1) ring.fetch(slot == 0 ? RING - 1 : slot - 1, t < 8);
            commit_copies();
            slot = slot == RING - 1 ? 0 : slot + 1;
            first.finish(sums, sums_second);
            between.put(row - 1, half, sums.of[0]);
            finished.keep(sums_second.of[0]);
            sums.advance(), sums_second.advance();
            half = 1 - half;
        }
        finished.end();
    }
    wait_copies<0>();
}
#endif

// 32 channels to one: out = added + scale · (sum + bias) in fp32; `added` may be null.
struct Narrow {
    float* out;
    const float* added;
    float scale, offset;  // offset: the bias
    float* to;          // this thread's first pixel in the next row
    const float* from;
    int width;
    bool inside[2];
    float base[2], coming[2], held[2];

    __device__ __forceinline__ void aim(const Picture& p, int strip, int first, int t) {
        const int x = (strip % p.across) * p.step + (t >> 5) * 16 + ((t & 31) >> 2);
        const long long place = ((strip / p.across) * (long long)p.height + first) * p.width + x;
        width = p.width, to = out + place, from = added + place;
        for (int i = 0; i < 2; i++) inside[i] = (t & 3) == 0 && x + 8 * i < p.width, coming[i] = 0.f;
    }
    __device__ __forceinline__ void begin(bool wanted) {
        for (int i = 0; i < 2; i++) base[i] = coming[i];
        if (!added || !wanted) return;
        for (int i = 0; i < 2; i++)
            if (inside[i]) coming[i] = from[8 * i];
        from += width;
    }
    __device__ __forceinline__ void keep(const float (*sums)[4]) {
        for (int i = 0; i < 2; i++) held[i] = base[i] + scale * (sums[0][2 * i] + offset);
    }
    __device__ __forceinline__ void end() {
        for (int i = 0; i < 2; i++)
            if (inside[i]) to[8 * i] = held[i];
        to += width;
    }
};

extern "C" __global__ void __launch_bounds__(WORKERS * 128, 1) last(
    const void* activations, float* out, const void* packed, const float* bias, const float* added, float scale, int batch,
    int height, int width, int rows
) {
    Fragments<1> weights;
    weights.load(packed, 0, 0);
    Narrow finished;
    finished.out = out, finished.added = added, finished.scale = scale, finished.offset = bias ? bias[0] : 0.f;
    walk<1>(activations, Picture(batch, height, width, rows, 1), weights, finished);
}

// One channel to 32, on the ordinary units: a thread makes 8 channels of one pixel after the other down a column.
constexpr int COLUMN = 64;  // rows of a block

template <bool GRADIENT>
__device__ __forceinline__ void widen(
    const float* __restrict__ picture, void* __restrict__ out, const float* __restrict__ weights,
    const float* __restrict__ bias, float scale, const void* __restrict__ mask, int height,
    int width
) {
    const int across = (width + STRIP - 1) / STRIP, down = (height + COLUMN - 1) / COLUMN;
    const int x = (int)(blockIdx.x % across) * STRIP + (threadIdx.x >> 2), group = threadIdx.x & 3;
    const int top = (int)(blockIdx.x / across % down) * COLUMN;
    const long long origin = (long long)(blockIdx.x / across / down) * height * width;
    if (x >= width) return;
    float w[9][8], offset[8];
#pragma unroll
    for (int c = 0; c < 8; c++) {
        offset[c] = bias ? bias[8 * group + c] : 0.f;
#pragma unroll
        for (int k = 0; k < 9; k++) w[k][c] = scale * weights[(8 * group + c) * 9 + (GRADIENT ? 8 - k : k)];
    }
    const float* __restrict__ column = picture + origin + x;
    const bool left = x > 0, right = x + 1 < width;
    auto see = [&](float* seen, int y) {
        const bool there = y >= 0 && y < height;
        const float* at = column + (long long)y * width;
        seen[0] = there && left ? at[-1] : 0.f, seen[1] = there ? at[0] : 0.f, seen[2] = there && right ? at[1] : 0.f;
    };
    float seen[3][3];
    see(seen[0], top - 1);
    see(seen[1], top);
    uint4* __restrict__ to = (uint4*)out + (origin + x) * 4 + group;
    const uint4* __restrict__ from = (const uint4*)mask + (origin + x) * 4 + group;
    const int bottom = top + COLUMN < height ? top + COLUMN : height;
#pragma unroll 6
    for (int y = top; y < bottom; y++) {
        see(seen[2], y + 1);
        uint4 active;
        if (GRADIENT) active = from[(long long)y * width * 4];
        float sums[8];
#pragma unroll
        for (int c = 0; c < 8; c++) {
            sums[c] = offset[c];
#pragma unroll
            for (int k = 0; k < 9; k++) sums[c] += seen[k / 3][k % 3] * w[k][c];
        }
        u32 held[4];
#pragma unroll
        for (int c = 0; c < 4; c++)
            held[c] = GRADIENT ? where_not_zero(pack(sums[2 * c], sums[2 * c + 1]), (&active.x)[c])
                               : pack_positive(sums[2 * c], sums[2 * c + 1]);
        to[(long long)y * width * 4] = make_uint4(held[0], held[1], held[2], held[3]);
#pragma unroll
        for (int k = 0; k < 3; k++) seen[0][k] = seen[1][k], seen[1][k] = seen[2][k];
    }
}

extern "C" __global__ void __launch_bounds__(256, 2) first(
    const float* __restrict__ picture, void* __restrict__ out, const float* __restrict__ weights,
    const float* __restrict__ bias, int height, int width
) {
    widen<false>(picture, out, weights, bias, 1.f, nullptr, height, width);
}

extern "C" __global__ void __launch_bounds__(256, 2) last_gradient(
    const float* __restrict__ gradient, void* __restrict__ out, const float* __restrict__ weights, float scale,
    const void* __restrict__ mask, int height, int width
) {
    widen<true>(gradient, out, weights, nullptr, scale, mask, height, width);
}

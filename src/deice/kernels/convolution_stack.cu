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
typedef unsigned short u16;

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

__device__ __forceinline__ void copy16(u32 to, const void* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
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
    asm("cvt.rn.relu." TYPE "x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
__device__ __forceinline__ u32 where_not_zero(u32 values, u32 active) {  // active: two numbers that are not negative
    u32 top = ((active & 0x7fff7fffu) + 0x7fff7fffu) & 0x80008000u;
    return values & ((top - (top >> 15)) | top);
}
__device__ __forceinline__ void store16(void* to, const u32* v) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
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

// The pictures, and how the work is shared: every strip is cut into pieces of `rows` rows. Neighbouring workers have
// neighbouring strips of the same rows, so that together they read memory in long stretches.
struct Picture {
    int batch, height, width, rows;
    int margin, step, across;  // pixels that the answer sees beyond the strip; of a strip that are right; strips side by side
    __device__ __forceinline__ Picture(int b, int h, int w, int r, int layers)
        : batch(b), height(h), width(w), rows(r), margin(layers), step(STRIP + 2 - 2 * layers) {
        across = (w + step - 1) / step;
    }
};

// The ring of one worker: what it copies, and from where.
struct Ring {
    u32 base, to;       // of the ring; of this thread's first chunk in a row
    const char* from;   // this thread's first chunk in row 0 of the picture
    long long pitch;    // bytes of a row
    int height, thread;
    bool inside[3];

    __device__ __forceinline__ void aim(const void* pictures, const Picture& p, int strip, u32 ring, int t) {
        int x0 = (strip % p.across) * p.step - p.margin;
        base = ring, thread = t, height = p.height, pitch = (long long)p.width * 64;
        to = (t & 3) * PLANE + (t >> 2) * 16;
        from = (const char*)pictures + (strip / p.across) * pitch * height + ((long long)x0 + (t >> 2)) * 64 + (t & 3) * 16;
        for (int i = 0; i < 3; i++) {
            int x = x0 + (t >> 2) + 32 * i;
            inside[i] = x >= 0 && x < p.width;
        }
    }
    __device__ __forceinline__ void fetch(int row, int slot, const void* anywhere) const {
        bool there = row >= 0 && row < height;
        const char* source = from + row * pitch;
        u32 target = base + slot * ROW + to;
        for (int i = 0; i < 2; i++)
            copy16(target + i * 512, there && inside[i] ? source + i * 2048 : anywhere, there && inside[i]);
        if (thread < 8) copy16(target + 1024, there && inside[2] ? source + 4096 : anywhere, there && inside[2]);
    }
};

// Three output rows of 64 pixels × 8·BLOCKS channels: sums[row % 3], of this thread 4 values of each block of 8 channels.
// Thread t of a warp holds pixels t/4 and t/4 + 8 of the warp's 16; of each block channels 2·(t%4) and the next.
template <int BLOCKS> struct Sums {
    float of[3][BLOCKS][4];
    __device__ __forceinline__ void begin(const float (*bias)[2]) {
#pragma unroll
        for (int a = 0; a < 3; a++) advance(bias);
    }
    __device__ __forceinline__ void advance(const float (*bias)[2]) {
#pragma unroll
        for (int j = 0; j < BLOCKS; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) of[0][j][i] = of[1][j][i], of[1][j][i] = of[2][j][i], of[2][j][i] = bias[j][i & 1];
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
#define SUMS_4(n) "+f"(d[n]), "+f"(d[n + 1]), "+f"(d[n + 2]), "+f"(d[n + 3])
#define SUMS_48 SUMS_4(0), SUMS_4(4), SUMS_4(8), SUMS_4(12), SUMS_4(16), SUMS_4(20), SUMS_4(24), SUMS_4(28), SUMS_4(32), \
    SUMS_4(36), SUMS_4(40), SUMS_4(44)
#define PRODUCT "wgmma.mma_async.sync.aligned.m64n96k16.f32." TYPE "." TYPE " {" \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47}, a, b, add, 1, 1, 0, 0;\n"
// the next operands: another half of the channels, or a pixel further with the first half
#define OTHER_HALF "add.s64 a, a, %50; add.s64 b, b, %52;\n"
#define NEXT_PIXEL "add.s64 a, a, %51; add.s64 b, b, %52;\n"

// Weights in shared memory, [kx, half][8 channels of k][5 blocks of 32 outputs][8]: the blocks are ky = 0, 2, 1, 0, 2, so
// that the three sets of sums meet their ky in every phase, by another first block.
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
            PRODUCT OTHER_HALF PRODUCT NEXT_PIXEL PRODUCT OTHER_HALF PRODUCT NEXT_PIXEL PRODUCT OTHER_HALF PRODUCT
            "wgmma.commit_group.sync.aligned; }"
            : SUMS_48
            : "l"(descriptor(slot, PLANE, 128)), "l"(descriptor(base, OUTPUTS * 16, 128)), "n"(2 * PLANE / 16),
              "n"(1 - 2 * PLANE / 16), "n"(PART / 16)
            : "memory");
    }
    template <int LEFT = 0> __device__ __forceinline__ void finish(Sums<4>& sums) const {
        float* d = &sums.of[0][0][0];
        asm volatile("wgmma.wait_group.sync.aligned %48;" : SUMS_48 : "n"(LEFT) : "memory");
    }
};
#endif

// Walk a worker's pieces. `finished` takes rows of outputs: begin(row) a row before its sums are complete (to fetch what it
// will need), keep(sums) when they are, end(row) while the next row is being multiplied.
template <int BLOCKS, class Weights, class Finished>
__device__ __forceinline__ void walk(
    const void* pictures, const Picture& p, const Weights& weights, const float (*bias)[2], Finished& finished
) {
    extern __shared__ __align__(128) char memory[];
    const int worker = __shfl_sync(~0u, threadIdx.x >> 7, 0), t = threadIdx.x & 127;  // the same for a warp: no branches
    const u32 ring_at = shared_address(memory) + worker * WORKER_BYTES;
    const int strips = p.batch * p.across, pieces = strips * ((p.height + p.rows - 1) / p.rows);
    for (int piece = blockIdx.x * WORKERS + worker; piece < pieces; piece += gridDim.x * WORKERS) {
        const int strip = piece % strips, first = piece / strips * p.rows;
        const int last = min(first + p.rows, p.height);  // output rows first .. last - 1
        Ring ring;
        ring.aim(pictures, p, strip, ring_at, t);
        finished.aim(p, strip, t);
        meet(worker);  // the ring may still be read for the strip before
        for (int i = 0; i < RING - 1; i++) {
            if (first - 1 + i <= last) ring.fetch(first - 1 + i, i, pictures);
            commit_copies();
        }
        Sums<BLOCKS> sums;
        sums.begin(bias);
        int slot = 0;
        for (int row = first - 1; row <= last; row++) {  // input row `row` completes output row `row` - 1
            wait_copies<RING - 2>();
#ifdef WGMMA
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
            meet(worker);
            weights.start(sums, ring_at + slot * ROW, t);
            if (row > first + 1) finished.end(row - 2);
            finished.begin(row, row >= first && row < last);
            if (row + RING - 1 <= last) ring.fetch(row + RING - 1, slot == 0 ? RING - 1 : slot - 1, pictures);
            commit_copies();
            slot = slot == RING - 1 ? 0 : slot + 1;
            weights.finish(sums);
            finished.keep(sums.of[0]);
            sums.advance(bias);
        }
        finished.end(last - 1);
    }
    wait_copies<0>();
}

// 32 channels to 32: bias and ReLU, or for the input gradient the mask of the activations that ReLU let through.
template <bool GRADIENT> struct Wide {
    char* to;           // outputs
    const char* mask;   // activations of the layer below
    long long pitch;
    long long place;    // bytes from row 0 to this thread's first pixel
    bool inside[2];
    u32 held[2][4], active[2][4], coming[2][4];

    __device__ __forceinline__ void aim(const Picture& p, int strip, int t) {
        int pixel = (t >> 5) * 16 + ((t & 31) >> 2), x = (strip % p.across) * p.step + pixel;
        pitch = (long long)p.width * 64;
        place = (strip / p.across) * pitch * p.height + (long long)x * 64 + (t & 3) * 16;
        for (int i = 0; i < 2; i++) inside[i] = x + 8 * i < p.width && pixel + 8 * i < p.step;
    }
    __device__ __forceinline__ void begin(int row, bool wanted) {
#pragma unroll
        for (int i = 0; i < 8 * GRADIENT; i++) active[i / 4][i % 4] = coming[i / 4][i % 4];
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (GRADIENT && wanted && inside[i]) {
                const uint4 v = *(const uint4*)(mask + place + row * pitch + i * 512);
                coming[i][0] = v.x, coming[i][1] = v.y, coming[i][2] = v.z, coming[i][3] = v.w;
            }
    }
    __device__ __forceinline__ void keep(const float (*sums)[4]) {
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float low = sums[j][2 * i], high = sums[j][2 * i + 1];
                held[i][j] = GRADIENT ? where_not_zero(pack(low, high), active[i][j]) : pack_positive(low, high);
            }
    }
    __device__ __forceinline__ void end(int row) const {
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (inside[i]) store16(to + place + row * pitch + i * 512, held[i]);
    }
};

template <bool GRADIENT>
__device__ __forceinline__ void wide(
    const void* pictures, void* out, const void* packed, const float* bias, const void* mask, const Picture& p
) {
#ifdef WGMMA
    extern __shared__ __align__(128) char memory[];
    Shared weights;
    weights.load(packed, shared_address(memory) + WORKERS * WORKER_BYTES, WORKERS * 128);
#else
    Fragments<4> weights;
    weights.load(packed, 0, 0);
#endif
    float offset[4][2];
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) offset[j][e] = GRADIENT ? 0.f : bias[8 * (threadIdx.x & 3) + 2 * j + e];
    Wide<GRADIENT> finished;
    finished.to = (char*)out, finished.mask = (const char*)mask;
    walk<4>(pictures, p, weights, offset, finished);
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
    u32 at;
    char* kept;  // or null
    long long pitch, place;
    int height, top, bottom;
    bool inside[2], own[2];

    __device__ __forceinline__ void aim(const Picture& p, int strip, u32 rows, int t) {
        int pixel = (t >> 5) * 16 + ((t & 31) >> 2), x = (strip % p.across) * p.step - 1 + pixel;
        at = rows + (t & 3) * PLANE + pixel * 16, height = p.height, pitch = (long long)p.width * 64;
        place = (strip / p.across) * pitch * height + (long long)x * 64 + (t & 3) * 16;
        for (int i = 0; i < 2; i++) {
            int here = pixel + 8 * i;
            inside[i] = x + 8 * i >= 0 && x + 8 * i < p.width;
            own[i] = inside[i] && kept && here >= 1 && here <= p.step;
        }
    }
    __device__ __forceinline__ void put(int row, int half, const float (*sums)[4]) const {
        const bool there = row >= 0 && row < height, wanted = row >= top && row < bottom;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            u32 v[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                v[j] = there && inside[i] ? pack_positive(sums[j][2 * i], sums[j][2 * i + 1]) : 0u;
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};"
                         ::"r"(at + half * ROW + i * 128), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
            if (wanted && own[i]) store16(kept + place + row * pitch + i * 512, v);
        }
    }
};

__device__ __forceinline__ void bias_of(float (*offset)[2], const float* bias) {
#pragma unroll
    for (int n = 0; n < 8; n++) offset[n / 2][n % 2] = bias[8 * (threadIdx.x & 3) + n];
}

extern "C" __global__ void __launch_bounds__(PAIR_WORKERS * 128, 1) two_layers(
    const void* pictures, void* out, const void* packed, const float* bias, const void* packed_second,
    const float* bias_second, void* kept, int batch, int height, int width, int rows
) {
    extern __shared__ __align__(128) char memory[];
    const Picture p(batch, height, width, rows, 2);
    Shared first, second;
    first.load(packed, shared_address(memory) + PAIR_WORKERS * PAIR_BYTES, PAIR_WORKERS * 128);
    second.load(packed_second, first.base + Shared::BYTES, PAIR_WORKERS * 128);
    float offset[4][2], offset_second[4][2];
    bias_of(offset, bias), bias_of(offset_second, bias_second);
    const int worker = __shfl_sync(~0u, threadIdx.x >> 7, 0), t = threadIdx.x & 127;
    const u32 ring_at = shared_address(memory) + worker * PAIR_BYTES, between_at = ring_at + RING * ROW;
    Wide<false> finished;
    finished.to = (char*)out;
    const int strips = p.batch * p.across, pieces = strips * ((p.height + p.rows - 1) / p.rows);
    for (int piece = blockIdx.x * PAIR_WORKERS + worker; piece < pieces; piece += gridDim.x * PAIR_WORKERS) {
        const int strip = piece % strips, top = piece / strips * p.rows, bottom = min(top + p.rows, p.height);
        Ring ring;
        Between between;
        between.kept = (char*)kept, between.top = top, between.bottom = bottom;
        ring.aim(pictures, p, strip, ring_at, t);
        between.aim(p, strip, between_at, t);
        finished.aim(p, strip, t);
        meet(worker);  // the ring may still be read for the strip before
        for (int i = 0; i < RING - 1; i++) {
            if (top - 2 + i <= bottom + 1) ring.fetch(top - 2 + i, i, pictures);
            commit_copies();
        }
        Sums<4> sums, sums_second;
        sums.begin(offset), sums_second.begin(offset_second);
        int slot = 0, half = 0;  // half: where the first layer's row - 1 goes, and row - 2 is not
        for (int row = top - 2; row <= bottom + 2; row++) {
            wait_copies<RING - 2>();
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
            meet(worker);
            first.start(sums, ring_at + slot * ROW, t);
            second.start(sums_second, between_at + (1 - half) * ROW, t);
            if (row > top + 3) finished.end(row - 4);
            if (row + RING - 1 <= bottom + 1) ring.fetch(row + RING - 1, slot == 0 ? RING - 1 : slot - 1, pictures);
            commit_copies();
            slot = slot == RING - 1 ? 0 : slot + 1;
            first.finish<1>(sums);
            between.put(row - 1, half, sums.of[0]);
            sums.advance(offset);
            second.finish<0>(sums_second);
            finished.keep(sums_second.of[0]);
            sums_second.advance(offset_second);
            half = 1 - half;
        }
        finished.end(bottom - 1);
    }
    wait_copies<0>();
}
#endif

// 32 channels to one: out = from + scale · (sum + bias) in fp32. `from` may be null.
struct Narrow {
    float* to;
    const float* from;
    float scale;
    long long place;
    int width;
    bool inside[2];
    float base[2], coming[2], held[2];

    __device__ __forceinline__ void aim(const Picture& p, int strip, int t) {
        int x = (strip % p.across) * p.step + (t >> 5) * 16 + ((t & 31) >> 2);
        width = p.width;
        place = (strip / p.across) * (long long)p.width * p.height + x;
        inside[0] = (t & 3) == 0 && x < p.width, inside[1] = (t & 3) == 0 && x + 8 < p.width;
        base[0] = base[1] = coming[0] = coming[1] = 0.f;
    }
    __device__ __forceinline__ void begin(int row, bool wanted) {
        for (int i = 0; i < 2; i++) base[i] = coming[i];
        for (int i = 0; i < 2; i++)
            if (from && wanted && inside[i]) coming[i] = from[place + (long long)row * width + 8 * i];
    }
    __device__ __forceinline__ void keep(const float (*sums)[4]) {
        for (int i = 0; i < 2; i++) held[i] = base[i] + scale * sums[0][2 * i];
    }
    __device__ __forceinline__ void end(int row) const {
        for (int i = 0; i < 2; i++)
            if (inside[i]) to[place + (long long)row * width + 8 * i] = held[i];
    }
};

extern "C" __global__ void __launch_bounds__(WORKERS * 128, 1) last(
    const void* activations, float* out, const void* packed, const float* bias, const float* from, float scale, int batch,
    int height, int width, int rows
) {
    Fragments<1> weights;
    weights.load(packed, 0, 0);
    const float offset[1][2] = {{bias ? bias[0] : 0.f, 0.f}};
    Narrow finished;
    finished.to = out, finished.from = from, finished.scale = scale;
    walk<1>(activations, Picture(batch, height, width, rows, 1), weights, offset, finished);
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

// Memory operations of the driver: allocation, copies, fills.
#include <cstring>

#include "driver.h"

using namespace emu;

namespace {

Result allocate(uint64_t* out, size_t bytes)
{
    Result r = device_allocate(bytes, out);
    if (r != OUT_OF_MEMORY || !state().lazy) return r;
    // Frees that are still enqueued may provide the memory.
    if (Result failed = drain_all()) return failed;
    return device_allocate(bytes, out);
}

// A copy that is complete when the call returns, in order with the null stream. `device` is its
// address on the device.
Result copy_at_once(uint64_t device, void* to, const void* from, size_t n)
{
    if (any_capture()) return CAPTURE_UNSUPPORTED;
    if (n == 0) return SUCCESS;
    if (!device_holds(device, n) || !to || !from) return INVALID_VALUE;
    Op op;
    op.run = [=] {
        memcpy(to, from, n);
        return SUCCESS;
    };
    if (Result r = enqueue(state().null_stream, std::move(op))) return r;
    if (Result r = drain(*state().null_stream)) return r;
    return Result(state().sticky);
}

Result copy_in(uint64_t to, const void* from, size_t n, void* handle)
{
    auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (n == 0) return SUCCESS;
    if (!device_holds(to, n) || !from) return INVALID_VALUE;
    Op op;
    if (is_pinned(from) || stream->capture || state().pageable_late) {
        op.run = [=] {
            memcpy(reinterpret_cast<void*>(to), from, n);
            return SUCCESS;
        };
    } else {
        // Most drivers copy pageable memory before the call returns, but CUDA does not promise it.
        auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(from),
                                                          static_cast<const char*>(from) + n);
        op.run = [=] {
            memcpy(reinterpret_cast<void*>(to), staged->data(), n);
            return SUCCESS;
        };
    }
    return enqueue(stream, std::move(op));
}

Result copy_out(void* to, uint64_t from, size_t n, void* handle)
{
    auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (n == 0) return SUCCESS;
    if (!device_holds(from, n) || !to) return INVALID_VALUE;
    Op op;
    op.run = [=] {
        memcpy(to, reinterpret_cast<const void*>(from), n);
        return SUCCESS;
    };
    if (Result r = enqueue(stream, std::move(op))) return r;
    if (stream->capture || is_pinned(to)) return SUCCESS;
    return drain(*stream); // to pageable memory: the call returns when the data have arrived
}

Result copy_inside(uint64_t to, uint64_t from, size_t n, void* handle)
{
    auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (n == 0) return SUCCESS;
    if (!device_holds(to, n) || !device_holds(from, n)) return INVALID_VALUE;
    Op op;
    op.run = [=] {
        memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), n);
        return SUCCESS;
    };
    return enqueue(stream, std::move(op));
}

template <typename T>
Result fill(uint64_t to, T value, size_t n, void* handle)
{
    auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (n == 0) return SUCCESS;
    if (to % sizeof(T) || n > SIZE_MAX / sizeof(T) || !device_holds(to, n * sizeof(T)))
        return INVALID_VALUE;
    Op op;
    op.run = [=] {
        for (size_t i = 0; i < n; ++i) reinterpret_cast<T*>(to)[i] = value;
        return SUCCESS;
    };
    return enqueue(stream, std::move(op));
}

} // namespace

EMU_ENTRY(cuMemGetInfo_v2, Context, (size_t * available, size_t* total), {
    *total = state().memory;
    *available = state().memory - state().stats.device_bytes;
    return SUCCESS;
})
EMU_ENTRY(cuMemAlloc_v2, Context, (uint64_t * out, size_t bytes), {
    if (any_capture()) return CAPTURE_UNSUPPORTED;
    return allocate(out, bytes);
})
EMU_FREE(cuMemFree_v2, (uint64_t address), {
    drain_all(); // freeing waits for all work
    Result r = device_free(address);
    if (r == LAUNCH_FAILED) state().sticky = r;
    return r;
})
// In a capture these would become nodes of the graph, which is not emulated.
EMU_ENTRY(cuMemAllocAsync, Context, (uint64_t * out, size_t bytes, void* handle), {
    auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (!state().pools || stream->capture) return NOT_SUPPORTED;
    return allocate(out, bytes);
})
EMU_FREE(cuMemFreeAsync, (uint64_t address, void* handle), {
    auto stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (!state().pools || stream->capture) return NOT_SUPPORTED;
    if (!device_holds(address, 0)) return INVALID_VALUE;
    Op op;
    op.run = [=] { return device_free(address); };
    if (state().sticky) return op.run();
    return enqueue(stream, std::move(op));
})
EMU_ENTRY(cuMemHostAlloc, Context, (void** out, size_t bytes, unsigned), {
    *out = bytes ? pinned_allocate(bytes) : nullptr;
    return *out ? SUCCESS : bytes ? OUT_OF_MEMORY : INVALID_VALUE;
})
EMU_FREE(cuMemFreeHost, (void* p), {
    drain_all();
    return pinned_free(p) ? SUCCESS : INVALID_VALUE;
})
EMU_ENTRY(cuMemHostGetDevicePointer_v2, Context, (uint64_t * out, void* p, unsigned), {
    *out = reinterpret_cast<uint64_t>(p);
    return is_pinned(p) ? SUCCESS : INVALID_VALUE;
})

EMU_ENTRY(cuMemcpyHtoDAsync_v2, Context, (uint64_t to, const void* from, size_t n, void* stream),
          { return copy_in(to, from, n, stream); })
EMU_ENTRY(cuMemcpyDtoHAsync_v2, Context, (void* to, uint64_t from, size_t n, void* stream),
          { return copy_out(to, from, n, stream); })
EMU_ENTRY(cuMemcpyDtoDAsync_v2, Context, (uint64_t to, uint64_t from, size_t n, void* stream),
          { return copy_inside(to, from, n, stream); })
EMU_ENTRY(cuMemcpyHtoD_v2, Context, (uint64_t to, const void* from, size_t n),
          { return copy_at_once(to, reinterpret_cast<void*>(to), from, n); })
EMU_ENTRY(cuMemcpyDtoH_v2, Context, (void* to, uint64_t from, size_t n),
          { return copy_at_once(from, to, reinterpret_cast<const void*>(from), n); })
EMU_ENTRY(cuMemcpyDtoD_v2, Context, (uint64_t to, uint64_t from, size_t n),
          { return copy_inside(to, from, n, nullptr); })
EMU_ENTRY(cuMemsetD8_v2, Context, (uint64_t to, unsigned char value, size_t n),
          { return fill<uint8_t>(to, value, n, nullptr); })
EMU_ENTRY(cuMemsetD8Async, Context, (uint64_t to, unsigned char value, size_t n, void* stream),
          { return fill<uint8_t>(to, value, n, stream); })
EMU_ENTRY(cuMemsetD16Async, Context, (uint64_t to, unsigned short value, size_t n, void* stream),
          { return fill<uint16_t>(to, value, n, stream); })
EMU_ENTRY(cuMemsetD32Async, Context, (uint64_t to, unsigned value, size_t n, void* stream),
          { return fill<uint32_t>(to, value, n, stream); })

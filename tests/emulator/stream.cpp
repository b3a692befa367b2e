// Streams, events and graphs. Eager: work runs at the call. Lazy: it waits in its stream's queue
// until something waits for it, as late as CUDA's rules allow, so that memory that is reused too
// early is noticed.
#include <chrono>
#include <cstdio>

#include "driver.h"

namespace emu {
namespace {

double now()
{
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

// Work on the null stream and on blocking streams is ordered among them.
Result order_legacy(const std::shared_ptr<Stream>& stream)
{
    State& s = state();
    if (stream == s.null_stream) {
        for (auto& [handle, other] : s.streams) {
            if (other->blocking) {
                if (Result r = drain(*other)) return r;
            }
        }
        return drain(*s.thread_stream);
    }
    return stream->blocking ? drain(*s.null_stream) : SUCCESS;
}

Result perform(Op& op)
{
    if (op.run) return op.run();
    Event& e = *op.event;
    if (!op.waits) {
        e.done = op.version;
        e.milliseconds = now();
        return SUCCESS;
    }
    return e.done < op.version && e.stream ? drain(*e.stream) : SUCCESS;
}

} // namespace

Result drain(Stream& stream)
{
    while (!stream.queue.empty()) {
        Op op = std::move(stream.queue.front());
        stream.queue.pop_front();
        Result r = perform(op);
        if (r) {
            // The context is lost, and the remaining work does not run.
            if (!state().sticky) state().sticky = r;
            stream.queue.clear();
            return r;
        }
    }
    return SUCCESS;
}

Result drain_all()
{
    State& s = state();
    Result first = SUCCESS;
    auto add = [&](Result r) { first = first ? first : r; };
    add(drain(*s.null_stream));
    add(drain(*s.thread_stream));
    for (auto& [handle, stream] : s.streams) add(drain(*stream));
    if (!check_guards() && !s.sticky) s.sticky = LAUNCH_FAILED;
    return first ? first : Result(s.sticky);
}

bool any_capture()
{
    for (auto& [handle, stream] : state().streams) {
        if (stream->capture) return true;
    }
    return false;
}

std::shared_ptr<Stream> find_stream(void* handle)
{
    State& s = state();
    auto number = reinterpret_cast<uintptr_t>(handle);
    if (number <= 1) return s.null_stream;
    if (number == 2) return s.thread_stream;
    auto found = s.streams.find(handle);
    return found == s.streams.end() ? nullptr : found->second;
}

Result enqueue(const std::shared_ptr<Stream>& stream, Op op)
{
    if (stream->invalidated) return CAPTURE_INVALIDATED;
    if (stream->capture) {
        stream->capture->ops.push_back(std::move(op));
        return SUCCESS;
    }
    if (Result r = order_legacy(stream)) return r;
    if (op.event && !op.waits) {
        op.version = ++op.event->recorded;
        op.event->stream = stream;
    }
    stream->queue.push_back(std::move(op));
    // An error of the work itself is returned by the next call, as by a real driver.
    if (!state().lazy) drain(*stream);
    return SUCCESS;
}

} // namespace emu

using namespace emu;

#define STREAM(VARIABLE, HANDLE)                            \
    std::shared_ptr<Stream> VARIABLE = find_stream(HANDLE); \
    if (!VARIABLE) return INVALID_HANDLE

namespace {

template <typename T>
std::shared_ptr<T> find(std::map<void*, std::shared_ptr<T>>& all, void* handle)
{
    auto found = all.find(handle);
    return found == all.end() ? nullptr : found->second;
}

template <typename T>
void* keep(std::map<void*, std::shared_ptr<T>>& all, std::shared_ptr<T> object, uint64_t& count)
{
    void* handle = object.get();
    all[handle] = std::move(object);
    ++count;
    return handle;
}

// Refuses a call that would wait for a stream in capture.
Result refuse_capture(Stream& stream)
{
    stream.invalidated = true;
    return CAPTURE_UNSUPPORTED;
}

Result create_stream(void** out, unsigned flags)
{
    auto stream = std::make_shared<Stream>();
    stream->blocking = !(flags & 1);
    *out = keep(state().streams, stream, state().stats.streams);
    return SUCCESS;
}

} // namespace

EMU_ENTRY(cuStreamCreate, Context, (void** out, unsigned flags),
          { return create_stream(out, flags); })
EMU_ENTRY(cuStreamCreateWithPriority, Context, (void** out, unsigned flags, int),
          { return create_stream(out, flags); })
EMU_FREE(cuStreamDestroy_v2, (void* handle), {
    STREAM(stream, handle);
    if (!state().streams.erase(handle)) return INVALID_HANDLE;
    --state().stats.streams;
    return drain(*stream);
})
EMU_ENTRY(cuStreamSynchronize, Context, (void* handle), {
    STREAM(stream, handle);
    if (stream->capture) return refuse_capture(*stream);
    Result r = drain(*stream);
    if (!check_guards() && !state().sticky) state().sticky = LAUNCH_FAILED;
    return r ? r : Result(state().sticky);
})
EMU_ENTRY(cuStreamQuery, Context, (void* handle), {
    STREAM(stream, handle);
    if (stream->capture) return refuse_capture(*stream);
    return stream->queue.empty() ? SUCCESS : NOT_READY;
})
EMU_ENTRY(cuStreamWaitEvent, Context, (void* handle, void* event_handle, unsigned), {
    STREAM(stream, handle);
    auto event = find(state().events, event_handle);
    if (!event) return INVALID_HANDLE;
    if (stream->capture) {
        // An event of the same capture adds nothing to the order of a single stream. Waiting for an
        // event from outside is an error.
        for (const Op& op : stream->capture->ops) {
            if (op.event == event && !op.waits) return SUCCESS;
        }
        stream->invalidated = true;
        return CAPTURE_ISOLATION;
    }
    Op op;
    op.event = event;
    op.version = event->recorded;
    op.waits = true;
    return enqueue(stream, std::move(op));
})
EMU_ENTRY(cuCtxSynchronize, Context, (), {
    if (any_capture()) {
        for (auto& [handle, stream] : state().streams)
            stream->invalidated |= stream->capture != nullptr;
        return CAPTURE_UNSUPPORTED;
    }
    return drain_all();
})

EMU_ENTRY(cuEventCreate, Context, (void** out, unsigned), {
    *out = keep(state().events, std::make_shared<Event>(), state().stats.events);
    return SUCCESS;
})
EMU_FREE(cuEventDestroy_v2, (void* handle), {
    if (!state().events.erase(handle)) return INVALID_HANDLE;
    --state().stats.events;
    return SUCCESS;
})
EMU_ENTRY(cuEventRecord, Context, (void* handle, void* stream_handle), {
    auto event = find(state().events, handle);
    STREAM(stream, stream_handle);
    if (!event) return INVALID_HANDLE;
    Op op;
    op.event = event;
    return enqueue(stream, std::move(op));
})
EMU_ENTRY(cuEventQuery, Context, (void* handle), {
    auto event = find(state().events, handle);
    if (!event) return INVALID_HANDLE;
    return event->done >= event->recorded ? SUCCESS : NOT_READY;
})
EMU_ENTRY(cuEventSynchronize, Context, (void* handle), {
    auto event = find(state().events, handle);
    if (!event) return INVALID_HANDLE;
    if (event->done < event->recorded) {
        if (Result r = drain(*event->stream)) return r;
    }
    return Result(state().sticky);
})

static Result elapsed(float* out, void* start, void* end)
{
    auto a = find(state().events, start), b = find(state().events, end);
    if (!a || !b || !a->recorded || !b->recorded) return INVALID_HANDLE;
    if (a->done < a->recorded || b->done < b->recorded) return NOT_READY;
    *out = static_cast<float>(b->milliseconds - a->milliseconds);
    return SUCCESS;
}
EMU_ENTRY(cuEventElapsedTime, Context, (float* out, void* start, void* end),
          { return elapsed(out, start, end); })

EMU_ENTRY(cuStreamBeginCapture_v2, Context, (void* handle, int), {
    STREAM(stream, handle);
    if (stream == state().null_stream) return CAPTURE_UNSUPPORTED;
    if (stream->capture) return CAPTURE_UNMATCHED;
    stream->capture = std::make_shared<Graph>();
    return SUCCESS;
})
EMU_ENTRY(cuStreamEndCapture, Context, (void* handle, void** out), {
    STREAM(stream, handle);
    *out = nullptr;
    if (!stream->capture) return CAPTURE_UNMATCHED;
    auto graph = std::move(stream->capture);
    stream->capture = nullptr;
    if (stream->invalidated) {
        stream->invalidated = false;
        return CAPTURE_INVALIDATED;
    }
    *out = keep(state().graphs, graph, state().stats.graphs);
    return SUCCESS;
})
EMU_ENTRY(cuStreamIsCapturing, Context, (void* handle, int* out), {
    STREAM(stream, handle);
    *out = stream->invalidated ? 2 : stream->capture ? 1 : 0;
    return SUCCESS;
})
EMU_ENTRY(cuGraphInstantiateWithFlags, Context, (void** out, void* handle, unsigned long long), {
    auto graph = find(state().graphs, handle);
    if (!graph) return INVALID_HANDLE;
    *out = keep(state().execs, std::make_shared<Graph>(*graph), state().stats.execs);
    return SUCCESS;
})
EMU_ENTRY(cuGraphUpload, Context, (void* handle, void* stream_handle), {
    STREAM(stream, stream_handle);
    return find(state().execs, handle) ? SUCCESS : INVALID_HANDLE;
})
EMU_ENTRY(cuGraphLaunch, Context, (void* handle, void* stream_handle), {
    auto exec = find(state().execs, handle);
    STREAM(stream, stream_handle);
    if (!exec) return INVALID_HANDLE;
    if (stream->capture) return NOT_SUPPORTED;
    for (const Op& op : exec->ops) {
        if (Result r = enqueue(stream, op)) return r;
    }
    return SUCCESS;
})
EMU_ENTRY(cuGraphGetNodes, Context, (void* handle, void** nodes, size_t* count), {
    auto graph = find(state().graphs, handle);
    if (!graph) return INVALID_HANDLE;
    if (nodes) return NOT_SUPPORTED;
    *count = graph->ops.size();
    return SUCCESS;
})
EMU_FREE(cuGraphExecDestroy, (void* handle), {
    if (!state().execs.erase(handle)) return INVALID_HANDLE;
    --state().stats.execs;
    return SUCCESS;
})
EMU_FREE(cuGraphDestroy, (void* handle), {
    if (!state().graphs.erase(handle)) return INVALID_HANDLE;
    --state().stats.graphs;
    return SUCCESS;
})

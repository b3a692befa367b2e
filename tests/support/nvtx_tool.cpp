// A profiler's library as NVTX 3 loads it: writes every push and pop to the file that HIRED_NVTX_LOG names. Types and
// numbers are those of NVTX's own nvtxTypes.h.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

using Function = void (*)();

struct Callbacks {
    size_t struct_size;
    int (*table)(int module, Function*** out_table, unsigned* out_size);
};

struct VersionInfo {
    size_t struct_size;
    uint32_t version;
    uint32_t reserved;
    void (*set_injection_version)(uint32_t);
};

// Number of functions in each module, counted from 1: core, CUDA, OpenCL, CUDA runtime, core 2, synchronisation.
constexpr unsigned sizes[] = {0, 16, 9, 15, 7, 16, 7};

FILE* file;
int depth;

int push(const char* name) {
    std::fprintf(file, "push %s\n", name);
    std::fflush(file);
    return depth++;
}

int pop() {
    std::fprintf(file, "pop\n");
    std::fflush(file);
    return --depth;
}

int wrong(const char* what) {
    std::fprintf(file, "wrong: %s\n", what);
    std::fflush(file);
    return 0;
}

}  // namespace

extern "C" int InitializeInjectionNvtx2(const void* (*export_table)(uint32_t)) {
    const char* name = std::getenv("HIRED_NVTX_LOG");
    if (!name || !(file = std::fopen(name, "a"))) return 0;
    std::fprintf(file, "initialised\n");
    auto* version = static_cast<const VersionInfo*>(export_table(3));
    if (!version || version->struct_size < sizeof(VersionInfo) || version->version != 3) return wrong("the version");
    version->set_injection_version(3);
    if (export_table(0) || export_table(2)) return wrong("a table that is none");
    auto* callbacks = static_cast<const Callbacks*>(export_table(1));
    if (!callbacks || callbacks->struct_size < sizeof(Callbacks)) return wrong("the callbacks");
    Function** table = nullptr;
    unsigned size = 0;
    if (callbacks->table(0, &table, &size) || callbacks->table(7, &table, &size)) return wrong("a module that is none");
    for (int module = 1; module <= 6; ++module) {
        if (!callbacks->table(module, &table, &size)) return wrong("a module");
        if (size != sizes[module] || table[0] || table[size]) return wrong("a module's size");
        for (unsigned slot = 1; slot < size; ++slot) {
            if (!table[slot]) return wrong("a slot");
            // A profiler may put a function into any of them.
            *table[slot] = Function(std::abort);
        }
    }
    callbacks->table(1, &table, &size);
    *table[9] = Function(push);
    *table[11] = Function(pop);
    return 1;
}

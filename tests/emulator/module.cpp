// Modules, functions and launches.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include "driver.h"

namespace emu {
namespace {

// The code path of an image that was compiled for this architecture.
unsigned code_path(unsigned arch) { return arch < 75 ? 61 : arch < 80 ? 75 : 80; }

// A cubin runs on its own major version from its own minor version on; PTX runs on every
// architecture that is not older.
bool runs_on(const Image& image, unsigned sm)
{
    return image.ptx ? image.arch <= sm : image.arch / 10 == sm / 10 && image.arch <= sm;
}

const Kernel* find_kernel(const Library& library, const std::string& name)
{
    for (unsigned u = 0; u < library.count; ++u) {
        for (unsigned k = 0; k < library.units[u]->count; ++k) {
            if (name == library.units[u]->kernels[k].name) return &library.units[u]->kernels[k];
        }
    }
    return nullptr;
}

// Whether the emulator's kernel has the parameters of the image's kernel. They differ if the
// emulator is stale, or if one struct has two layouts.
bool same_parameters(const Kernel& kernel, const KernelImage& image, std::string& why)
{
    bool same = kernel.parameters == image.sizes.size();
    for (unsigned i = 0; same && i < kernel.parameters; ++i)
        same = kernel.sizes[i] == image.sizes[i];
    if (same) return true;
    why = std::string("kernel ") + kernel.name + " takes (";
    for (unsigned size : image.sizes) why += std::to_string(size) + " ";
    why += ") bytes in the image and (";
    for (unsigned i = 0; i < kernel.parameters; ++i) why += std::to_string(kernel.sizes[i]) + " ";
    why += ") in the emulator: build both again";
    return false;
}

} // namespace

const Library* open_library(unsigned arch, std::string& why)
{
    static std::map<unsigned, const Library*> open;
    unsigned path = code_path(arch);
    auto found = open.find(path);
    if (found != open.end()) return found->second;
    Dl_info here;
    dladdr(reinterpret_cast<void*>(&open_library), &here);
    std::string file = here.dli_fname;
    file = file.substr(0, file.rfind('/') + 1) + "libkernels-" + std::to_string(path) + ".so";
    void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    auto* library = handle ? static_cast<const Library*>(dlsym(handle, "emu_library")) : nullptr;
    if (!library) {
        why = std::string("the kernels' library: ") + dlerror();
    } else if (library->layout != sizeof(Launch) || library->arch != path) {
        why = file + " is of another build";
        library = nullptr;
    } else {
        open[path] = library;
    }
    return library;
}

} // namespace emu

using namespace emu;

EMU_ENTRY(cuModuleLoadData, Context, (void** out, const void* bytes), {
    State& s = state();
    auto module = std::make_unique<Module>();
    std::string why;
    if (!bytes) return INVALID_VALUE;
    auto refuse = [&](Result code) {
        report("cuModuleLoadData: " + why);
        return code;
    };
    if (Result r = read_image(bytes, module->image, why)) return refuse(r);
    if (!runs_on(module->image, s.card->sm)) {
        why = "code for sm_" + std::to_string(module->image.arch) + " does not run on sm_" +
              std::to_string(s.card->sm);
        return refuse(NO_BINARY_FOR_GPU);
    }
    module->library = open_library(module->image.arch, why);
    if (!module->library) return refuse(INVALID_IMAGE);
    for (const auto& [name, kernel] : module->image.kernels) {
        const Kernel* twin = find_kernel(*module->library, name);
        if (!twin) {
            why = "the emulator was built without kernel " + name + ": build it again";
            return refuse(INVALID_IMAGE);
        }
        if (!same_parameters(*twin, kernel, why)) return refuse(INVALID_IMAGE);
    }
    *out = module.get();
    s.modules[*out] = std::move(module);
    ++s.stats.modules;
    return SUCCESS;
})
EMU_FREE(cuModuleUnload, (void* handle), {
    if (!state().modules.erase(handle)) return INVALID_HANDLE;
    --state().stats.modules;
    return SUCCESS;
})
EMU_ENTRY(cuModuleGetFunction, Context, (void** out, void* handle, const char* name), {
    auto found = state().modules.find(handle);
    if (found == state().modules.end()) return INVALID_HANDLE;
    Module& module = *found->second;
    auto image = module.image.kernels.find(name);
    if (image == module.image.kernels.end() && !module.image.kernels.empty()) return NOT_FOUND;
    const Kernel* kernel = find_kernel(*module.library, name);
    if (!kernel) return NOT_FOUND;
    auto& function = module.functions[name];
    if (!function) {
        function = std::make_unique<Function>(Function{kernel, {}, module.library, 49152});
        if (image != module.image.kernels.end()) function->image = image->second;
        if (!function->image.max_threads) function->image.max_threads = kernel->max_threads;
    }
    *out = function.get();
    return SUCCESS;
})

static Function* find_function(void* handle)
{
    for (auto& [m, module] : state().modules) {
        for (auto& [name, function] : module->functions) {
            if (function.get() == handle) return function.get();
        }
    }
    return nullptr;
}

EMU_ENTRY(cuFuncGetAttribute, Context, (int* out, int attribute, void* handle), {
    Function* f = find_function(handle);
    if (!f) return INVALID_HANDLE;
    switch (attribute) {
        case 0:
            *out = f->image.max_threads ? f->image.max_threads : 1024;
            return SUCCESS;
        case 1:
            *out = f->image.static_shared;
            return SUCCESS;
        case 2:
        case 3:
            *out = 0;
            return SUCCESS;
        case 4:
            *out = f->image.registers;
            return SUCCESS;
        case 5:
        case 6:
            *out = f->library->arch;
            return SUCCESS;
        case 8:
            *out = f->dynamic_limit;
            return SUCCESS;
        default:
            return INVALID_VALUE;
    }
})
EMU_ENTRY(cuFuncSetAttribute, Context, (void* handle, int attribute, int value), {
    Function* f = find_function(handle);
    if (!f) return INVALID_HANDLE;
    if (attribute == 9) return SUCCESS; // preferred shared memory carve-out: only a hint
    if (attribute != 8 || value < 0) return INVALID_VALUE;
    if (value + int(f->image.static_shared) > state().card->shared_opt_in) return INVALID_VALUE;
    f->dynamic_limit = value;
    return SUCCESS;
})
EMU_ENTRY(cuFuncSetCacheConfig, Context, (void* handle, int),
          { return find_function(handle) ? SUCCESS : INVALID_HANDLE; })

static Result occupancy(int* out, void* handle, int threads, size_t dynamic)
{
    Function* f = find_function(handle);
    if (!f || threads <= 0) return INVALID_VALUE;
    const Card& c = *state().card;
    long blocks = c.threads_per_processor / threads;
    if (f->image.registers)
        blocks = std::min(
            blocks, 65536L / (long(f->image.registers + 7) / 8 * 8 * ((threads + 31) / 32 * 32)));
    long shared = dynamic + f->image.static_shared;
    if (shared) blocks = std::min(blocks, c.shared_per_processor / shared);
    *out = int(std::min(blocks, 32L));
    return SUCCESS;
}
EMU_ENTRY(cuOccupancyMaxActiveBlocksPerMultiprocessor, Context,
          (int* out, void* handle, int threads, size_t dynamic),
          { return occupancy(out, handle, threads, dynamic); })
EMU_ENTRY(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, Context,
          (int* out, void* handle, int threads, size_t dynamic, unsigned),
          { return occupancy(out, handle, threads, dynamic); })

namespace {

// A launch that has not run yet, with its parameters as they were at the call.
struct Pending {
    const Kernel* kernel;
    const Library* library;
    unsigned grid[3], block[3], dynamic;
    std::vector<std::vector<char>> values;

    Result run()
    {
        State& s = state();
        std::vector<void*> params;
        for (auto& value : values) params.push_back(value.data());
        Launch launch{kernel,
                      {grid[0], grid[1], grid[2]},
                      {block[0], block[1], block[2]},
                      dynamic,
                      params.data(),
                      heap_begin(),
                      HEAP_BYTES};
        Outcome outcome;
        watch_launch(true, kernel->name);
        library->run(launch, s.settings, outcome);
        watch_launch(false, "");
        ++s.stats.launches;
        s.stats.blocks += uint64_t(grid[0]) * grid[1] * grid[2];
        if (outcome.code) {
            report(outcome.text);
        } else {
            note_coverage(*library, *kernel, s.settings);
        }
        return Result(outcome.code);
    }
};

Result check_launch(const Function& f, const Pending& p)
{
    uint64_t threads = uint64_t(p.block[0]) * p.block[1] * p.block[2];
    for (int i = 0; i < 3; ++i) {
        if (!p.grid[i] || !p.block[i]) return INVALID_VALUE;
    }
    if (p.grid[0] > 0x7fffffff || p.grid[1] > 65535 || p.grid[2] > 65535) return INVALID_VALUE;
    if (p.block[0] > 1024 || p.block[1] > 1024 || p.block[2] > 64 || threads > 1024)
        return INVALID_VALUE;
    if (f.image.max_threads && threads > f.image.max_threads) return INVALID_VALUE;
    if (int64_t(p.dynamic) > f.dynamic_limit ||
        p.dynamic + f.image.static_shared > unsigned(state().card->shared_opt_in))
        return INVALID_VALUE;
    uint64_t warps = (threads + 31) / 32, registers = (f.image.registers + 7) / 8 * 8;
    if (warps * 32 * registers > 65536) return LAUNCH_OUT_OF_RESOURCES;
    return SUCCESS;
}

} // namespace

EMU_ENTRY(cuLaunchKernel, Context,
          (void* handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
           unsigned bz, unsigned dynamic, void* stream_handle, void** params, void** extra),
          {
              Function* f = find_function(handle);
              auto stream = find_stream(stream_handle);
              if (!f || !stream) return INVALID_HANDLE;
              if (extra || (!params && f->kernel->parameters)) return INVALID_VALUE;
              auto pending = std::make_shared<Pending>(
                  Pending{f->kernel, f->library, {gx, gy, gz}, {bx, by, bz}, dynamic, {}});
              if (Result r = check_launch(*f, *pending)) return r;
              for (unsigned i = 0; i < f->kernel->parameters; ++i) {
                  const char* p = static_cast<const char*>(params[i]);
                  pending->values.emplace_back(p, p + f->kernel->sizes[i]);
              }
              Op op;
              op.run = [pending] { return pending->run(); };
              return enqueue(stream, std::move(op));
          })

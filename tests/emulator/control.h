/* Control of the emulator by a test: functions that libcuda.so exports besides the driver's own, to be
 * found with dlsym.
 *
 * The same by environment variables, which the first cuInit reads (defaults in parentheses):
 *
 *   HIRED_EMULATOR_SM        61 70 75 80 86 89 90: the GPU; `none`: a driver without a GPU     (80)
 *   HIRED_EMULATOR_SCHEDULE  lockstep, ahead, reversed, or a number, the seed of a random one
 *                            (lockstep)
 *   HIRED_EMULATOR_POISON    the byte, in hex, that fills new device and shared memory         (ff)
 *   HIRED_EMULATOR_STRICT    1: lanes named in a mask must meet at one call site; 0: anywhere
 *                            (1 below sm_70, else 0)
 *   HIRED_EMULATOR_LAZY      1: work waits in its stream until something waits for it           (0)
 *   HIRED_EMULATOR_PAGEABLE  late: lazy copies read pageable memory when they run, which CUDA
 *                            permits, and not at the call, as most drivers do
 *   HIRED_EMULATOR_POOLS     0: a GPU without memory pools (cudarc then allocates differently)  (1)
 *   HIRED_EMULATOR_MEMORY    device memory in bytes, or with K, M, G for powers of 1024        (4G)
 *   HIRED_EMULATOR_DRIVER    the result of cuDriverGetVersion                               (12020)
 *   HIRED_EMULATOR_FAIL      as emu_fail
 *   HIRED_EMULATOR_TIMEOUT   seconds after which a launch ends the process                    (120)
 *   HIRED_EMULATOR_COVERAGE  a file that gets a line for each kernel, code path, schedule and kind
 *                            of build that ran without a failure
 *   HIRED_EMULATOR_FAIL_FILE a file that another process may put there at any time: its line is taken
 *                            as emu_fail's, and the file removed. Once the call has failed, its name
 *                            stands in a file called the same with ".failed" behind
 *   HIRED_EMULATOR_TRACE     1: prints every driver call on stderr                              (0)
 */
#ifndef HIRED_EMULATOR_CONTROL_H
#define HIRED_EMULATOR_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct EmuStats {
    uint64_t device_bytes; /* allocated now, without padding */
    uint64_t device_peak;  /* maximum since emu_reset */
    uint64_t device_blocks;
    uint64_t pinned_bytes;
    uint64_t streams, events, graphs, execs, modules;
    uint64_t contexts; /* references to the primary context */
    uint64_t calls;    /* calls of the driver since emu_reset */
    uint64_t launches; /* of kernels, including those in graphs */
    uint64_t blocks;   /* blocks of threads in these launches */
} EmuStats;

void emu_stats(EmuStats* out);

/* Calls of one entry point since emu_reset. */
uint64_t emu_calls(const char* name);

/* Injects a failure. "NAME:N=ERR" or "any:N=ERR": from now on the N-th call (from 1) of that entry
 * point, or of any, returns ERR without doing its work. With "!" at the end the context is lost too,
 * as after a fault on the device. Null or "": no failure. Returns 0, or 1 if the text is invalid. */
int emu_fail(const char* what);

/* Sets the schedule: 0 lock-step, 1 one warp ahead, 2 reversed, 3 random by the seed. */
void emu_schedule(int schedule, uint64_t seed);
void emu_poison(uint8_t byte);
void emu_lazy(int on);

/* Marks device memory that must not be accessed, such as gaps in an arena, or removes the mark. A
 * write is reported when the mark is removed, when its block is freed or at the next
 * synchronisation; under AddressSanitizer any access is reported at once. */
void emu_guard(uint64_t device_pointer, size_t bytes, int on);

/* The last failure inside a kernel or of a guard, as one line, or "". Valid until the next call of
 * the emulator. */
const char* emu_report(void);

/* Resets everything: memory, streams, modules, errors, counts. Older handles become invalid. */
void emu_reset(void);

#ifdef __cplusplus
}
#endif
#endif

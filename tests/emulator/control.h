/* How a test steers the emulator: functions that libcuda.so exports beside the driver's own, found
 * with dlsym.
 *
 * The same by environment, read by the first cuInit:
 *   HIRED_EMULATOR_SM        61 70 75 80 86 89 90: the card; `none`: a driver without a card   (80)
 *   HIRED_EMULATOR_SCHEDULE  lockstep, ahead, reversed, or a number: the seed of a random one
 * (lockstep) HIRED_EMULATOR_POISON    the byte, in hex, that fills new device and shared memory
 * (ff) HIRED_EMULATOR_STRICT    1: lanes named in a mask must meet at one call site, 0: not (1
 * below sm_70) HIRED_EMULATOR_LAZY      1: work waits in its stream until somebody waits for it (0)
 *   HIRED_EMULATOR_PAGEABLE  late: lazy copies read the program's own memory when they run, as they
 *                            may, and not at the call, as most drivers do
 *   HIRED_EMULATOR_POOLS     0: a card without memory pools (cudarc then allocates otherwise)  (1)
 *   HIRED_EMULATOR_MEMORY    device memory in bytes, or with K, M, G for powers of 1024        (4G)
 *   HIRED_EMULATOR_DRIVER    what cuDriverGetVersion says (12020) HIRED_EMULATOR_FAIL      as
 * emu_fail HIRED_EMULATOR_TIMEOUT   seconds after which a launch ends the process (120)
 *   HIRED_EMULATOR_COVERAGE  a file that gets a line for each kernel, code path, schedule and kind
 *                            of build that ran without a failure
 *   HIRED_EMULATOR_TRACE     1: every call of the driver on stderr                             (0)
 */
#ifndef HIRED_EMULATOR_CONTROL_H
#define HIRED_EMULATOR_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct EmuStats {
    uint64_t device_bytes; /* taken now, as asked for */
    uint64_t device_peak;  /* most at any time since emu_reset */
    uint64_t device_blocks;
    uint64_t pinned_bytes;
    uint64_t streams, events, graphs, execs, modules;
    uint64_t contexts; /* references to the primary context */
    uint64_t calls;    /* of the driver, since emu_reset */
    uint64_t launches; /* of kernels, graphs' included */
    uint64_t blocks;   /* of threads, in these launches */
} EmuStats;

void emu_stats(EmuStats* out);

/* Calls of one entry point since emu_reset. */
uint64_t emu_calls(const char* name);

/* "NAME:N=ERR" or "any:N=ERR": the N-th call (from 1) of that entry point, or of any, from now on
 * returns ERR without doing its work. A further "!": and the context is lost, as after a fault on
 * the device. Null or "": no failure. Returns 0, or 1 when the text is not understood. */
int emu_fail(const char* what);

/* 0 lock-step, 1 one warp ahead, 2 reversed, 3 by the seed. */
void emu_schedule(int schedule, uint64_t seed);
void emu_poison(uint8_t byte);
void emu_lazy(int on);

/* Marks device memory that nobody may touch, or takes the mark off: gaps inside an arena. A write
 * is reported when the mark is taken off, when its block is freed or at the next synchronisation;
 * under AddressSanitizer any access at once. */
void emu_guard(uint64_t device_pointer, size_t bytes, int on);

/* The last failure inside a kernel or of a guard, one line, or "". Valid until the next call of the
 * emulator. */
const char* emu_report(void);

/* Forgets everything: memory, streams, modules, errors, counts. Handles from before are dead. */
void emu_reset(void);

#ifdef __cplusplus
}
#endif
#endif

//! The kernels of this folder: how each is launched, what its corrected twin computes, and which check must find the
//! bug.

use super::emulator::Build::{self, Asan, Plain, Races};
use By::{Difference, Report};

/// How a bug is noticed.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// A report that contains this text.
    Report(&'static str),
    /// Results that differ between schedules or poisons.
    Difference,
}

/// A kernel with a planted bug, and how it is launched.
pub struct Bug {
    pub kernel: &'static str,
    pub grid: u32,
    pub block: u32,
    /// Numbers of input and output.
    pub count: usize,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Whether the output is zeroed first; otherwise it is uninitialised.
    pub zeroed: bool,
    /// Element i of the corrected twin's output.
    pub twin: fn(&[f32], usize) -> f32,
    /// The ways in which the bug must be found, by kind of build.
    pub found: &'static [(Build, By)],
}

pub const USUAL: Bug = Bug {
    kernel: "",
    grid: 1,
    block: 256,
    count: 256,
    shared: 0,
    zeroed: false,
    twin: same,
    found: &[],
};

fn same(x: &[f32], i: usize) -> f32 {
    x[i]
}

fn turned(x: &[f32], i: usize) -> f32 {
    x[x.len() - 1 - i]
}

pub fn neighbour(x: &[f32], i: usize) -> f32 {
    x[i ^ 1]
}

pub const BUGS: &[Bug] = &[
    // Bugs in synchronisation.
    Bug {
        kernel: "missing_barrier",
        twin: |x, _| x.iter().sum(),
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "missing_second_barrier",
        twin: |x, _| 2.0 * x.iter().sum::<f32>() + x.len() as f32,
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "missing_syncwarp",
        twin: neighbour,
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "divergent_barrier",
        twin: turned,
        found: &[(Plain, Report("divergent barrier")), (Asan, Report("divergent barrier"))],
        ..USUAL
    },
    Bug {
        kernel: "conditional_barrier",
        twin: turned,
        found: &[(Plain, Report("156 threads have left"))],
        ..USUAL
    },
    Bug {
        kernel: "early_return",
        count: 200,
        twin: turned,
        found: &[(Plain, Report("56 threads have left"))],
        ..USUAL
    },
    Bug {
        kernel: "mask_names_too_many",
        twin: |x, i| if i % 32 < 20 { x[i / 32 * 32 + 19 - i % 32] } else { x[i] },
        found: &[(Plain, Report("wait at __shfl_sync"))],
        ..USUAL
    },
    Bug {
        kernel: "mask_without_caller",
        twin: neighbour,
        found: &[(Plain, Report("which does not name it"))],
        ..USUAL
    },
    Bug {
        kernel: "mask_reads_outside",
        twin: |x, i| if i % 32 == 0 { x[i..i + 16].iter().sum() } else { 0.0 },
        found: &[(Plain, Difference)],
        ..USUAL
    },
    // Bugs in memory accesses.
    Bug {
        kernel: "global_overrun_write",
        grid: 4,
        count: 1000,
        found: &[
            (Plain, Report("a write 0 bytes behind a block of 4000 bytes")),
            (Asan, Report("AddressSanitizer")),
        ],
        ..USUAL
    },
    Bug {
        kernel: "global_overrun_read",
        grid: 4,
        count: 1000,
        found: &[(Plain, Difference), (Asan, Report("AddressSanitizer"))],
        ..USUAL
    },
    Bug { kernel: "global_wild", found: &[(Plain, Report("where nothing is allocated"))], ..USUAL },
    Bug {
        kernel: "dynamic_shared_overrun",
        shared: 1024,
        found: &[
            (Plain, Report("an access at byte 1024 of 1024 bytes of dynamic shared memory")),
            (Asan, Report("AddressSanitizer")),
        ],
        ..USUAL
    },
    Bug {
        kernel: "static_shared_overrun",
        found: &[(Plain, Report("out of the bounds of an array")), (Asan, Report("array"))],
        ..USUAL
    },
    Bug {
        kernel: "hidden_shared_overrun",
        found: &[(Asan, Report("AddressSanitizer: global-buffer-overflow"))],
        ..USUAL
    },
    Bug {
        kernel: "misaligned_load",
        found: &[(Plain, Report("misaligned access")), (Asan, Report("misaligned access"))],
        ..USUAL
    },
    Bug {
        kernel: "uninitialised_static_shared",
        twin: turned,
        found: &[(Plain, Difference)],
        ..USUAL
    },
    Bug {
        kernel: "uninitialised_dynamic_shared",
        shared: 1024,
        twin: turned,
        found: &[(Plain, Difference)],
        ..USUAL
    },
    Bug { kernel: "unwritten_output", found: &[(Plain, Difference)], ..USUAL },
    Bug {
        kernel: "write_write_race",
        twin: |x, i| x[128 + i % 128],
        found: &[(Plain, Difference), (Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "silent_race",
        twin: |x, _| x[0],
        found: &[(Races, Report("race on shared memory"))],
        ..USUAL
    },
    Bug {
        kernel: "race_between_blocks",
        grid: 8,
        zeroed: true,
        twin: |_, i| f32::from_bits(if i == 0 { 8 } else { 0 }),
        found: &[(Races, Report("race on device memory"))],
        ..USUAL
    },
    Bug {
        kernel: "last_block_sums",
        grid: 8,
        block: 32,
        count: 10,
        zeroed: true,
        twin: |x, i| match i {
            8 => f32::from_bits(8),
            9 => x[..8].iter().sum(),
            _ => x[i],
        },
        found: &[(Races, Report("race on device memory"))],
        ..USUAL
    },
    Bug {
        kernel: "stack_overflow",
        found: &[(Plain, Report("stack of 65536 bytes overflowed"))],
        ..USUAL
    },
    // Kernels without bugs, which test CUDA functions and instructions.
    Bug { kernel: "collectives", block: 32, count: 18 * 32, twin: collectives, ..USUAL },
    Bug {
        kernel: "matrix_product",
        block: 32,
        count: 16 * 24,
        zeroed: true,
        twin: matrix_product,
        found: &[(Plain, Difference)], // the wait for one group of copies is missing
        ..USUAL
    },
    Bug { kernel: "matrix_loads", block: 32, twin: matrix_loads, ..USUAL },
    Bug {
        kernel: "short_copies",
        block: 32,
        count: 128,
        shared: 512,
        twin: |x, i| if i % 4 < i / 4 % 5 { x[i] } else { 0.0 },
        ..USUAL
    },
    Bug { kernel: "halves", grid: 256, count: 65536, twin: halves, ..USUAL },
    Bug {
        kernel: "atomics_and_bits",
        block: 32,
        count: 12,
        zeroed: true,
        twin: |_, i| f32::from_bits(ATOMICS_AND_BITS[i]),
        ..USUAL
    },
];

fn collectives(x: &[f32], i: usize) -> f32 {
    let lane = i % 32;
    let is = |truth: bool| f32::from(u8::from(truth));
    match i / 32 {
        0 => x[lane * 5 % 32],
        1 => x[lane / 8 * 8 + 1],
        2 => x[if lane % 16 < 3 { lane } else { lane - 3 }],
        3 => x[if lane % 16 > 12 { lane } else { lane + 3 }],
        4 => x[lane ^ 21],
        // A lane of the group before; without one, the lane's own.
        5 => x[if (lane ^ 9) / 8 > lane / 8 { lane } else { lane ^ 9 }],
        6 => (0xfffff >> 8) as f32,
        7 => is(true),
        8 => is(false),
        9 => is(true),
        10 => is(false),
        11 => (lane / 3 * 3 + 3).min(32) as f32 - (lane / 3 * 3) as f32,
        12 => 496.0,
        13 => 4.0,
        14 => 35.0,
        15 => 11.0,
        16 => is(true),
        _ => is(false),
    }
}

fn matrix_product(x: &[f32], i: usize) -> f32 {
    if i >= 256 {
        return 0.0;
    }
    let (row, col) = (i % 128 / 8, i % 8);
    (0..16).map(|k| x[row * 16 + k] * x[256 + k * 8 + col]).sum()
}

fn matrix_loads(x: &[f32], i: usize) -> f32 {
    let (matrix, lane) = (i / 32 % 4, i % 32);
    let (row, col) = (lane / 4, lane % 4 * 2);
    let at = |row: usize, col: usize| x[matrix * 64 + row * 8 + col];
    if i < 128 {
        at(row, col) + 1000.0 * at(row, col + 1)
    } else {
        at(col, row) + 1000.0 * at(col + 1, row)
    }
}

fn halves(_: &[f32], i: usize) -> f32 {
    // A NaN is returned as a quiet NaN.
    let back = if i & 0x7fff > 0x7c00 { i as u32 | 0x200 } else { i as u32 };
    let from = half::f16::from_f32(f32::from_bits(i as u32 * 65537));
    f32::from_bits(back | u32::from(from.to_bits()) << 16)
}

const ATOMICS_AND_BITS: [u32; 12] = [
    496,
    93,
    0xffff_ffff,
    2, // 32 steps around 0..=9
    0,
    64,
    // Bytes 7f 80 ff 01 times 02 03 04 05, signed, and 10.
    (10 + 127 * 2 - 128 * 3 - 4 + 5) as u32,
    0x7733_5511,
    15 + 100 * 8 + 10000 * 8,
    ((0xdead_beef_u64 * 0x1234_5678) >> 32) as u32,
    0x1e6a_2c48,
    5, // -4 + 9
];

//! What must hold of the main loops of products.

use crate::machine_code::{Instruction, count};

/// What must hold of a kernel's main loop.
pub struct Fact {
    /// `kernels/FILE.cu`.
    pub file: &'static str,
    pub kernels: &'static [&'static str],
    pub architectures: &'static [u32],
    /// The main loop is the one in which this is most frequent.
    pub work: &'static str,
    pub what: &'static str,
    pub holds: fn(&[Instruction]) -> bool,
}

const FMA: [&str; 4] =
    ["gemm_fma_128x128_f16", "gemm_fma_64x64_f16", "gemm_fma_128x128_f32", "gemm_fma_64x64_f32"];
const FMA_ALL: [&str; 6] = [
    "gemm_fma_128x128_f16",
    "gemm_fma_64x64_f16",
    "gemm_fma_guarded_f16",
    "gemm_fma_128x128_f32",
    "gemm_fma_64x64_f32",
    "gemm_fma_guarded_f32",
];
const FMA_F32: [&str; 2] = ["gemm_fma_128x128_f32", "gemm_fma_64x64_f32"];
const MMA8: [&str; 3] = ["gemm_mma8_128x128_f16", "gemm_mma8_64x128_f16", "gemm_mma8_64x64_f16"];
const MMA16: [&str; 3] =
    ["gemm_mma16_128x128_f16", "gemm_mma16_64x128_f16", "gemm_mma16_64x64_f16"];
const GEMV_F32: [&str; 8] = [
    "gemv_vector_rows1_f32",
    "gemv_vector_rows2_f32",
    "gemv_vector_rows4_f32",
    "gemv_vector_rows8_f32",
    "gemv_gate_vector_rows1_f32",
    "gemv_gate_vector_rows2_f32",
    "gemv_gate_vector_rows4_f32",
    "gemv_gate_vector_rows8_f32",
];
/// Where there are no tensor cores.
const GEMV_F16: [&str; 12] = [
    "gemv_vector_rows1_f16",
    "gemv_vector_rows2_f16",
    "gemv_vector_rows4_f16",
    "gemv_vector_rows8_f16",
    "gemv_gate_vector_rows1_f16",
    "gemv_gate_vector_rows2_f16",
    "gemv_gate_vector_rows4_f16",
    "gemv_gate_vector_rows8_f16",
    "gemv_logits_vector_rows1_f16",
    "gemv_logits_vector_rows2_f16",
    "gemv_logits_vector_rows4_f16",
    "gemv_logits_vector_rows8_f16",
];
pub const GEMV_MMA: [&str; 3] = ["gemv_mma_f16", "gemv_gate_mma_f16", "gemv_logits_mma_f16"];

const DP4A: [&str; 4] = [
    "gemm_dp4a_128x128_q8_f16",
    "gemm_dp4a_64x64_q8_f16",
    "gemm_dp4a_128x128_q8_f32",
    "gemm_dp4a_64x64_q8_f32",
];
const MMA8_Q8: [&str; 3] =
    ["gemm_mma8_128x128_q8_f16", "gemm_mma8_64x128_q8_f16", "gemm_mma8_64x64_q8_f16"];
const MMA16_Q8: [&str; 3] =
    ["gemm_mma16_128x128_q8_f16", "gemm_mma16_64x128_q8_f16", "gemm_mma16_64x64_q8_f16"];
const GEMV_Q8: [&str; 8] = [
    "gemv_rows1_q8_f16",
    "gemv_rows2_q8_f16",
    "gemv_rows4_q8_f16",
    "gemv_rows8_q8_f16",
    "gemv_gate_rows1_q8_f16",
    "gemv_gate_rows2_q8_f16",
    "gemv_gate_rows4_q8_f16",
    "gemv_gate_rows8_q8_f16",
];

/// Of a format whose codes share scales in groups: its products by FMA.
const fn fma_groups(file: &'static str, kernels: &'static [&'static str]) -> Fact {
    Fact {
        file,
        kernels,
        architectures: &[61, 70],
        work: "FFMA",
        what: "four of five instructions multiply, and a third of them stand behind the first global load",
        holds: |body| {
            let products = count(body, "FFMA");
            let overlap = before_loads(body, "FFMA").is_some_and(|n| 3 * n <= 2 * products);
            5 * products >= 4 * body.len() && overlap && products >= 8 * count(body, "LDS")
        },
    }
}

/// The same on tensor cores.
const fn mma_groups(file: &'static str, kernels: &'static [&'static str]) -> Fact {
    Fact {
        file,
        kernels,
        architectures: &[75, 80, 86, 89, 90],
        work: "HMMA",
        what: "all products stand behind the first global load, and are more than the reads of shared memory",
        holds: |body| {
            before_loads(body, "HMMA") == Some(0) && count(body, "HMMA") > count(body, "LDS")
        },
    }
}

/// Every load of global memory takes 16 bytes, and there is one; copies to shared memory (LDGSTS) count too.
pub fn loads_are_wide(body: &[Instruction]) -> bool {
    let loads =
        || body.iter().filter(|i| i.word.starts_with("LDG.") || i.word.starts_with("LDGSTS"));
    loads().count() > 0 && loads().all(|i| i.word.contains(".128"))
}

/// The loads of the next step are on their way while this one is multiplied: how much of `work` stands before the first.
pub fn before_loads(body: &[Instruction], work: &str) -> Option<usize> {
    let first = body.iter().position(|i| i.word.starts_with("LDG"))?;
    Some(count(&body[..first], work))
}

pub const FACTS: [Fact; 26] = [
    Fact {
        file: "gemm_fma",
        kernels: &FMA,
        architectures: &[61, 70],
        work: "FFMA",
        what: "at least 8 FFMA for each LDS",
        holds: |body| count(body, "FFMA") >= 8 * count(body, "LDS"),
    },
    Fact {
        file: "gemm_fma",
        kernels: &FMA_F32,
        architectures: &[75, 80, 86, 89, 90],
        work: "FFMA",
        what: "at least 8 FFMA for each LDS",
        holds: |body| count(body, "FFMA") >= 8 * count(body, "LDS"),
    },
    Fact {
        file: "gemm_fma",
        kernels: &FMA,
        architectures: &[61, 70],
        work: "FFMA",
        what: "no global load of less than 16 bytes",
        holds: loads_are_wide,
    },
    Fact {
        file: "gemm_fma",
        kernels: &["gemm_fma_128x128_f16", "gemm_fma_128x128_f32"],
        architectures: &[61],
        work: "FFMA",
        what: "five of six instructions multiply",
        holds: |body| 6 * count(body, "FFMA") >= 5 * body.len(),
    },
    Fact {
        file: "gemm_fma",
        kernels: &FMA_ALL,
        architectures: &[61, 70],
        work: "FFMA",
        what: "a third of the products or more stand behind the first global load, which they overlap",
        holds: |body| before_loads(body, "FFMA").is_some_and(|n| 3 * n <= 2 * count(body, "FFMA")),
    },
    Fact {
        file: "gemm_mma8",
        kernels: &MMA8,
        architectures: &[75],
        work: "HMMA",
        what: "all products stand behind the first global load, which they overlap",
        holds: |body| before_loads(body, "HMMA") == Some(0),
    },
    Fact {
        file: "gemm_mma8",
        kernels: &MMA8,
        architectures: &[75],
        work: "HMMA",
        what: "more products than reads of shared memory",
        holds: |body| count(body, "HMMA.1688") > count(body, "LDS"),
    },
    Fact {
        file: "gemm_mma8",
        kernels: &MMA8,
        architectures: &[75],
        work: "HMMA",
        what: "no global load of less than 16 bytes",
        holds: loads_are_wide,
    },
    Fact {
        file: "gemm_mma16",
        kernels: &MMA16,
        architectures: &[80, 86, 89, 90],
        work: "HMMA",
        what: "more products than reads of shared memory",
        holds: |body| count(body, "HMMA.16816") > count(body, "LDS"),
    },
    Fact {
        file: "gemm_mma16",
        kernels: &MMA16,
        architectures: &[80, 86, 89, 90],
        work: "HMMA",
        what: "global memory goes straight to shared memory, 16 bytes at a time",
        holds: |body| loads_are_wide(body) && count(body, "LDG.") == 0,
    },
    Fact {
        file: "gemv",
        kernels: &GEMV_F16,
        architectures: &[61, 70],
        work: "FFMA",
        what: "no global load of less than 16 bytes",
        holds: loads_are_wide,
    },
    Fact {
        file: "gemv",
        kernels: &GEMV_F32,
        architectures: &[61, 70, 75, 80, 86, 89, 90],
        work: "FFMA",
        what: "no global load of less than 16 bytes",
        holds: loads_are_wide,
    },
    Fact {
        file: "gemm_dp4a",
        kernels: &DP4A,
        architectures: &[61, 70],
        work: "IDP",
        what: "no global load of less than 16 bytes",
        holds: loads_are_wide,
    },
    Fact {
        file: "gemm_dp4a",
        kernels: &["gemm_dp4a_128x128_q8_f16", "gemm_dp4a_128x128_q8_f32"],
        architectures: &[61],
        work: "IDP",
        what: "five of six instructions are dp4a",
        holds: |body| 6 * count(body, "IDP") >= 5 * body.len(),
    },
    Fact {
        file: "gemm_dp4a",
        kernels: &DP4A,
        architectures: &[61, 70],
        work: "IDP",
        what: "half of the products or more stand behind the first global load, which they overlap",
        holds: |body| before_loads(body, "IDP").is_some_and(|n| 2 * n <= count(body, "IDP")),
    },
    Fact {
        file: "gemm_mma8_q8",
        kernels: &MMA8_Q8,
        architectures: &[75],
        work: "IMMA",
        what: "all products stand behind the first global load, which they overlap",
        holds: |body| before_loads(body, "IMMA") == Some(0),
    },
    Fact {
        file: "gemm_mma8_q8",
        kernels: &MMA8_Q8,
        architectures: &[75],
        work: "IMMA",
        what: "more products than reads of shared memory, and no global load of less than 16 bytes",
        holds: |body| count(body, "IMMA.8816") > count(body, "LDS") && loads_are_wide(body),
    },
    Fact {
        file: "gemm_mma16_q8",
        kernels: &MMA16_Q8,
        architectures: &[80, 86, 89, 90],
        work: "IMMA",
        what: "more products than reads of shared memory, which global memory comes to by itself",
        holds: |body| {
            let copies = loads_are_wide(body) && count(body, "LDG.") == 0;
            copies && count(body, "IMMA.16832") > count(body, "LDS")
        },
    },
    Fact {
        file: "gemv_q8",
        kernels: &GEMV_Q8,
        architectures: &[61, 70, 75, 80, 86, 89, 90],
        work: "IDP",
        what: "no global load of less than 16 bytes",
        holds: loads_are_wide,
    },
    Fact {
        file: "gemv_q8",
        kernels: &GEMV_Q8,
        architectures: &[61, 70, 75, 80, 86, 89, 90],
        work: "IDP",
        what: "the next weights are on their way before these are multiplied",
        holds: |body| before_loads(body, "IDP") == Some(0),
    },
    fma_groups("gemm_fma_q4", &["gemm_fma_128x128_q4_f16", "gemm_fma_128x128_q4_f32"]),
    fma_groups("gemm_fma_awq", &["gemm_fma_128x128_awq_f16", "gemm_fma_128x128_awq_f32"]),
    fma_groups("gemm_fma_w8a16", &["gemm_fma_128x128_w8a16_f16", "gemm_fma_128x128_w8a16_f32"]),
    mma_groups("gemm_mma_q4", &["gemm_mma_128x128_q4_f16", "gemm_mma_64x64_q4_f16"]),
    mma_groups("gemm_mma_awq", &["gemm_mma_128x128_awq_f16", "gemm_mma_64x64_awq_f16"]),
    mma_groups("gemm_mma_w8a16", &["gemm_mma_128x128_w8a16_f16", "gemm_mma_64x64_w8a16_f16"]),
];

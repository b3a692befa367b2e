//! GPUs by name, with the figures of their data sheets, for planning without the GPU.
//!
//! Rates are those of dense arithmetic at the boost clock: upper bounds. Half precision means sums in single precision,
//! which is how this crate's kernels add; GeForce GPUs do that at half the rate that their data sheets advertise for
//! tensor cores.

use super::cost::Roofs;
use super::cuda::matmul::Factors;
use super::cuda::matmul::choose::Kernels;
use crate::format::{Dtype, Format};

/// A GPU's data sheet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// The name by which it is listed.
    pub name: &'static str,
    /// Compute capability: 61 means 6.1.
    pub capability: u32,
    /// Bytes of memory that a program sees (`cuDeviceTotalMem`), with ECC where it is on by default: the smallest
    /// figure that drivers are known to report, rounded down. Less than the data sheet says.
    pub memory: usize,
    /// Whether the operating system uses the same memory.
    pub is_shared: bool,
    /// Bytes per second.
    pub bandwidth: f64,
    /// Operations per second in single precision, a multiply-add counting as two.
    pub fp32: f64,
    /// Operations per second of tensor cores in half precision with sums in single precision; `None` where there are no
    /// tensor cores.
    pub fp16: Option<f64>,
    /// Operations per second on 8-bit integers, by `dp4a` or tensor cores.
    pub int8: f64,
    /// How the figures for arithmetic and bandwidth were derived.
    pub source: &'static str,
}

/// Memory for the driver's context, kernels, recorded graphs and libraries, which the planner does not count: between
/// 100 MB on Pascal and 500 MB on Hopper. One figure for all, on the safe side.
pub const CONTEXT: usize = 512 << 20;

/// Memory that the operating system and a desktop take where they share it with the GPU.
pub const SYSTEM: usize = 2 << 30;

impl Gpu {
    /// Finds a GPU by name, however it is written: `rtx-4090`, `RTX 4090`, `NVIDIA GeForce RTX 4090`. Where a GPU was
    /// sold with several sizes of memory, including sizes that are not listed here, the name must say which.
    pub fn named(name: &str) -> Option<&'static Self> {
        let typed = plain(name);
        GPUS.iter().find(|gpu| plain(gpu.name) == typed)
    }

    /// Bytes that are left for weights, cache and workspace.
    pub fn usable(&self) -> usize {
        self.memory - CONTEXT - if self.is_shared { SYSTEM } else { 0 }
    }

    /// Whether this crate's kernels multiply activations with weights of this format on tensor cores.
    pub fn multiplies_on_tensor_cores(&self, weights: Format, activations: Dtype) -> bool {
        let kernels = Kernels::of(self.capability, Factors { weights, activations });
        self.fp16.is_some() && kernels.is_some_and(Kernels::multiply_on_tensor_cores)
    }

    /// Upper bounds for work on activations of this format. Where this crate's kernels have no tensor cores to use,
    /// fp16 is only a storage format: numbers are widened and multiplied in single precision. `library`: cuBLAS makes
    /// the fp16 products, on Volta's tensor cores too.
    pub fn roofs(&self, activations: Dtype, library: bool) -> Roofs {
        let flops = |tensor| self.fp16.filter(|_| tensor).unwrap_or(self.fp32);
        let own = |weights| self.multiplies_on_tensor_cores(weights, activations);
        let dense = own(activations.into());
        Roofs {
            bandwidth: self.bandwidth,
            linear: flops(dense || (library && activations == Dtype::F16)),
            widened: flops(own(Format::Q4 { group: 128 })),
            // By dp4a or tensor cores, whatever the format of activations.
            integers: self.int8,
            rest: flops(dense),
        }
    }
}

/// Normalises a name: without case, blanks, hyphens, vendor, product line and unit.
fn plain(name: &str) -> String {
    let words = name.to_lowercase();
    let words = words.split(|c: char| !c.is_ascii_alphanumeric()).map(|word| {
        // 80gb, 16gib
        let number = word.trim_end_matches("gib").trim_end_matches("gb");
        if number.parse::<u32>().is_ok() { number } else { word }
    });
    let known = ["nvidia", "geforce", "tesla", "jetson", "gb", "gib"];
    words.filter(|word| !known.contains(word)).collect()
}

/// Arguments: name, compute capability, GiB, GB/s; 10¹² operations per second in single precision, on tensor cores, on
/// 8-bit integers; source.
const fn gpu(
    name: &'static str,
    capability: u32,
    gib: f64,
    bandwidth: f64,
    [fp32, fp16, int8]: [f64; 3],
    source: &'static str,
) -> Gpu {
    Gpu {
        name,
        capability,
        memory: (gib * (1u64 << 30) as f64) as usize,
        // Tegra: Orin is the only listed generation with shared memory.
        is_shared: capability == 87,
        bandwidth: bandwidth * 1e9,
        fp32: fp32 * 1e12,
        fp16: if fp16 > 0.0 { Some(fp16 * 1e12) } else { None },
        int8: int8 * 1e12,
        source,
    }
}

/// All listed GPUs, from the oldest architecture to the newest.
#[rustfmt::skip]
pub const GPUS: [Gpu; 22] = [
    gpu("p4",             61,   7.4,  192.0, [ 5.5,   0.0,   22.0], "data sheet"),
    gpu("p40",            61,  22.3,  346.0, [11.76,  0.0,   47.0], "data sheet; fp32: 3840 cores at 1531 MHz"),
    gpu("gtx-1080-ti",    61,  10.9,  484.0, [11.34,  0.0,   45.4], "3584 cores at 1582 MHz; int8: four a multiply-add"),
    gpu("v100-16",        70,  15.7,  900.0, [15.7, 125.0,   62.8], "data sheet, SXM2; int8: four a multiply-add"),
    gpu("v100-32",        70,  31.7,  900.0, [15.7, 125.0,   62.8], "data sheet, SXM2; int8: four a multiply-add"),
    gpu("t4",             75,  14.5,  320.0, [ 8.1,  65.0,  130.0], "data sheet"),
    gpu("rtx-2080-ti",    75,  10.7,  616.0, [13.4,  53.8,  215.2], "Turing white paper, reference clock"),
    gpu("a100-40",        80,  39.3, 1555.0, [19.5, 312.0,  624.0], "data sheet"),
    gpu("a100-80",        80,  79.1, 2039.0, [19.5, 312.0,  624.0], "data sheet, SXM"),
    gpu("a10",            86,  21.9,  600.0, [31.2, 125.0,  250.0], "data sheet"),
    gpu("rtx-3060",       86,  11.7,  360.0, [12.7,  25.5,  101.9], "28 multiprocessors at 1777 MHz"),
    gpu("rtx-3090",       86,  23.6,  936.0, [35.6,  71.0,  284.0], "GA102 white paper"),
    // The Super modes of JetPack 6.2, the fastest that there are.
    gpu("orin-nano-8",    87,   7.4,  102.0, [ 2.1,  16.7,   33.4], "8 multiprocessors at 1020 MHz"),
    gpu("orin-nx-16",     87,  15.2,  102.4, [ 2.4,  19.2,   38.4], "8 multiprocessors at 1173 MHz"),
    gpu("agx-orin-64",    87,  61.3,  204.8, [ 5.3,  42.6,   85.2], "16 multiprocessors at 1300 MHz"),
    gpu("rtx-4060-ti-16", 89,  15.6,  288.0, [22.1,  44.1,  176.5], "34 multiprocessors at 2535 MHz"),
    gpu("rtx-4090",       89,  23.5, 1008.0, [82.6, 165.2,  660.6], "Ada white paper"),
    gpu("l4",             89,  21.9,  300.0, [30.3, 121.0,  242.0], "data sheet"),
    gpu("l40s",           89,  44.3,  864.0, [91.6, 362.0,  733.0], "data sheet"),
    gpu("h100-pcie",      90,  79.1, 2000.0, [51.2, 756.0, 1513.0], "data sheet"),
    gpu("h100-sxm",       90,  79.1, 3350.0, [67.0, 989.0, 1979.0], "data sheet"),
    gpu("h200",           90, 139.7, 4800.0, [67.0, 989.0, 1979.0], "data sheet, SXM"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use Dtype::{F16, F32};

    fn roofs(name: &str, dtype: Dtype, library: bool) -> Roofs {
        Gpu::named(name).unwrap().roofs(dtype, library)
    }

    fn flops(name: &str, dtype: Dtype, library: bool) -> f64 {
        roofs(name, dtype, library).linear / 1e12
    }

    #[test]
    fn integers_have_rates_of_their_own() {
        // int4 is widened and multiplied like fp16. int8 runs by dp4a at four times fp32, or on tensor cores.
        let rates = |name, dtype| {
            let Roofs { widened, integers, .. } = roofs(name, dtype, false);
            [widened / 1e12, integers / 1e12]
        };
        assert_eq!(rates("p40", F16), [11.76, 47.0]);
        assert_eq!(rates("v100-16", F16), [15.7, 62.8]);
        assert_eq!((rates("t4", F16), rates("t4", F32)), ([65.0, 130.0], [8.1, 130.0]));
        assert_eq!(rates("h200", F16), [989.0, 1979.0]);
        // cuBLAS affects neither integer products nor attention.
        let (own, library) = (roofs("v100-16", F16, false), roofs("v100-16", F16, true));
        assert_eq!(Roofs { linear: own.linear, ..library }, own);
    }

    #[test]
    fn the_format_chooses_the_arithmetic() {
        // fp16 is only a storage format on Pascal, with cuBLAS too.
        assert_eq!([flops("p40", F16, false), flops("p40", F16, true)], [11.76, 11.76]);
        assert_eq!([flops("t4", F16, false), flops("t4", F32, false)], [65.0, 8.1]);
        assert_eq!([flops("h200", F16, false), flops("h200", F32, false)], [989.0, 67.0]);
        // This crate has no kernels for Volta's tensor cores; cuBLAS has.
        assert_eq!([flops("v100-16", F16, false), flops("v100-16", F16, true)], [15.7, 125.0]);
        assert_eq!(flops("v100-16", F32, true), 15.7);
    }

    #[test]
    fn names_are_their_own() {
        for gpu in &GPUS {
            assert_eq!(Gpu::named(gpu.name), Some(gpu));
            let same = |other: &&Gpu| plain(other.name) == plain(gpu.name);
            assert_eq!(GPUS.iter().filter(same).count(), 1);
            assert!(
                gpu.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
        }
        assert_eq!(Gpu::named("NVIDIA Tesla P40"), Gpu::named("p40"));
        for other in ["", "nvidia", "p41", "p4 0x", "v100", "RTX 4060 Ti", "a100-16"] {
            assert_eq!(Gpu::named(other), None, "{other}");
        }
    }

    /// Guards against typing errors in the table: the rates must have the ratios of their generation.
    #[test]
    fn rates_agree_with_each_other() {
        for gpu in &GPUS {
            let Gpu { name, capability, bandwidth, fp32, fp16, int8, .. } = *gpu;
            // The oldest architecture that has kernels.
            assert!(capability >= 61, "{name}");
            assert_eq!(fp16.is_some(), capability >= 70, "{name}");
            let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.03;
            match fp16 {
                // dp4a does four products in the time of one fp32 multiply-add.
                _ if capability < 75 => assert!(near(int8, 4.0 * fp32), "{name}"),
                // Tensor cores are twice as fast with 8 bits as with fp16, and four times where fp32 sums halve the
                // rate.
                Some(fp16) if name.starts_with("rtx") => assert!(near(int8, 4.0 * fp16), "{name}"),
                Some(fp16) => assert!(near(int8, 2.0 * fp16), "{name}"),
                None => unreachable!("all cards from 7.0 on have tensor cores"),
            }
            let ridge = gpu.roofs(F16, false).linear / bandwidth;
            assert!((10.0..450.0).contains(&ridge), "{name}: {ridge}");
            assert!(gpu.usable() > 4 << 30 && gpu.usable() < gpu.memory, "{name}");
        }
    }

    #[test]
    fn a_shared_memory_leaves_less() {
        let usable = |name| Gpu::named(name).unwrap().usable();
        assert_eq!(usable("t4"), (14 << 30) + (512 << 20) - CONTEXT);
        assert_eq!(usable("orin-nx-16"), (15.2 * 1073741824.0) as usize - CONTEXT - SYSTEM);
    }
}

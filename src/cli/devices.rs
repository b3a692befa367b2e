//! `hired devices`: what this machine can run on.

use super::Stop;
use super::args::DevicesArgs;
use super::output::{print, print_json};
use serde::Serialize;

/// Why there is no CUDA device in the list.
const NO_CUDA: &str = "this build has no CUDA code";

/// The CPU as this program sees it.
#[derive(Debug, Serialize)]
pub struct Cpu {
    name: String,
    /// Threads that run at once.
    cores: usize,
    /// Instruction sets the machine has and the matrix products can use.
    instruction_sets: Vec<&'static str>,
}

impl Cpu {
    /// This machine's.
    pub fn here() -> Self {
        Self {
            name: name().unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            instruction_sets: instruction_sets(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Devices {
    schema: u32,
    /// `sm_NN` and `compute_NN` of embedded CUDA code.
    code: Vec<String>,
    cuda: &'static str,
    devices: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    kind: &'static str,
    #[serde(flatten)]
    cpu: Cpu,
}

pub fn devices(args: &DevicesArgs) -> Result<(), Stop> {
    let cpu = Cpu::here();
    if args.json {
        let devices = vec![Listed { kind: "cpu", cpu }];
        return print_json(&Devices { schema: 1, code: Vec::new(), cuda: NO_CUDA, devices });
    }
    let threads = if cpu.cores == 1 { "1 thread".into() } else { format!("{} threads", cpu.cores) };
    let sets = cpu.instruction_sets.join(" ");
    print(&format!("cpu   {}, {threads}, {sets}\ncuda  {NO_CUDA}\n", cpu.name))
}

/// The processor's name, where Linux tells it.
fn name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
    let sets = [
        ("sse2", true),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    sets.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<&'static str> {
    let fp16 = std::arch::is_aarch64_feature_detected!("fp16");
    std::iter::once("neon").chain(fp16.then_some("fp16")).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}

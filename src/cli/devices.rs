//! `hired devices`: shows the devices that this machine offers.

use super::Stop;
use super::output::{print, print_json};
use clap::Args;
use serde::Serialize;

#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print the devices as JSON
    #[arg(long)]
    pub json: bool,
}

/// The CPU of this machine.
#[derive(Debug, Serialize)]
pub struct Cpu {
    pub name: String,
    /// Number of threads that can run at the same time.
    cores: usize,
    /// Instruction sets that the CPU has and the matrix products can use.
    instruction_sets: Vec<&'static str>,
}

impl Cpu {
    /// Describes this machine's CPU.
    pub fn here() -> Self {
        Self {
            name: name().unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            instruction_sets: instruction_sets(),
        }
    }
}

/// CUDA support of this build and this machine.
#[derive(Debug, Default, Serialize)]
struct Cuda {
    /// `sm_NN` for each embedded machine code and `compute_NN` for each embedded PTX.
    code: Vec<String>,
    /// The device that --device auto uses, or why it uses the CPU.
    cuda: String,
    #[serde(skip)]
    devices: Vec<Card>,
}

#[derive(Debug, Serialize)]
struct Card {
    kind: &'static str,
    ordinal: usize,
    name: String,
    /// Compute capability as major · 10 + minor: 61 is 6.1.
    compute_capability: u32,
    /// Memory in bytes.
    memory: usize,
    /// The embedded code that the device would run.
    code: Option<String>,
    /// The reason why the device cannot be used.
    why: Option<String>,
}

#[derive(Debug, Serialize)]
struct Devices {
    schema: u32,
    #[serde(flatten)]
    cuda: Cuda,
    devices: Vec<Listed>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Listed {
    Cpu {
        kind: &'static str,
        #[serde(flatten)]
        cpu: Cpu,
    },
    Card(Card),
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Cuda {
    Cuda {
        cuda: "this build has no CUDA code: build with the feature cuda".into(),
        ..Cuda::default()
    }
}

/// `sm_NN` for each embedded machine code and `compute_NN` for each embedded PTX.
#[cfg(feature = "cuda")]
pub fn embedded_code() -> Vec<String> {
    let embedded = hired::ops::cuda::Embedded::here();
    (embedded.cubins.iter().map(|arch| format!("sm_{arch}")))
        .chain(embedded.ptx.iter().map(|arch| format!("compute_{arch}")))
        .collect()
}

#[cfg(feature = "cuda")]
fn cuda() -> Cuda {
    use hired::ops::cuda::{Device, Driver};
    let code = embedded_code();
    let found = Driver::open().and_then(|driver| driver.devices());
    let (cuda, devices) = match found {
        Err(error) => (error.to_string(), Vec::new()),
        Ok(_) if code.is_empty() => {
            ("this build has no CUDA code: no nvcc was found when it was built".into(), Vec::new())
        }
        Ok(devices) => match devices.iter().find(|device| device.code.is_ok()) {
            Some(first) => (format!("--device auto uses cuda:{}", first.ordinal), devices),
            None => {
                ("no device has code in this build; --device auto uses the CPU".into(), devices)
            }
        },
    };
    let card = |device: Device| {
        let (code, why) = match device.code {
            Ok(code) => (Some(code.to_string()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let Device { ordinal, name, capability, memory, .. } = device;
        let compute_capability = capability;
        Card { kind: "cuda", ordinal, name, compute_capability, memory, code, why }
    };
    Cuda { code, cuda, devices: devices.into_iter().map(card).collect() }
}

pub fn devices(args: &DevicesArgs) -> Result<(), Stop> {
    let cpu = Cpu::here();
    let mut cuda = cuda();
    let cards = std::mem::take(&mut cuda.devices);
    if args.json {
        let cpu = Listed::Cpu { kind: "cpu", cpu };
        let devices = std::iter::once(cpu).chain(cards.into_iter().map(Listed::Card)).collect();
        return print_json(&Devices { schema: 1, cuda, devices });
    }
    let threads = if cpu.cores == 1 { "1 thread".into() } else { format!("{} threads", cpu.cores) };
    let sets = cpu.instruction_sets.join(" ");
    let mut text = format!("cpu     {}, {threads}, {sets}\n", cpu.name);
    for card in &cards {
        let Card { ordinal, name, compute_capability: capability, memory, .. } = card;
        let (major, minor) = (capability / 10, capability % 10);
        let gib = *memory as f64 / (1u64 << 30) as f64;
        let runs = card.code.as_deref().or(card.why.as_deref()).unwrap_or_default();
        text += &format!("cuda:{ordinal}  {name}, {major}.{minor}, {gib:.1} GiB, {runs}\n");
    }
    text += &format!("cuda    {}\n", cuda.cuda);
    if !cuda.code.is_empty() {
        text += &format!("code    {}\n", cuda.code.join(" "));
    }
    print(&text)
}

/// The processor's name, if Linux reports it.
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

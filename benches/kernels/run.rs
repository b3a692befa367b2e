//! Times every case on a device and prints a table.

use super::cases::{Case, Model, SEVEN, SMALL, cases};
use super::data::Data;
use hired::format::Dtype;
use hired::ops::MemoryOps;
use hired::ops::clock::Stage;
use hired::ops::cost::{Cost, Kind, Roof};
use hired::ops::count::Counter;
use hired::ops::cuda::Gemm;
use hired::ops::cuda::{Cuda, Options, Timing};
use hired::ops::memory::Purpose;
use hired::{Error, Result};
use std::time::Duration;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub dtype: Dtype,
    /// Everything small: whether it runs, not how fast.
    pub small: bool,
}

const REPETITIONS: usize = 15;

/// Shape of the product that shows what the library can do.
const LARGE: usize = 8192;

/// What was measured of a case.
struct Measured {
    cost: Cost,
    timing: Timing,
}

/// A device and how it is used.
struct Bench<'a> {
    cuda: Cuda,
    data: &'a Data,
    repetitions: usize,
    flushed: usize,
}

impl Bench<'_> {
    fn measure(&mut self, case: &Case) -> Result<Measured> {
        let mut counter = Counter::new(self.cuda.footprint());
        let mut held = case.prepare(&mut counter, self.data)?;
        let before = cost(&counter);
        case.work(&mut counter, &mut held)?;
        let after = cost(&counter);
        let meter = counter.meter();
        let (weights, workspace) = (meter.most(Purpose::Weights), meter.most(Purpose::Workspace));
        let cost = Cost { flops: after.flops - before.flops, bytes: after.bytes - before.bytes };

        let cuda = &mut self.cuda;
        cuda.reserve(Purpose::Workspace, 0)?;
        cuda.reserve(Purpose::Weights, weights)?;
        cuda.reserve(Purpose::Workspace, workspace.max(1))?;
        let mut held = case.prepare(cuda, self.data)?;
        let timing =
            cuda.time(self.repetitions, self.flushed, |cuda| case.work(cuda, &mut held))?;
        Ok(Measured { cost, timing })
    }
}

fn cost(counter: &Counter) -> Cost {
    let mut all = Cost::default();
    for kind in [Kind::Linear, Kind::Attention, Kind::Scores, Kind::Other] {
        all += counter.cost(Stage::Idle, kind);
    }
    all
}

/// Measures and prints.
///
/// # Errors
/// When there is no device, or it refuses.
pub fn run(asked: Asked) -> Result<()> {
    let Asked { dtype, small } = asked;
    let open =
        |gemm| Cuda::open(Options { ordinal: None, formats: dtype.into(), graphs: false, gemm });
    let data = Data::new().map_err(|e| Error::Device(format!("a folder for tensors: {e}")))?;
    let model = if small { SMALL } else { SEVEN };
    let (repetitions, flushed) = if small { (2, 1 << 12) } else { (REPETITIONS, 512 << 20) };
    let bench = |cuda| Bench { cuda, data: &data, repetitions, flushed };
    let mut own = bench(open(Gemm::Own)?);
    let mut library = match dtype {
        Dtype::F16 => open(Gemm::Cublas).map(bench).map_err(|e| e.to_string()),
        _ => Err("f32 is made by own kernels only".into()),
    };

    let card = own.cuda.description();
    println!("{}, {}, {}", card.name, card.code, dtype.name());
    let ceilings = ceilings(&mut own, library.as_mut().ok(), small)?;
    match &library {
        Ok(_) => {}
        Err(why) => println!("no cuBLAS: {why}"),
    }
    println!();
    println!("| operation | shape | kernels | µs | GB/s | TFLOP/s | share | cuBLAS µs |");
    println!("|---|---|---|---:|---:|---:|---:|---:|");
    for case in cases(model) {
        let Measured { cost, timing } = own.measure(&case)?;
        let time = timing.median();
        let other = match &mut library {
            Ok(library) if case.multiplies && case.rows() > hired::ops::DECODE_ROWS => {
                Some(library.measure(&case)?.timing.median())
            }
            _ => None,
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            case.name,
            case.shape,
            names(&timing.kernels),
            micros(time),
            rate(cost.bytes, time, 1e9, 0),
            rate(cost.flops, time, 1e12, 2),
            share(&ceilings, cost, time),
            other.map(micros).unwrap_or_default(),
        );
    }
    println!();
    println!(
        "Medians of {repetitions} by the device's events, after writing {flushed} bytes each time, so that caches are \
         cold. GB/s and TFLOP/s: what must be read and written once, and computed. Share: of the time that the measured \
         ceilings allow for it, the longer of the two."
    );
    Ok(())
}

/// How near the measured ceilings a piece of work comes.
fn share(ceilings: &Roof, cost: Cost, time: Duration) -> String {
    match ceilings.time(cost) {
        0.0 => String::new(),
        least => format!("{:.0}%", 100.0 * least / time.as_secs_f64().max(1e-9)),
    }
}

/// What the device can do at most, as measured.
fn ceilings<'a>(own: &mut Bench<'a>, library: Option<&mut Bench<'a>>, small: bool) -> Result<Roof> {
    let (bytes, edge) = if small { (1 << 16, 64) } else { (1 << 30, LARGE) };
    let copy = own.cuda.time_copy(own.repetitions, bytes)?.median();
    let bandwidth = 2.0 * bytes as f64 / copy.as_secs_f64().max(1e-9);
    println!("copy on the device: {:.0} GB/s, read and written ({bytes} bytes)", bandwidth / 1e9);
    let product = Case::product(edge, edge, edge);
    let mut best = 0.0f64;
    let benches = [Some(("own kernels", own)), library.map(|l| ("cuBLAS", l))];
    for (name, bench) in benches.into_iter().flatten() {
        let Measured { cost, timing } = bench.measure(&product)?;
        let rate = cost.flops as f64 / timing.median().as_secs_f64().max(1e-9);
        println!("{edge} × {edge} → {edge} by {name}: {:.1} TFLOP/s", rate / 1e12);
        best = best.max(rate);
    }
    Ok(Roof { flops: best, bandwidth })
}

/// Each kernel once, with how often.
fn names(kernels: &[String]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for kernel in kernels {
        match counted.iter_mut().find(|(name, _)| name == kernel) {
            Some((_, count)) => *count += 1,
            None => counted.push((kernel, 1)),
        }
    }
    let names = counted.iter().map(|(name, count)| match count {
        1 => format!("`{name}`"),
        count => format!("{count} × `{name}`"),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 100.0 { format!("{micros:.1}") } else { format!("{micros:.0}") }
}

fn rate(amount: u64, time: Duration, unit: f64, digits: usize) -> String {
    match amount {
        0 => String::new(),
        amount => format!("{:.digits$}", amount as f64 / time.as_secs_f64().max(1e-9) / unit),
    }
}

/// The names of all operations, in the order of the table.
#[allow(dead_code)] // for the test that looks for their lines
pub fn names_of(model: Model) -> Vec<(String, String)> {
    cases(model).into_iter().map(|case| (case.name, case.shape)).collect()
}

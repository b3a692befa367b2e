//! Options for the device and the number formats.

use super::args::heading;
use super::idle::Given;
use super::values::{self, NumberFormat};
use clap::Args;
use hired::engine::{Device, Dtype, EngineOptions, Gemm};
use hired::image::Resample;
use hired::quant::{Quantization, Scope};

/// Options for the device and the number formats.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::DEVICE)]
pub struct DeviceArgs {
    /// Device: auto (the first CUDA device that works, otherwise the CPU), cpu, cuda or cuda:N
    #[arg(short, long, value_name = "D", default_value = "auto", value_parser = values::device)]
    device: Device,
    /// Number format. f16 and f32: on CUDA the format of weights, KV cache and activations [default: f16], on the CPU
    /// of the KV cache only [default: f32]. q8 (int8 weights and activations) and q4 (int4 weights) quantise the
    /// weights while they load; the other formats keep their defaults
    #[arg(long, value_name = "T", value_parser = values::one_of(&values::FORMATS))]
    pub dtype: Option<NumberFormat>,
    /// Weights per group that share a scale with --dtype q4 [default: 128]
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = values::one_of(&values::GROUPS))]
    group: Option<usize>,
    /// Layers that --dtype q8 and q4 quantise. llm: linear layers of the decoder; all: also the projector, the logits
    /// head and, with q8, the vision tower [default: llm]
    #[arg(hide_short_help = true, long, value_name = "WHAT", value_parser = values::one_of(&values::SCOPES))]
    quantize: Option<Scope>,
    /// Format of the KV cache and, on CUDA, of the activations with integer weights; f32 is the parity mode [default:
    /// f16 on CUDA, f32 on the CPU]
    #[arg(hide_short_help = true, long, value_name = "T", value_parser = values::one_of(&values::ACTIVATIONS))]
    activations: Option<Dtype>,
    /// Bicubic resampling to reproduce; pillow is version 13 or newer [default: pillow; torchvision for InternVL
    /// folders that name a Fast image processor]
    #[arg(hide_short_help = true, long, value_name = "NAME", value_parser = values::one_of(&RESAMPLE))]
    pub resample: Option<Resample>,
    /// Backend for large matrix multiplications on CUDA: own kernels, cublas, or auto (cuBLAS in f16 on GPUs with
    /// tensor cores where it is installed and passes a self-test, otherwise own)
    #[arg(hide_short_help = true, long, value_name = "WHO", default_value = "auto", value_parser = values::one_of(&GEMM))]
    gemm: Gemm,
    /// Launch the kernels of each CUDA decode step individually, for a profiler, instead of as a CUDA graph
    #[arg(hide_short_help = true, long)]
    no_graph: bool,
    /// CPU threads [default: RAYON_NUM_THREADS, otherwise one per core]
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = values::threads)]
    pub threads: Option<usize>,
    /// Read the weights into memory instead of memory-mapping their files. This needs the memory, but other programs
    /// can then modify the files without harm
    #[arg(hide_short_help = true, long)]
    no_mmap: bool,
    /// Refuse images of more than N pixels [default and largest value: 178956970, as in Pillow]
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = values::count)]
    pub max_pixels: Option<usize>,
}

const GEMM: [(&str, Gemm); 3] =
    [("auto", Gemm::Auto), ("own", Gemm::Own), ("cublas", Gemm::Cublas)];

const RESAMPLE: [(&str, Resample); 3] = [
    ("pillow", Resample::Pillow),
    ("pillow-12", Resample::Pillow12),
    ("torchvision", Resample::Torchvision),
];

impl DeviceArgs {
    /// Name of the number format, once it is known whether a GPU is used.
    pub fn dtype_name(&self, gpu: bool) -> &'static str {
        match self.dtype {
            Some(dtype) => dtype.name(),
            None => self.activations.unwrap_or(if gpu { Dtype::F16 } else { Dtype::F32 }).name(),
        }
    }

    /// Notes about options for integer formats that have no effect.
    pub fn idle(&self, given: &Given<'_>) -> Vec<String> {
        match self.dtype {
            Some(NumberFormat::Q4) => Vec::new(),
            Some(NumberFormat::Q8) => {
                given.these(&["group"], "--dtype q8 has one scale for each row")
            }
            Some(NumberFormat::Float(_)) => [
                given.these(&["group", "quantize"], "they are for --dtype q8 and q4"),
                given.these(&["activations"], "--dtype f16 and f32 set this format too"),
            ]
            .concat(),
            None => given.these(&["group", "quantize"], "they are for --dtype q8 and q4"),
        }
    }

    /// The options of the engine.
    pub fn options(&self) -> EngineOptions {
        self.options_in(self.dtype)
    }

    /// The options of the engine with another number format.
    pub fn options_in(&self, dtype: Option<NumberFormat>) -> EngineOptions {
        EngineOptions::default()
            .with_device(self.device)
            .with_dtype(match dtype {
                Some(NumberFormat::Float(dtype)) => Some(dtype),
                _ => self.activations,
            })
            .with_quantization(dtype.and_then(|dtype| {
                let scheme = dtype.scheme(self.group)?;
                Some(Quantization { scheme, scope: self.quantize.unwrap_or(Scope::Llm) })
            }))
            .with_resample(self.resample)
            .with_no_graph(self.no_graph)
            .with_gemm(self.gemm)
            .with_no_mmap(self.no_mmap)
            .with_max_pixels(self.max_pixels)
    }
}

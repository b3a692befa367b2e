use super::*;
use std::ptr::{null, null_mut};

fn norm(rows: u32, cols: u32, x: usize) -> NormParams {
    NormParams {
        x: x as *const _,
        out: null_mut(),
        weight: null(),
        bias: null(),
        rows,
        cols,
        inverse_cols: 1.0 / cols as f32,
        eps: 1e-5,
    }
}

fn launch(file: &'static str, kernel: &str, rows: u32, block: u32) -> Launch {
    let (kernel, grid) = (kernel.to_owned(), [rows, 1, 1]);
    Launch { file, kernel, grid, block, shared: 0, cost: Default::default() }
}

#[test]
fn a_broken_precondition_is_named() {
    let check = |kernel, rows, block, params: NormParams| {
        params.check(&launch("norm", kernel, rows, block))
    };
    assert_eq!(check("rms_norm_vector_f16", 3, 256, norm(3, 4096, 16)), None);
    assert_eq!(check("rms_norm_guarded_f16", 3, 256, norm(3, 4097, 8)), None);
    for (wrong, text) in [
        (check("rms_norm_vector_f16", 4, 256, norm(3, 4096, 16)), "a block for each row"),
        (check("rms_norm_vector_f16", 3, 250, norm(3, 4000, 16)), "whole warps"),
        (check("rms_norm_vector_f16", 3, 256, norm(3, 4096, 8)), "multiples of 16"),
        (check("rms_norm_vector_f16", 3, 256, norm(3, 4092, 16)), "whole vectors"),
        (check("rms_norm_vector_f16", 3, 32, norm(3, 4096, 16)), "HIRED_NORM_KEPT"),
        (check("rms_norm_vector_f16", 3, 0, norm(3, 4096, 16)), "1 to 1024 threads"),
    ] {
        assert!(wrong.is_some_and(|wrong| wrong.contains(text)), "{wrong:?}: {text}");
    }
}

#[test]
fn a_kernel_with_other_parameters_is_refused() {
    for (file, kernel) in [("rope", "rms_norm_vector_f16"), ("norm", "gather_vector")] {
        let wrong = norm(3, 4096, 16).check(&launch(file, kernel, 3, 256));
        assert_eq!(wrong, Some("the kernel takes other parameters"));
    }
}

/// Every file exists in `kernels/`, and every prefix matches a kernel that was compiled.
#[test]
fn files_and_names_are_those_of_the_kernels() {
    fn of<P: KernelParams>(_: Option<P>) -> (&'static [&'static str], &'static [&'static str]) {
        (P::FILES, P::KERNELS)
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let compiled = std::fs::read_to_string(root.join("resources.txt")).unwrap();
    let all = [
        of(None::<NormParams>),
        of(None::<PatchesParams>),
        of(None::<TokensParams>),
        of(None::<GatherParams>),
        of(None::<InterleaveParams>),
        of(None::<RopeAppendParams>),
        of(None::<ActivationParams>),
        of(None::<ScaledAddParams>),
        of(None::<ConvolveParams>),
        of(None::<SiluMulParams>),
        of(None::<GemmParams>),
        of(None::<GemvParams>),
        of(None::<CountedQuantizeParams>),
        of(None::<ScaledGemmParams>),
        of(None::<ScaledGemvParams>),
        of(None::<CodedGemvParams>),
        of(None::<VisionAttentionParams>),
        of(None::<PrefillParams>),
        of(None::<CodedDecodeParams>),
        of(None::<ClsScoresParams>),
        of(None::<ReceivedParams>),
        of(None::<LastRowParams>),
        of(None::<RetainParams>),
        of(None::<UnitRowsParams>),
        of(None::<ClassAttentionParams>),
        of(None::<MixRowsParams>),
        of(None::<SelectMergedParams>),
        of(None::<SpreadParams>),
        of(None::<CoverParams>),
        of(None::<SampleGreedyParams>),
        of(None::<SampleDrawParams>),
        of(None::<SynthParams>),
    ];
    for (files, kernels) in all {
        for file in files {
            assert!(root.join(format!("{file}.cu")).exists(), "{file}");
        }
        for kernel in kernels {
            assert!(compiled.lines().any(|line| line.starts_with(kernel)), "{kernel}");
        }
    }
}

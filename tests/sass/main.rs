//! Facts about machine code on which the speed of a kernel rests, where they are the point of how it is written.
//!
//! Without nvcc the tests say so and pass, with `CI=true` they fail.

#![cfg(feature = "cuda")]

mod facts;
#[path = "../support/machine_code.rs"]
mod machine_code;

use std::path::Path;

use facts::{FACTS, Fact, GEMV_MMA, before_loads, loads_are_wide};
use machine_code::{Instruction, bank_conflicts, count, instruction, loops, made, main_loop, nvcc};

#[test]
fn main_loops_are_what_they_were_written_to_be() {
    let Some((nvcc, _)) = nvcc() else { return };
    let mut found = Vec::new();
    let mut files: Vec<_> = FACTS.iter().map(|fact| fact.file).collect();
    files.dedup();
    for cubin in files.iter().flat_map(|file| made(".cubin").into_iter().map(move |c| (file, c))) {
        let (file, path) = cubin;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let facts = |fact: &&Fact| {
            let is_of = |a: &u32| name == format!("{file}.sm_{a}.cubin");
            fact.file == *file && fact.architectures.iter().any(is_of)
        };
        if FACTS.iter().find(facts).is_none() {
            continue;
        }
        let code = machine_code::read(nvcc, &path);
        for fact in FACTS.iter().filter(facts) {
            for kernel in fact.kernels {
                match code.get(*kernel).and_then(|code| main_loop(code, fact.work)) {
                    None => found.push(format!("{kernel}, {name}: has no loop with {}", fact.work)),
                    Some(body) if !(fact.holds)(body) => {
                        let words: Vec<_> = body.iter().map(|i| i.word.as_str()).collect();
                        found.push(format!("{kernel}, {name}: not so: {}\n{words:?}", fact.what));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// With a norm and without one: of 4 KB of weights for each warp a half or more is under way, and instructions are no
/// limit. (An H200's memory takes 97 clocks for 2 KB; in that time its four schedulers issue 388.)
#[test]
fn few_rows_on_tensor_cores_wait_for_memory_alone() {
    let Some((nvcc, _)) = nvcc() else { return };
    for architecture in [75, 80, 86, 89, 90] {
        let (mma, products) = if architecture < 80 { ("HMMA.1688", 16) } else { ("HMMA.16816", 8) };
        let cubin = made(&format!("gemv_mma.sm_{architecture}.cubin")).into_iter().next();
        let code = machine_code::read(nvcc, &cubin.expect("every kernel is made"));
        for kernel in GEMV_MMA {
            let what = format!("{kernel}, sm_{architecture}");
            let code = &code[kernel];
            let mut lengths: Vec<_> = loops(code, "HMMA").iter().map(|body| body.len()).collect();
            lengths.sort();
            assert!(matches!(lengths[..], [0..=110, 0..=260]), "{what}: {lengths:?} instructions");
            for body in loops(code, "HMMA") {
                let words: Vec<_> = body.iter().map(|i| i.word.as_str()).collect();
                assert_eq!(count(body, mma), products, "{what}: {words:?}");
                // Weights go past L1. 512 bytes each.
                assert_eq!(count(body, "LDG.E.NA.128"), 8, "{what}: {words:?}");
            }
            for body in loops(code, "LDG") {
                assert!(loads_are_wide(body), "{what}: loads of less than 16 bytes");
            }
            // As much before each loop; the rest is for what is left behind it.
            assert_eq!(count(code, "LDG.E.NA.128"), 2 * (8 + 8 + 4), "{what}");
        }
    }
}

/// Attention has several loops: what it multiplies and what it reads is counted over all of them.
#[test]
fn attention_multiplies_more_than_it_reads() {
    let Some((nvcc, _)) = nvcc() else { return };
    let mut seen = 0;
    for (architecture, variant, multiply, read, ratio) in [
        (61, "_fma", "FFMA", "LDS", 8),
        (75, "_mma", "HMMA", "LDSM", 2),
        (80, "_mma", "HMMA", "LDSM", 2),
    ] {
        for file in ["attention_vision", "attention_prefill"] {
            let ending = format!("{file}.sm_{architecture}.cubin");
            let cubin = made(&ending).into_iter().next().expect("every kernel is made");
            for (kernel, code) in machine_code::read(nvcc, &cubin) {
                if kernel.contains(variant) {
                    let (multiplied, reads) = (count(&code, multiply), count(&code, read));
                    assert!(
                        reads > 0 && multiplied >= ratio * reads,
                        "{kernel}: {multiplied}, {reads}"
                    );
                    seen += 1;
                }
            }
        }
    }
    assert_eq!(seen, 2 * (4 + 2 + 2));
}

/// The kernels of one attention file for one architecture whose names hold `variant`.
fn attention(
    nvcc: &Path,
    file: &str,
    architecture: u32,
    variant: &str,
) -> Vec<(String, Vec<Instruction>)> {
    let cubin = made(&format!("{file}.sm_{architecture}.cubin"));
    let code = machine_code::read(nvcc, cubin.first().expect("every kernel is made"));
    code.into_iter().filter(|(kernel, _)| kernel.contains(variant)).collect()
}

/// As sums along rows every third FFMA and more had both factors in one bank.
#[test]
fn attention_reads_its_factors_from_different_banks() {
    let Some((nvcc, _)) = nvcc() else { return };
    let mut seen = 0;
    for file in ["attention_vision", "attention_prefill"] {
        for (kernel, code) in attention(nvcc, file, 61, "_fma") {
            let (conflicts, all) = (bank_conflicts(&code), count(&code, "FFMA"));
            println!("{kernel}: {conflicts} of {all} FFMA");
            assert!(6 * conflicts < all, "{kernel}: {conflicts} of {all} FFMA read a bank twice");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * 4);
}

/// What stands around the products of the loop that most tiles run, for each of them.
#[test]
fn attention_leaves_issue_slots_to_its_products() {
    let Some((nvcc, _)) = nvcc() else { return };
    let mut seen = 0;
    for (architecture, variant, bound) in [
        (75, "_mma64", 3.2),
        (75, "_mma128", 2.0),
        (80, "_mma64", 4.5),
        (80, "_mma128", 3.5),
        (86, "_mma64", 4.5),
        (86, "_mma128", 3.5),
        (89, "_mma64", 4.5),
        (89, "_mma128", 3.5),
        (90, "_mma64", 4.5),
        (90, "_mma128", 3.5),
    ] {
        for file in ["attention_vision", "attention_prefill"] {
            for (kernel, code) in attention(nvcc, file, architecture, variant) {
                let body = main_loop(&code, "HMMA").expect("a loop with products");
                let products = count(body, "HMMA");
                let others = (body.len() - products) as f64 / products as f64;
                println!("{kernel}, sm_{architecture}: {products} HMMA, {others:.2} others each");
                assert!(others <= bound, "{kernel}, sm_{architecture}: {others:.2} > {bound}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 2 * 10);
}

/// Blocks of attention that fit on a multiprocessor by the committed table: two, with 128 columns three on the cards
/// that have no tensor cores for it.
#[test]
fn blocks_of_attention_fit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/resources.txt");
    let table = std::fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for line in table.lines() {
        let mut words = line.split_whitespace();
        let kernel = words.next().unwrap_or_default();
        // Column of the table, kilobytes of shared memory of a multiprocessor.
        let cards: &[(usize, u32)] = match kernel {
            k if k.contains("_fma") => &[(0, 96), (1, 96)],
            k if k.contains("_mma") => {
                &[(2, 64), (3, 164 - 2), (4, 100 - 2), (5, 100 - 2), (6, 228 - 2)]
            }
            _ => continue,
        };
        if !kernel.starts_with("attention_") {
            continue;
        }
        let blocks = if kernel.contains("_fma128") { 3 } else { 2 };
        let words: Vec<_> = words.collect();
        for &(column, room) in cards {
            let numbers: Vec<u32> = words[column].split('/').map(|n| n.parse().unwrap()).collect();
            let registers = blocks * 128 * numbers[0].next_multiple_of(8);
            assert!(registers <= 65536, "{kernel}, {column}: {} registers", numbers[0]);
            let shared = blocks * numbers[1];
            assert!(numbers[1] > 0 && shared <= room << 10, "{kernel}, {column}: {shared} bytes");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * (4 * 2 + 2 * 5));
}

/// A decode step waits for the memory's latency once: two rounds of keys are asked for before the first score is made,
/// and its loop over keys asks for the two rounds behind, the first values at last.
#[test]
fn decode_attention_loads_two_rounds_ahead() {
    let Some((nvcc, _)) = nvcc() else { return };
    // The merge's loads, which go past the first level of caches, have a loop of their own.
    let is_wide = |word: &str| word.starts_with("LDG.") && word.contains(".128");
    let is_fresh = |word: &str| word.contains(".CG") || word.contains(".STRONG");
    let wide = |code: &[Instruction]| {
        code.iter().filter(|i| is_wide(&i.word) && !is_fresh(&i.word)).count()
    };
    let mut seen = 0;
    for architecture in [61, 70, 75, 80, 86, 89, 90] {
        let ending = format!("attention_decode.sm_{architecture}.cubin");
        let cubin = made(&ending).into_iter().next().expect("every kernel is made");
        for (kernel, code) in machine_code::read(nvcc, &cubin) {
            if kernel.contains("guarded") {
                continue;
            }
            // 32 positions a round, or 16 of 512 bytes, between 128 threads.
            let rounds = if kernel.contains("vector64") && kernel.ends_with("f16") { 4 } else { 8 };
            let first = code.iter().position(|i| i.word.starts_with("SHFL.BFLY")).unwrap();
            assert_eq!(wide(&code[..first]), rounds, "{kernel}, sm_{architecture}: first keys");
            let loops = code.iter().enumerate().filter_map(|(end, branch)| {
                let target = branch.target.filter(|target| *target <= branch.address)?;
                let body = &code[code.iter().position(|i| i.address >= target)?..=end];
                (wide(body) > 0 && count(body, "SHFL.BFLY") > 0).then_some(body)
            });
            let keys = loops.min_by_key(|body| body.len()).expect("a loop over keys");
            assert_eq!(wide(keys), rounds, "{kernel}, sm_{architecture}: keys or values behind");
            seen += 1;
        }
    }
    assert_eq!(seen, 7 * 12);
}

/// Registers and shared memory of two blocks fit on a multiprocessor, by the committed table.
#[test]
fn two_blocks_of_a_matrix_product_fit() {
    /// Kilobytes of shared memory of a multiprocessor, and of them what each block costs besides its own.
    const SHARED: [(u32, u32, u32); 7] = [
        (61, 96, 0),
        (70, 96, 0),
        (75, 64, 0),
        (80, 164, 1),
        (86, 100, 1),
        (89, 100, 1),
        (90, 228, 1),
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/resources.txt");
    let table = std::fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for line in table.lines().filter(|line| line.starts_with("gemm_")) {
        let mut words = line.split_whitespace();
        let kernel = words.next().unwrap();
        let threads = if kernel.starts_with("gemm_fma_128x128") { 256 } else { 128 };
        for ((architecture, room, cost), word) in SHARED.iter().zip(words) {
            let numbers: Vec<u32> = word.split('/').map(|n| n.parse().unwrap()).collect();
            // Registers are given out to a warp in units of 256.
            let registers = numbers[0].next_multiple_of(8) * threads;
            // There ptxas wants one register too many for two, and would spill it.
            let one = *architecture == 70
                && kernel.starts_with("gemm_fma_128x128_")
                && kernel.ends_with("_f16");
            let most = if one && kernel != "gemm_fma_128x128_f16" { 65536 } else { 32768 };
            assert!(registers <= most, "{kernel}, sm_{architecture}: {} registers", numbers[0]);
            assert!(numbers[1] <= 48 << 10, "{kernel}: a block may not have {} bytes", numbers[1]);
            let shared = 2 * (numbers[1] + (cost << 10));
            assert!(shared <= room << 10, "{kernel}, sm_{architecture}: {shared} bytes");
            seen += 1;
        }
    }
    assert!(seen >= 14 * 7, "the table has lost kernels");
}

#[test]
fn loops_are_found_and_counted() {
    let code: Vec<_> = [
        "        /*0000*/                   FFMA R1, R2, R3, R4 ;   /* 0x1 */",
        "        /*0008*/                   LDS.U.128 R28, [R88+0x80] ;",
        "        /*0010*/  {         @P0 FFMA R1, R2, R3, R4  /* 0x1 */",
        "        /*0018*/                   LDG.E.128 R1, [R2] }",
        "        /*0020*/              @!P0 BRA 0x8 ;               /* 0x1 */",
        "        /*0028*/                   FFMA R1, R2, R3, R4 ;",
        "        /*0030*/               @P1 BRA 0x0 ;",
        "        /*0038*/                   BRA 0x48 ;",
    ]
    .iter()
    .map(|line| instruction(line).unwrap())
    .collect();
    assert_eq!(code[4].target, Some(8));
    let body = main_loop(&code, "LDS").unwrap();
    assert_eq!((body[0].address, body.len()), (8, 4));
    assert_eq!((count(body, "FFMA"), count(body, "LD")), (1, 2));
    assert!(loads_are_wide(body) && !loads_are_wide(&body[..2]));
    assert_eq!((before_loads(body, "FFMA"), before_loads(&body[..2], "FFMA")), (Some(1), None));
    assert_eq!(main_loop(&code, "HMMA"), None);
}

#[test]
fn bank_conflicts_are_counted() {
    let of = |lines: &[&str]| {
        let code: Vec<_> =
            lines.iter().map(|l| instruction(&format!("/*0000*/ {l} ;")).unwrap()).collect();
        bank_conflicts(&code)
    };
    assert_eq!(of(&["FFMA R1, R2, R3, R4"]), 0);
    assert_eq!(of(&["FFMA R1, R2, R6, R4"]), 1);
    assert_eq!(of(&["FFMA R1, -R2, |R3|, R7"]), 1);
    // The same register is read once, RZ and constants never.
    assert_eq!(of(&["FFMA R1, R2, R2, RZ", "@P0 FFMA R1, R4, c[0x0][0x4], R1"]), 0);
    // Kept for the same operand of the next instruction, and only of that.
    assert_eq!(of(&["FFMA R1, R2.reuse, R3, R4", "FFMA R5, R2, R6, R8"]), 0);
    assert_eq!(of(&["FFMA R1, R2.reuse, R3, R4", "FFMA R5, R6, R2, R8"]), 1);
    assert_eq!(of(&["FFMA R1, R2.reuse, R3, R4", "MOV R9, R3", "FFMA R5, R2, R6, R8"]), 1);
}

//! What the compiler says of each kernel, held against `kernels/resources.txt`; and what its code may not hold.
//!
//! `HIRED_UPDATE=1` writes the table anew. Without nvcc the tests say so and pass, with `CI=true` they fail.

#![cfg(feature = "cuda")]

#[path = "support/machine_code.rs"]
mod machine_code;

use machine_code::{instruction, made, nvcc};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Registers that a kernel may take beyond the table before somebody has to look.
const SLACK: u32 = 4;

/// What one kernel takes on one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Use {
    registers: u32,
    /// Bytes of static shared memory of a block.
    shared: u32,
    /// Bytes of stack of a thread.
    stack: u32,
    /// Bytes of registers stored to and loaded from memory for lack of room.
    spills: u32,
}

/// By kernel, then by architecture.
type Table = BTreeMap<String, BTreeMap<u32, Use>>;

/// Adds what `ptxas -v` wrote for one cubin.
fn read_log(log: &str, table: &mut Table) {
    let mut current = None;
    for line in log.lines() {
        let number = |before: &str| {
            let (left, _) = line.split_once(before)?;
            left.split(|c: char| !c.is_ascii_digit()).rfind(|word| !word.is_empty())?.parse().ok()
        };
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let mut words = rest.split('\'');
            let name = words.next().expect("a name").to_owned();
            let architecture = words.nth(1).and_then(|w| w.strip_prefix("sm_")?.parse().ok());
            current = Some((name, architecture.expect("an architecture")));
        } else if let Some((name, architecture)) = &current {
            let entry = table.entry(name.clone()).or_default().entry(*architecture).or_default();
            // Of a function that was not inlined, too: its stack and spills are the kernel's.
            entry.stack = entry.stack.max(number(" bytes stack frame").unwrap_or(0));
            entry.spills += number(" bytes spill stores").unwrap_or(0);
            entry.spills += number(" bytes spill loads").unwrap_or(0);
            entry.registers = entry.registers.max(number(" registers").unwrap_or(0));
            entry.shared = entry.shared.max(number(" bytes smem").unwrap_or(0));
        }
    }
}

/// A line for each kernel, `registers/shared/stack` for each architecture; spills are never right.
fn write_table(table: &Table, version: &str) -> String {
    let mut text = format!(
        "# Registers of a thread, bytes of shared memory of a block and of stack of a thread, by nvcc {version}.\n\
         # HIRED_UPDATE=1 cargo test --test resources writes this file.\n"
    );
    let architectures: Vec<u32> =
        table.values().next().map_or(Vec::new(), |uses| uses.keys().copied().collect());
    write!(text, "{:<32}", "kernel").unwrap();
    for architecture in &architectures {
        write!(text, "{:>12}", format!("sm_{architecture}")).unwrap();
    }
    text.push('\n');
    for (name, uses) in table {
        write!(text, "{name:<32}").unwrap();
        for Use { registers, shared, stack, .. } in uses.values() {
            write!(text, "{:>12}", format!("{registers}/{shared}/{stack}")).unwrap();
        }
        text.push('\n');
    }
    text
}

/// The table and the version of nvcc it is of.
fn read_table(text: &str) -> (Table, String) {
    let version = text.lines().next().and_then(|line| line.split("nvcc ").nth(1));
    let version = version.expect("a version of nvcc in the first line").trim_end_matches('.');
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let header = lines.next().unwrap_or_default().split_whitespace().skip(1);
    let architectures: Vec<u32> =
        header.map(|word| word.strip_prefix("sm_").unwrap().parse().unwrap()).collect();
    let mut table = Table::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a kernel").to_owned();
        let uses = words.map(|word| {
            let numbers: Vec<u32> = word.split('/').map(|n| n.parse().unwrap()).collect();
            Use { registers: numbers[0], shared: numbers[1], stack: numbers[2], spills: 0 }
        });
        table.insert(name, architectures.iter().copied().zip(uses).collect());
    }
    (table, version.to_owned())
}

/// What is wrong with `now`, in words; `before` is left out where another nvcc made it.
fn complaints(now: &Table, before: Option<&Table>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, uses) in now {
        for (architecture, now) in uses {
            let mut complain =
                |what: String| found.push(format!("{name}, sm_{architecture}: {what}"));
            if now.spills > 0 {
                complain(format!("{} bytes of registers are spilled", now.spills));
            }
            let Some(before) = before else { continue };
            match before.get(name).and_then(|uses| uses.get(architecture)) {
                None => complain("is not in the table".into()),
                Some(before) => {
                    if now.registers > before.registers + SLACK {
                        complain(format!("{} registers, were {}", now.registers, before.registers));
                    }
                    if now.shared != before.shared {
                        complain(format!("{} bytes shared, were {}", now.shared, before.shared));
                    }
                    if now.stack > before.stack {
                        complain(format!("{} bytes of stack, were {}", now.stack, before.stack));
                    }
                }
            }
        }
    }
    let gone = before.into_iter().flat_map(|b| b.keys()).filter(|name| !now.contains_key(*name));
    found.extend(gone.map(|name| format!("{name}: is in the table and nowhere else")));
    found
}

#[test]
fn no_kernel_spills_or_grows() {
    let Some((_, version)) = nvcc() else { return };
    let mut now = Table::new();
    for path in made(".cubin.log") {
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(!log.contains("warning"), "{}: {log}", path.display());
        read_log(&log, &mut now);
    }
    assert!(!now.is_empty());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/resources.txt");
    if std::env::var("HIRED_UPDATE").as_deref() == Ok("1") {
        std::fs::write(&path, write_table(&now, version)).unwrap();
    }
    let (before, of) = read_table(&std::fs::read_to_string(&path).unwrap());
    if of != version {
        eprintln!(
            "only spills are looked at: the table is of nvcc {of}, this build's is {version}"
        );
    }
    let found = complaints(&now, (of == version).then_some(&before));
    assert!(
        found.is_empty(),
        "{}\nif it is meant: HIRED_UPDATE=1 cargo test --test resources",
        found.join("\n")
    );
}

/// Arithmetic on fp16: runs at 1/64 of the fp32 rate on Pascal. Conversions (F2F) are not among it.
fn is_half_arithmetic(instruction: &str) -> bool {
    ["HADD", "HMUL", "HFMA", "HSET", "HMNMX"].iter().any(|word| instruction.starts_with(word))
}

#[test]
fn pascal_code_has_no_half_arithmetic_and_wide_loads_where_they_are_the_point() {
    let Some((nvcc, _)) = nvcc() else { return };
    let mut conversions = 0;
    for cubin in made(".sm_61.cubin") {
        for (kernel, code) in machine_code::read(nvcc, &cubin) {
            let code: Vec<_> = code.iter().map(|instruction| instruction.word.as_str()).collect();
            let half: Vec<_> = code.iter().filter(|word| is_half_arithmetic(word)).collect();
            assert!(half.is_empty(), "{kernel}: {half:?}");
            conversions += code.iter().filter(|word| word.starts_with("F2F")).count();
            if kernel.contains("_vector") && !kernel.starts_with("patches") {
                let wide =
                    code.iter().filter(|word| word.starts_with("LDG.E") && word.ends_with(".128"));
                assert!(wide.count() > 0, "{kernel} has no load of 128 bits: {code:?}");
            }
        }
    }
    assert!(conversions > 0, "no kernel converts fp16: the listing was not read");
}

#[test]
fn half_arithmetic_is_told_from_the_rest() {
    let line = |text| instruction(text).unwrap().word;
    assert_eq!(line("        /*0088*/  @!P0 LDG.E.128 R4, [R2] ;  /* 0xeed5 */"), "LDG.E.128");
    assert_eq!(line("        /*0a28*/                   EXIT;      /* 0xe3 */"), "EXIT");
    assert_eq!(line("        /*0a28*/  {         HADD2.F32 R1, R2, R3  /* 0xe3 */"), "HADD2.F32");
    assert!(instruction("                         /* 0x001fc400fe2007f6 */").is_none());
    assert!(is_half_arithmetic("HFMA2.MRG_H0_H0") && is_half_arithmetic("HADD2_32I"));
    assert!(!is_half_arithmetic("F2F.F32.F16") && !is_half_arithmetic("HMMA.1688.F32"));
}

#[test]
fn the_table_complains_of_what_it_is_there_for() {
    let log = |registers: u32, shared: u32, stack: u32, spill: u32| {
        format!(
            "ptxas info    : 0 bytes gmem\n\
             ptxas info    : Compiling entry function 'k' for 'sm_61'\n\
             ptxas info    : Function properties for k\n    \
             {stack} bytes stack frame, {spill} bytes spill stores, {spill} bytes spill loads\n\
             ptxas info    : Used {registers} registers, {shared} bytes smem, 368 bytes cmem[0]\n"
        )
    };
    let read = |log: &str| {
        let mut table = Table::new();
        read_log(log, &mut table);
        table
    };
    let before = read(&log(40, 128, 0, 0));
    let expected = Use { registers: 40, shared: 128, stack: 0, spills: 0 };
    assert_eq!(before["k"][&61], expected);
    let (again, version) = read_table(&write_table(&before, "11.8.89"));
    assert_eq!((&again, version.as_str()), (&before, "11.8.89"));
    let complain = |log: String| complaints(&read(&log), Some(&before)).join(" ");
    assert_eq!(complain(log(40 + SLACK, 128, 0, 0)), "");
    assert_eq!(complain(log(20, 128, 0, 0)), "");
    assert!(complain(log(41 + SLACK, 128, 0, 0)).contains("registers"));
    assert!(complain(log(40, 256, 0, 0)).contains("shared"));
    assert!(complain(log(40, 128, 8, 0)).contains("stack"));
    assert!(complain(log(40, 128, 0, 4)).contains("8 bytes of registers are spilled"));
    assert!(complaints(&read(&log(40, 128, 0, 4)), None).len() == 1);
    assert!(complaints(&before, Some(&Table::new())).len() == 1);
    assert!(complaints(&Table::new(), Some(&before)).len() == 1);
}

//! tools/gpu-check runs its steps in order, stops at its deadline with a complete report, takes up again, and is loud where
//! a step fails: with a pack of small programs in place of real ones, and no card.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;
use tempfile::TempDir;

/// Notes its call; as `hired devices` names a card; else sleeps, says or fails as it is told.
const PROGRAM: &str = r#"#!/bin/bash
name=${0##*/}
echo "$name $* forced=${HIRED_FORCE_ARCH:-} compiled=$CUDA_CACHE_PATH" >>"$CALLS"
case "$*" in
"devices --json")
    echo "{\"devices\":[{\"kind\":\"cpu\"},{\"kind\":\"cuda\",\"name\":\"Paper\",\"compute_capability\":$CAPABILITY}]}"
    exit ;;
esac
echo "output of $name"
case " $SLOW " in *" $name "*) sleep 60 ;; esac
case " $EMPTY " in *" $name "*) echo "running 0 tests" ;; esac
case " $SKIPPED " in *" $name "*) echo "skipped: no CUDA device" ;; esac
case " $FAILING " in *" $name "*) echo "the reason of $name"; exit 9 ;; esac
echo "f32 linear y 1 cases, worst 0.10 of 2.00 roundings"
"#;

const PROGRAMS: [&str; 6] = ["hired", "ops", "cuda", "half", "devices", "kernels"];

struct Pack {
    folder: TempDir,
}

/// How a run ended.
struct Ran {
    code: Option<i32>,
    told: String,
    errors: String,
    seconds: f32,
}

impl Pack {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pack = Self { folder };
        fs::create_dir_all(pack.at("pack/bin")).unwrap();
        for name in PROGRAMS {
            let file = pack.at("pack/bin").join(name);
            fs::write(&file, PROGRAM).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // One comes as a real pack has them.
        assert!(Command::new("xz").arg(pack.at("pack/bin/kernels")).status().unwrap().success());
        pack.commit("0123abc");
        pack
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn commit(&self, commit: &str) {
        fs::write(self.at("pack/commit"), format!("{commit}\n2026-11-30\nbinaries\n")).unwrap();
    }

    /// Runs with these options and variables.
    fn run(&self, options: &[&str], variables: &[(&str, &str)]) -> Ran {
        let start = Instant::now();
        let mut command = script();
        command.arg("--run").args([self.at("pack"), self.at("out")]);
        command.args(["--small", "--scratch"]).arg(self.folder.path()).args(options);
        for name in ["SLOW", "EMPTY", "SKIPPED", "FAILING"] {
            command.env(name, "");
        }
        command.env("CAPABILITY", "90").env("CALLS", self.at("calls"));
        // No sanitizer of this machine.
        command.env("PATH", format!("{}:/usr/bin:/bin", self.at("path").display()));
        let Output { status, stdout, stderr } =
            command.envs(variables.iter().copied()).output().expect("bash starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (told, errors) = (text(stdout), text(stderr));
        let seconds = start.elapsed().as_secs_f32();
        Ran { code: status.code(), told, errors, seconds }
    }

    fn report(&self) -> String {
        fs::read_to_string(self.at("out/report.md")).unwrap()
    }

    /// What the report's table says of a step.
    fn result(&self, step: &str) -> String {
        let report = self.report();
        let head = format!("| {step} | ");
        let line = report.lines().find(|line| line.starts_with(&head));
        let line = line.unwrap_or_else(|| panic!("no {step} in\n{report}"));
        line[head.len()..].split(" | ").next().unwrap().to_owned()
    }

    /// Calls of a program, whatever it was asked.
    fn calls(&self, start: &str) -> usize {
        let calls = fs::read_to_string(self.at("calls")).unwrap();
        calls.lines().filter(|line| line.starts_with(start)).count()
    }

    /// Names of all steps, in order.
    fn steps(&self, options: &[&str], capability: &str) -> Vec<String> {
        let options = [options, &["--list"]].concat();
        let ran = self.run(&options, &[("CAPABILITY", capability)]);
        assert_eq!(ran.code, Some(0), "{}", ran.errors);
        ran.told.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

fn script() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("bash");
    command.arg(root.join("tools/gpu-check"));
    command
}

#[test]
fn it_stops_at_its_deadline_and_takes_up_again() {
    let pack = Pack::new();
    let ran = pack.run(&["--seconds", "5"], &[("SLOW", "half")]);
    assert_eq!(ran.code, Some(3), "{}\n{}", ran.told, ran.errors);
    assert!(ran.seconds < 20.0, "{} s", ran.seconds);
    for done in ["facts", "modules", "whole"] {
        assert_eq!(pack.result(done), "ok", "{}", ran.told);
    }
    assert!(pack.result("half").starts_with("cut off after "), "{}", pack.result("half"));
    assert!(pack.report().contains("## the end of half"));
    let steps = pack.steps(&[], "90");
    let after = steps.iter().skip_while(|step| *step != "half").skip(1);
    for step in after {
        assert_eq!(pack.result(step), "waits");
    }
    assert!(pack.report().contains("# gpu-check: Paper\n\ncommit 0123abc of 2026-11-30"));

    let ran = pack.run(&[], &[]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.told, ran.errors);
    for step in &steps {
        let result = pack.result(step);
        assert!(result == "ok" || result.starts_with("skipped: "), "{step}: {result}");
    }
    assert!(pack.report().contains("worst 0.10 of 2.00 roundings"));
    // What was done was not done again, what was cut off was.
    assert_eq!((pack.calls("cuda "), pack.calls("half ")), (3, 4), "forced paths included");

    // A report of what is there takes neither card nor time.
    fs::remove_file(pack.at("out/report.md")).unwrap();
    let again = script().arg("--report").args([pack.at("pack"), pack.at("out")]).status().unwrap();
    assert!(again.success());
    assert_eq!(pack.result("half"), "ok");
}

#[test]
fn a_step_that_had_too_little_time_needs_more_than_that() {
    let pack = Pack::new();
    pack.run(&["--seconds", "6", "--only", "half,corpus"], &[("SLOW", "half")]);
    assert!(pack.result("half").starts_with("cut off"), "{}", pack.result("half"));
    // With as little again, what can end goes first.
    let ran = pack.run(&["--seconds", "5", "--only", "half,corpus"], &[("SLOW", "half")]);
    assert_eq!((ran.code, pack.result("corpus").as_str()), (Some(3), "ok"), "{}", ran.told);
}

#[test]
fn a_failure_is_loud_and_stays() {
    let pack = Pack::new();
    let some = ["--only", "whole,corpus,whole-61,whole-75"];
    let ran = pack.run(&some, &[("FAILING", "cuda")]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.errors.contains("gpu-check: FAILED: whole whole-61 whole-75"), "{}", ran.errors);
    assert_eq!(pack.result("whole"), "failed with 9");
    assert_eq!(pack.result("corpus"), "ok");
    let report = pack.report();
    assert!(report.contains("## the end of whole\n") && report.contains("the reason of cuda"));

    // It is a result, and not tried again unless that is asked for.
    assert_eq!(pack.run(&some, &[]).code, Some(1));
    assert_eq!(pack.calls("cuda "), 3);
    let ran = pack.run(&["--again", "--only", "whole,whole-61,whole-75"], &[]);
    assert_eq!((ran.code, pack.calls("cuda ")), (Some(0), 6), "{}", ran.errors);
    assert_eq!(pack.run(&some, &[]).code, Some(0));
}

#[test]
fn what_proves_nothing_has_failed() {
    let pack = Pack::new();
    let ran = pack.run(&["--only", "half,whole"], &[("EMPTY", "half"), ("SKIPPED", "cuda")]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(pack.result("half"), "failed: there is no such test");
    assert_eq!(pack.result("whole"), "failed: it was skipped");
}

#[test]
fn a_step_whose_own_limit_was_too_short_has_failed() {
    let pack = Pack::new();
    // Whose seconds are over at once.
    fs::create_dir(pack.at("path")).unwrap();
    let file = pack.at("path/timeout");
    fs::write(&file, "#!/bin/bash\nexit 124\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = pack.run(&["--seconds", "0", "--only", "half"], &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.told);
    assert_eq!(pack.result("half"), "stopped after 90 s, its limit");
    fs::remove_file(file).unwrap();
    assert_eq!(pack.run(&["--only", "half"], &[]).code, Some(1));
    assert_eq!(pack.calls("half "), 0);
}

#[test]
fn other_programs_and_other_cards_begin_anew() {
    let pack = Pack::new();
    let only = ["--only", "whole"];
    for (commit, capability, calls) in
        [("one", "90", 1), ("one", "90", 1), ("two", "90", 2), ("two", "75", 3)]
    {
        pack.commit(commit);
        let ran = pack.run(&only, &[("CAPABILITY", capability)]);
        assert_eq!((ran.code, pack.calls("cuda ")), (Some(0), calls), "{}", ran.errors);
    }
    assert!(pack.at("out/steps.old/whole.log").exists());
}

#[test]
fn the_plan_goes_by_the_card() {
    let pack = Pack::new();
    let hopper = pack.steps(&[], "90");
    let before = |a: &str, b: &str| {
        let at = |name: &str| hopper.iter().position(|step| step == name).expect(name);
        assert!(at(a) < at(b), "{a} after {b}");
    };
    let order = ["facts", "modules", "whole", "half", "corpus", "real-sizes", "kernels", "7b-own"];
    order.windows(2).for_each(|pair| before(pair[0], pair[1]));
    // Integers are compared before they are timed, and timed like all others.
    let order = ["real-sizes", "integers", "kernels", "kernels-q8", "kernels-q4", "7b-q8", "7b-q4"];
    order.windows(2).for_each(|pair| before(pair[0], pair[1]));
    let order = ["7b-own", "7b-cublas", "transformers", "corpus-61", "corpus-75", "memcheck"];
    order.windows(2).for_each(|pair| before(pair[0], pair[1]));
    let pascal = pack.steps(&["--card", "p40"], "61");
    assert!(!pascal.iter().any(|step| step.ends_with("-61")), "{pascal:?}");

    // Forced paths are forced, and compile once for all.
    let ran = pack.run(&["--only", "corpus,corpus-61,corpus-75"], &[]);
    assert_eq!(ran.code, Some(0));
    let calls = fs::read_to_string(pack.at("calls")).unwrap();
    let compiled = format!("compiled={}", pack.at("hired-gpu-check/compiled").display());
    for forced in ["", "61", "75"] {
        let call = calls.lines().find(|l| {
            l.starts_with("ops ")
                && l.contains(&format!(" forced={forced} "))
                && l.ends_with(&compiled)
        });
        assert!(call.is_some(), "no call forced to {forced:?}\n{calls}");
    }

    let ran =
        pack.run(&["--only", "integers,integers-61,kernels-q8,kernels-q4-75,7b-q8,7b-q4"], &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.errors);
    let calls = fs::read_to_string(pack.at("calls")).unwrap();
    let exact = "ops --exact the_card_multiplies_integers_at_real_sizes --nocapture forced=";
    for call in [
        &format!("{exact} "),
        &format!("{exact}61 "),
        "kernels --small --dtype q8 forced= ",
        "kernels --small --dtype q4 forced=75 ",
    ] {
        assert!(calls.lines().any(|line| line.starts_with(call)), "no {call} in\n{calls}");
    }
    for dtype in ["q8", "q4"] {
        let told = calls.lines().filter(|line| line.starts_with("hired bench"));
        let of = format!(" --dtype {dtype} ");
        assert_eq!(told.filter(|line| line.contains(&of)).count(), 1, "{dtype}\n{calls}");
    }
    assert!(pack.report().contains("## integers-61"), "its roundings are told");

    // A Pascal has no sanitizer and no end of its time.
    let ran = pack.run(&["--only", "memcheck,facts"], &[("CAPABILITY", "61")]);
    assert_eq!(ran.code, Some(0), "{}", ran.errors);
    assert!(pack.result("memcheck").starts_with("skipped: "));
    assert!(ran.told.contains("facts: running, at most 180 s"), "{}", ran.told);
}

#[test]
fn it_explains_itself_and_refuses_what_it_does_not_know() {
    let help = script().arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for word in ["--pack DIR", "--run DIR OUT", "--seconds N", "--card h200|p40", "--again"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    assert!(!text.contains("set -uo") && !text.contains("die()"));
    let pack = Pack::new();
    for (options, told) in [
        (&["--only", "everything"][..], "there is no step everything"),
        (&["--seconds", "soon"], "--seconds soon"),
        (&["--card", "voodoo"], "--card voodoo"),
        (&["--loud"], "unknown option --loud"),
    ] {
        let ran = pack.run(options, &[]);
        assert_eq!(ran.code, Some(2), "{options:?}");
        assert!(ran.errors.contains(told), "{}", ran.errors);
    }
    let ran = pack.run(&[], &[("CAPABILITY", "")]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.errors.contains("no CUDA device here"), "{}", ran.errors);
}

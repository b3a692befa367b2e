//! The number of threads that compute.

use super::Stop;
use super::output::note;

/// The variable that rayon reads.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// The largest number of threads: more than four per core only slow each other down, and thousands take minutes to
/// start.
pub fn most() -> usize {
    4 * std::thread::available_parallelism().map_or(1, usize::from)
}

/// Sets the number of threads, as requested or from the environment, within reasonable limits.
pub fn set(typed: Option<usize>) -> Result<(), Stop> {
    let wanted = || std::env::var(VARIABLE).ok()?.parse().ok().filter(|&number: &usize| number > 0);
    // Otherwise rayon starts one thread per core when it is first used.
    let Some(wanted) = typed.or_else(wanted) else { return Ok(()) };
    let number = wanted.min(most());
    if number < wanted {
        note(&format!(
            "{VARIABLE} asks for {wanted} threads, but only {number} are started: four per core"
        ));
    }
    rayon::ThreadPoolBuilder::new().num_threads(number).build_global().map_err(|error| {
        Stop::Failed(format!(
            "{number} threads could not be started ({error}): give fewer (--threads)"
        ))
    })
}

//! How many threads compute.

use super::Stop;
use super::output::note;

/// What rayon itself reads.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// Most threads that are started: more than four a core only get in each other's way, and thousands take minutes to
/// start.
pub fn most() -> usize {
    4 * std::thread::available_parallelism().map_or(1, usize::from)
}

/// Sets the number of threads: as typed, or as the environment says, if it is sensible.
pub fn set(typed: Option<usize>) -> Result<(), Stop> {
    let wanted = || std::env::var(VARIABLE).ok()?.parse().ok().filter(|&number: &usize| number > 0);
    // Otherwise rayon starts one for each core when the first work comes.
    let Some(wanted) = typed.or_else(wanted) else { return Ok(()) };
    let number = wanted.min(most());
    if number < wanted {
        note(&format!(
            "{VARIABLE} asks for {wanted} threads, {number} are started: four for each core"
        ));
    }
    rayon::ThreadPoolBuilder::new().num_threads(number).build_global().map_err(|error| {
        Stop::Failed(format!(
            "{number} threads could not be started ({error}): give fewer (--threads)"
        ))
    })
}

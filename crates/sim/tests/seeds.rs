//! The simulation in CI: the seeds of this commit, those that once found something, planted bugs.

use std::process::Command;

use racknest_sim::bug::Bug;
use racknest_sim::seeds;

/// How many seeds of its own a commit gets; `RACKNEST_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 500;

/// How many seeds are run at once; each is one thread's.
const THREADS: usize = 2;

/// Within how many seeds a planted bug must be caught.
const SEEDS_PER_BUG: u64 = 200;

/// The number in `RACKNEST_SIM_BASE`, else the hash of the commit that is checked out; 1 where there
/// is none.
fn base() -> u64 {
    if let Ok(asked) = std::env::var("RACKNEST_SIM_BASE") {
        return asked.parse().expect("RACKNEST_SIM_BASE is a number");
    }
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let head = head.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    head.and_then(|hash| seeds::base_of_commit(&hash)).unwrap_or(1)
}

fn count() -> u64 {
    std::env::var("RACKNEST_SIM_SEEDS").ok().and_then(|it| it.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn every_invariant_holds_in_the_seeds_of_this_base() {
    let (base, count) = (base(), count());
    println!("{count} seeds, base {base} (RACKNEST_SIM_BASE={base})");
    let check = |first| {
        for place in (first..count).step_by(THREADS) {
            if let Err(why) = seeds::check(seeds::nth(base, place)) {
                panic!("base {base}, place {place}\n{why}");
            }
        }
    };
    std::thread::scope(|scope| {
        (0_u64..).take(THREADS).for_each(|first| drop(scope.spawn(move || check(first))));
    });
}

#[test]
fn every_invariant_holds_in_the_seeds_that_once_found_something() {
    for seed in seeds::FOUND {
        if let Err(why) = seeds::check(*seed) {
            panic!("{why}");
        }
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let mut escaped = vec![];
    for bug in Bug::ALL {
        match seeds::first_to_catch(bug, 1, SEEDS_PER_BUG) {
            Some((seeds, invariant)) => println!("{bug:?}: {invariant}, in {seeds} seeds"),
            None => escaped.push(bug),
        }
    }
    assert_eq!(escaped, [], "not caught within {SEEDS_PER_BUG} seeds each");
}
